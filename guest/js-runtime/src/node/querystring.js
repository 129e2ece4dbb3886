// node:querystring.

export const escape = (text) => encodeURIComponent(text);

// What is no right encoding stays as it is: clients send such.
export function unescape(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text.replace(/(%[\da-f]{2})+/gi, (run) =>
      new TextDecoder().decode(Uint8Array.from(run.slice(1).split('%'), (byte) => parseInt(byte, 16))),
    );
  }
}

export function parse(text, separator = '&', equals = '=', { decodeURIComponent: decoded = unescape, maxKeys = 1000 } = {}) {
  const values = Object.create(null);
  if (typeof text !== 'string' || text === '') return values;
  const pairs = text.split(separator || '&').filter((pair) => pair !== '');
  for (const pair of maxKeys > 0 ? pairs.slice(0, maxKeys) : pairs) {
    const at = pair.indexOf(equals || '=');
    const end = at < 0 ? pair.length : at;
    const [name, value] = [pair.slice(0, end), pair.slice(end + (equals || '=').length)].map((part) =>
      decoded(part.replaceAll('+', ' ')),
    );
    if (!(name in values)) values[name] = value;
    else if (Array.isArray(values[name])) values[name].push(value);
    else values[name] = [values[name], value];
  }
  return values;
}

function shown(value) {
  if (typeof value === 'number') return Number.isFinite(value) ? `${value}` : '';
  return ['string', 'bigint', 'boolean'].includes(typeof value) ? `${value}` : '';
}

export function stringify(values, separator = '&', equals = '=', { encodeURIComponent: encoded = escape } = {}) {
  if (typeof values !== 'object' || values === null) return '';
  const pairs = Object.entries(values).flatMap(([name, value]) =>
    [value].flat().map((one) => `${encoded(name)}${equals || '='}${encoded(shown(one))}`),
  );
  return pairs.join(separator || '&');
}

export const decode = parse;
export const encode = stringify;

export default { parse, stringify, decode, encode, escape, unescape };
