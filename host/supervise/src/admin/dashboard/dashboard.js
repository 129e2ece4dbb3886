// The dashboard. Text of guests becomes text of the page by `textContent` alone, never HTML. With a token, requests carry it in
// `Authorization`, so streams are read with `fetch`: `EventSource` cannot send fields.
'use strict';

const HISTORY_MS = 15 * 60 * 1000;
const EVENTS_KEPT = 500;
const MARKS_MAX = 300;
const TOKEN = 'wasmhost-token';
const THEME = 'wasmhost-theme';
const KINDS = {
  fault: { title: 'Faults', events: ['fault'] },
  worker: { title: 'Workers', events: ['fork', 'online', 'listening', 'disconnect', 'exit', 'respawn', 'scale', 'retire'] },
  reload: { title: 'Reloads', events: ['reload', 'rollback', 'promote'] },
  app: { title: 'Apps', events: ['app'] },
  other: { title: 'Host', events: [] },
};

const $ = (id) => document.getElementById(id);

function element(name, attributes, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...content.map((part) => (part instanceof Node ? part : String(part))));
  return made;
}

// ---- figures ----

const PLAIN = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const count = (value) => (value >= 100 ? WHOLE : PLAIN).format(value);
const perSecond = (value) => `${count(value)}/s`;
const percent = (cores) => `${count(cores * 100)} %`;

function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${count(value)} ${units[unit]}`;
}

function seconds(value) {
  if (value === null || value === undefined) return '–';
  if (value < 0.001) return `${count(value * 1e6)} µs`;
  if (value < 1) return `${count(value * 1e3)} ms`;
  return `${count(value)} s`;
}

function age(total) {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = parts.findIndex(([size]) => total >= size);
  if (first < 0) return '0 s';
  const [size, name] = parts[first];
  const [next, nextName] = parts[first + 1] || [0, ''];
  const rest = next ? Math.floor((total % size) / next) : 0;
  return `${Math.floor(total / size)} ${name}${rest ? ` ${rest} ${nextName}` : ''}`;
}

// ---- theme ----

function isDark() {
  const chosen = localStorage.getItem(THEME);
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

function showTheme() {
  const chosen = localStorage.getItem(THEME) || 'auto';
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
  $('theme').textContent = `Theme: ${chosen}`;
  $('theme').setAttribute('aria-label', `Colours: ${chosen === 'auto' ? 'as the system' : chosen}. Press to change`);
}

$('theme').addEventListener('click', () => {
  const next = { auto: 'dark', dark: 'light', light: 'auto' }[localStorage.getItem(THEME) || 'auto'];
  if (next === 'auto') localStorage.removeItem(THEME); else localStorage.setItem(THEME, next);
  showTheme();
  showPlots();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { showTheme(); showPlots(); });
showTheme();

// ---- asking ----

class NeedsToken extends Error {}

async function ask(path, accept, signal) {
  const headers = { Accept: accept };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { headers, signal, cache: 'no-store' });
  if (answer.status === 401) throw new NeedsToken();
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the host answers ${answer.status}`);
  return answer;
}

// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), of which the host sends `id` and `data`.
async function* follow(path) {
  const answer = await ask(path, 'text/event-stream');
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6));
      if (data.length) yield JSON.parse(data.join('\n'));
    }
  }
}

const pause = (ms) => new Promise((over) => { setTimeout(over, ms); });

let asking = null;

// One question for the token, whoever needs it.
function askForToken() {
  if (asking) return asking;
  const had = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  $('login-wrong').hidden = !had;
  asking = new Promise((given) => {
    $('login').showModal();
    $('token').value = '';
    $('token').focus();
    $('login-form').onsubmit = (submitted) => {
      submitted.preventDefault();
      sessionStorage.setItem(TOKEN, $('token').value.trim());
      $('token').value = '';
      $('login').close();
      $('forget').hidden = false;
      asking = null;
      given();
    };
  });
  return asking;
}
$('login').addEventListener('cancel', (event) => event.preventDefault());
$('forget').addEventListener('click', () => { sessionStorage.removeItem(TOKEN); location.reload(); });
$('forget').hidden = sessionStorage.getItem(TOKEN) === null;

const failing = new Map();

function failed(what, error) {
  if (error) failing.set(what, error); else failing.delete(what);
  const [first] = failing.values();
  $('notice').hidden = !first;
  if (first) {
    $('notice').textContent = `The host does not answer (${first}). This page goes on asking; what it shows may be old.`;
    $('phase').textContent = 'no answer';
    $('phase').className = 'badge bad';
    $('ready').textContent = '';
  }
}

// Follows a stream for ever: a stream ends with its host, or after an hour.
async function keepFollowing(what, path, take) {
  let wait = 1000;
  for (;;) {
    try {
      for await (const message of follow(path())) {
        wait = 1000;
        failed(what, null);
        take(message);
      }
    } catch (error) {
      if (error instanceof NeedsToken) {
        await askForToken();
        continue;
      }
      failed(what, error.message);
    }
    await pause(wait);
    wait = Math.min(wait * 2, 15000);
  }
}

// ---- now ----

function cells(row, tag) {
  return element('tr', {}, ...row.map(({ text, kind }) => element(tag, kind ? { class: kind } : {}, text)));
}

function showTable(table, caption, head, rows) {
  const heads = element('tr', {}, ...head.map(({ text, kind }) => element('th', { scope: 'col', ...(kind ? { class: kind } : {}) }, text)));
  table.replaceChildren(element('caption', {}, caption), element('thead', {}, heads), element('tbody', {}, ...rows.map((row) => cells(row, 'td'))));
}

const figure = (text) => ({ text });
const word = (text, kind) => ({ text, kind: `text ${kind || ''}`.trim() });
const STATES = { listening: 'good', awake: 'good', down: 'bad', failed: 'bad', stopped: 'warn', loading: 'warn' };

function showSample(sample) {
  const { host } = sample;
  $('version').textContent = sample.version;
  $('phase').textContent = sample.phase;
  $('phase').className = `badge ${sample.phase === 'running' ? 'good' : 'warn'}`;
  $('ready').textContent = sample.ready ? 'ready' : 'not ready';
  $('ready').className = `badge ${sample.ready ? 'good' : 'bad'}`;
  $('uptime').textContent = `up ${age(sample.uptime_seconds)}`;
  document.title = `wasmhost ${perSecond(host.requests)}`;
  const tiles = [
    ['Requests', perSecond(host.requests)], ['Median', seconds(host.p50)], ['99th percentile', seconds(host.p99)],
    ['5xx', perSecond(host.errors)], ['Refused', perSecond(host.sheds)], ['In flight', count(host.in_flight)],
    ['Connections', count(host.connections)], ['Guest CPU', percent(host.cpu)], ['Memory', bytes(host.memory)],
  ];
  $('tiles').replaceChildren(...tiles.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))));
  const common = [figure('Requests'), figure('5xx'), figure('Guest CPU'), figure('Memory'), figure('In flight')];
  const figures = (row) => [perSecond(row.requests), perSecond(row.errors), percent(row.cpu), bytes(row.memory), count(row.in_flight)].map(figure);
  showTable($('workers'), `${sample.workers.length} workers`, [word('Worker'), word('State'), ...common, figure('Connections')],
    sample.workers.map((row) => [word(row.group ? `${row.worker} (${row.group})` : row.worker), word(row.state, STATES[row.state]), ...figures(row), figure(count(row.connections))]));
  showTable($('apps'), `${sample.apps_in_all} apps`, [word('App'), word('State'), ...common],
    sample.apps.map((row) => [word(row.name), word(row.state, STATES[row.state]), ...figures(row)]));
  const left = sample.apps_in_all - sample.apps.length;
  $('more-apps').hidden = left <= 0;
  $('more-apps').textContent = `${left} more apps, with fewer requests, are in /status.`;
  showPlots();
  placeMarks();
}

// ---- plots ----

// The server draws them; as images they run no script, whatever they have in them.
const shown = new Map();
let drawing = false;
let drawAgain = false;

async function showPlots() {
  if (drawing) { drawAgain = true; return; }
  drawing = true;
  try {
    const gap = 13;
    const columns = Math.max(1, Math.floor(($('plots').clientWidth + gap) / (26 * 16 + gap)));
    const width = Math.round(Math.min(1200, Math.max(260, $('plots').clientWidth / columns - 28)));
    const answer = await ask(`/dashboard/plots?theme=${isDark() ? 'dark' : 'light'}&width=${width}`, 'application/json');
    for (const plot of await answer.json()) showPlot(plot);
    failed('plots', null);
  } catch (error) {
    if (error instanceof NeedsToken) await askForToken(); else failed('plots', error.message);
  } finally {
    drawing = false;
    if (drawAgain) { drawAgain = false; showPlots(); }
  }
}

function showPlot(plot) {
  let place = shown.get(plot.name);
  if (!place) {
    const image = element('img', { alt: '' });
    const legend = element('ul', { class: 'legend' });
    place = { image, legend, url: null };
    shown.set(plot.name, place);
    $('plots').append(element('figure', { class: 'plot', id: `plot-${plot.name}` }, element('h3', {}, plot.title), image, legend));
  }
  const before = place.url;
  place.url = URL.createObjectURL(new Blob([plot.svg], { type: 'image/svg+xml' }));
  place.image.onload = () => { if (before) URL.revokeObjectURL(before); };
  place.image.src = place.url;
  place.image.alt = `${plot.title}: ${plot.legend.map((entry) => `${entry.name} ${entry.now}`).join(', ') || 'nothing yet'}`;
  place.legend.replaceChildren(...plot.legend.map((entry) => {
    const swatch = element('b', {});
    swatch.style.backgroundColor = entry.color;
    return element('li', {}, swatch, `${entry.name} ${entry.now}`);
  }));
}

let resized = 0;
addEventListener('resize', () => { clearTimeout(resized); resized = setTimeout(showPlots, 300); });

// ---- events ----

let events = [];
let lastId = 0;
let opened = null;
const hidden = new Set();

const kindOf = (event) => Object.keys(KINDS).find((kind) => KINDS[kind].events.includes(event.event)) || 'other';

function summary(event) {
  const of = [];
  if (event.worker !== undefined) of.push(`worker ${event.worker}`);
  if (event.group !== undefined) of.push(`group ${event.group}`);
  if (event.app !== undefined) of.push(event.app);
  for (const name of ['fault', 'state', 'phase', 'cause', 'reason', 'error', 'detail']) if (event[name] !== undefined) of.push(String(event[name]).split('\n')[0]);
  if (event.names) of.push(event.names.join(', '));
  return of.join(' · ');
}

const timeOf = (event) => new Date(event.time);

function takeEvent(event) {
  // Numbers grow from one host to the next; these are of a host whose clock was set back.
  if (event.id <= lastId) { events = []; $('events').replaceChildren(); $('strip').replaceChildren(); }
  lastId = event.id;
  const kind = kindOf(event);
  const item = element('li', {}, element('button', { type: 'button' },
    element('span', { class: `swatch lane-${kind}`, 'aria-hidden': 'true' }),
    element('time', { datetime: event.time }, timeOf(event).toLocaleTimeString()),
    element('strong', {}, event.event), element('span', { class: 'what' }, summary(event))));
  const mark = element('button', { type: 'button', class: `lane-${kind}`, title: `${timeOf(event).toLocaleTimeString()} ${event.event} ${summary(event)}`, tabindex: '-1' });
  mark.setAttribute('aria-label', mark.title);
  const row = { event, kind, item, mark };
  for (const button of [item.firstChild, mark]) button.addEventListener('click', () => open(row));
  events.push(row);
  item.hidden = hidden.has(kind);
  $('events').prepend(item);
  $('strip').append(mark);
  if (events.length > EVENTS_KEPT) {
    const { item: oldest, mark: itsMark } = events.shift();
    oldest.remove();
    itsMark.remove();
  }
  scheduleMarks();
}

let marksDue = false;
function scheduleMarks() {
  if (marksDue) return;
  marksDue = true;
  requestAnimationFrame(() => { marksDue = false; placeMarks(); });
}

function placeMarks() {
  const now = Date.now();
  const first = Math.max(0, events.length - MARKS_MAX);
  let last = null;
  events.forEach((row, number) => {
    const left = 100 * (1 - (now - timeOf(row.event)) / HISTORY_MS);
    if (left < 0 || number < first) { row.mark.remove(); return; }
    row.mark.style.left = `${Math.min(left, 99.5)}%`;
    row.mark.hidden = hidden.has(row.kind);
    row.mark.tabIndex = -1;
    if (!row.mark.hidden) last = row.mark;
  });
  // One stop of the tab key; arrows go on from there.
  const focused = events.find((row) => row.mark === document.activeElement);
  if (focused) focused.mark.tabIndex = 0; else if (last) last.tabIndex = 0;
  $('no-events').hidden = events.some((row) => !hidden.has(row.kind));
}

const visible = () => events.filter((row) => !hidden.has(row.kind));

$('strip').addEventListener('keydown', (pressed) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[pressed.key];
  const marks = visible().map((row) => row.mark).filter((mark) => mark.isConnected);
  const at = marks.indexOf(document.activeElement);
  if (!step || at < 0 || !marks[at + step]) return;
  pressed.preventDefault();
  marks[at].tabIndex = -1;
  marks[at + step].tabIndex = 0;
  marks[at + step].focus();
});

function open(row) {
  opened = row;
  const { event } = row;
  $('details-title').textContent = `${event.event}, ${timeOf(event).toLocaleString()}`;
  const text = [event.detail, event.error].filter((part) => part !== undefined).join('\n\n');
  const fields = Object.entries(event).filter(([name]) => !['event', 'detail', 'error'].includes(name));
  $('details-fields').replaceChildren(...fields.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, Array.isArray(value) ? value.join(', ') : value)]));
  $('details-text').textContent = text;
  const all = visible();
  $('older').disabled = all.indexOf(row) <= 0;
  $('newer').disabled = all.indexOf(row) >= all.length - 1;
  if (!$('details').open) $('details').showModal();
  showLog(row);
}

// A line of the log, without the time that stands beside it; one of JSON as words.
function lineText(text) {
  try {
    const { timestamp, level, message, target, ...fields } = JSON.parse(text);
    const words = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
    return [level, message, ...words].join(' ');
  } catch {
    return text.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z\s+/, '');
  }
}

const LINE_TIME = { hourCycle: 'h23', hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 };

function logLine({ time, text }) {
  const words = lineText(text);
  const level = { WARN: 'warn', ERROR: 'bad' }[words.split(' ')[0]];
  return element('li', level ? { class: level } : {}, element('time', { datetime: time }, new Date(time).toLocaleTimeString('en', LINE_TIME)), ' ', words);
}

// The line that was written last before the event is seen first.
function seeLine(lines, event) {
  const list = $('details-lines');
  const before = lines.filter((line) => new Date(line.time) <= timeOf(event)).length;
  const line = list.children[Math.max(0, before - 1)];
  if (!line) return;
  line.setAttribute('aria-current', 'true');
  list.scrollTop = line.offsetTop - list.offsetTop - (list.clientHeight - line.offsetHeight) / 2;
}

function showTold({ trace, lines }, words) {
  $('details-trace').textContent = trace || '';
  $('details-trace-title').hidden = !trace;
  $('details-lines').replaceChildren(...lines.map(logLine));
  $('details-told').textContent = words;
}

// What the host has in memory of its log from then, and the stack of a guest that faulted.
async function showLog(row) {
  showTold({ lines: [] }, 'The host is asked for it.');
  try {
    const told = await (await ask(`/events/${row.event.id}`, 'application/json')).json();
    if (opened !== row) return;
    showTold(told, told.lines.length ? 'From a minute before to ten seconds after, without other workers and apps.' : 'The host has none of its lines in memory any more; `wasmhost logs` shows where they went.');
    seeLine(told.lines, row.event);
  } catch (error) {
    if (opened !== row) return;
    if (error instanceof NeedsToken) {
      await askForToken();
      showLog(row);
    } else {
      showTold({ lines: [] }, `The host tells nothing: ${error.message}`);
    }
  }
}

function step(by) {
  const all = visible();
  const next = all[all.indexOf(opened) + by];
  if (next) open(next);
}
$('older').addEventListener('click', () => step(-1));
$('newer').addEventListener('click', () => step(1));
$('close').addEventListener('click', () => $('details').close());
$('details').addEventListener('keydown', (pressed) => { if (!['PRE', 'OL'].includes(pressed.target.tagName)) step({ ArrowLeft: -1, ArrowRight: 1 }[pressed.key] || 0); });

for (const [kind, { title }] of Object.entries(KINDS)) {
  const box = element('input', { type: 'checkbox', id: `show-${kind}` });
  box.checked = true;
  box.addEventListener('change', () => {
    if (box.checked) hidden.delete(kind); else hidden.add(kind);
    for (const row of events) row.item.hidden = hidden.has(row.kind);
    placeMarks();
  });
  $('filters').append(element('label', {}, box, ' ', element('span', { class: `swatch lane-${kind}`, 'aria-hidden': 'true' }), ` ${title}`));
}

keepFollowing('now', () => '/dashboard/live', showSample);
keepFollowing('events', () => `/events?after=${lastId}`, takeEvent);
