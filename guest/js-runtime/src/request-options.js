// What a request is made with besides URL, method, headers and body (Fetch, "RequestInit"). Most of it means something to
// browsers only; it is checked, and can be read again.

export const DEFAULTS = {
  cache: 'default',
  credentials: 'same-origin',
  destination: '',
  integrity: '',
  isHistoryNavigation: false,
  isReloadNavigation: false,
  keepalive: false,
  mode: 'cors',
  redirect: 'follow',
  referrer: 'about:client',
  referrerPolicy: '',
  duplex: 'half',
};

const VALUES = {
  cache: ['default', 'no-store', 'reload', 'no-cache', 'force-cache', 'only-if-cached'],
  credentials: ['omit', 'same-origin', 'include'],
  duplex: ['half'],
  mode: ['same-origin', 'no-cors', 'cors'],
  priority: ['high', 'low', 'auto'],
  redirect: ['follow', 'error', 'manual'],
  referrerPolicy: [
    '', 'no-referrer', 'no-referrer-when-downgrade', 'same-origin', 'origin', 'strict-origin', 'origin-when-cross-origin',
    'strict-origin-when-cross-origin', 'unsafe-url',
  ],
};

// There is no page that a request could come from.
function referrerOf(given) {
  if (given === '') return '';
  new URL(given);
  return 'about:client';
}

// The options of another request, with what is given besides.
export function optionsOf(others, given) {
  let options = others;
  const put = (name, value) => {
    if (options === others) options = { ...others };
    options[name] = value;
  };
  for (const [name, allowed] of Object.entries(VALUES)) {
    if (given[name] === undefined) continue;
    const value = `${given[name]}`;
    if (!allowed.includes(value)) throw new TypeError(`${name} is one of ${allowed.join(', ')}, not "${value}"`);
    if (name in DEFAULTS) put(name, value);
  }
  if (given.window !== undefined && given.window !== null) throw new TypeError('window is null');
  if (given.integrity !== undefined) put('integrity', `${given.integrity}`);
  if (given.keepalive !== undefined) put('keepalive', Boolean(given.keepalive));
  if (given.referrer !== undefined) put('referrer', referrerOf(`${given.referrer}`));
  if (options.cache === 'only-if-cached' && options.mode !== 'same-origin') {
    throw new TypeError('cache is "only-if-cached" with the mode "same-origin" only');
  }
  return options;
}
