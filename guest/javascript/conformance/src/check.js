// A table of checks, run in the order in which they were added.

const checks = [];
let group = '';

// What the checks that follow are about.
export const about = (name) => {
  group = name;
};
export const check = (name, run) => checks.push({ group, name, run });

const isObject = (value) => typeof value === 'object' && value !== null;

// As Object.is, and in plain objects and arrays so for each part.
function isSame(found, expected) {
  if (!isObject(found) || !isObject(expected)) return Object.is(found, expected);
  if (found === expected) return true;
  const isPlain = (value) => Array.isArray(value) || [Object.prototype, null].includes(Object.getPrototypeOf(value));
  if (!isPlain(found) || !isPlain(expected) || Array.isArray(found) !== Array.isArray(expected)) return false;
  const [names, others] = [Object.keys(found), Object.keys(expected)];
  if (found.length !== expected.length || names.length !== others.length) return false;
  return names.every((name, index) => name === others[index] && isSame(found[name], expected[name]));
}

function show(value) {
  if (typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  if (!isObject(value) || Object.getPrototypeOf(value) !== Object.prototype) return Object.is(value, -0) ? '-0' : String(value);
  return `{${Object.keys(value).map((name) => ` ${name}: ${show(value[name])}`).join(',')} }`;
}

export function equal(found, expected) {
  if (!isSame(found, expected)) throw new Error(`${show(found)}, not ${show(expected)}`);
}

export const ok = (found) => equal(Boolean(found), true);

// Whether it throws, or rejects with, an error of this name.
export async function throws(name, run) {
  let value;
  try {
    value = await run();
  } catch (error) {
    equal(error?.name, name);
    return;
  }
  throw new Error(`no ${name}, but ${String(value)}`);
}

// What the host's log has to say after this: the test that asked for the checks looks for it there.
export function said(text, run) {
  run();
  return { said: text };
}

const CHECK_MS = 5000;

// What came of all of them, for a request that they may look at.
export async function runAll(context) {
  const results = [];
  for (const { group, name, run } of checks) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${CHECK_MS} ms`)), CHECK_MS);
    });
    try {
      const found = await Promise.race([run(context), late]);
      results.push({ group, name, pass: true, said: found?.said });
    } catch (error) {
      results.push({ group, name, pass: false, error: `${error?.name ?? 'thrown'}: ${error?.message ?? error}` });
    }
    clearTimeout(timer);
  }
  return results;
}
