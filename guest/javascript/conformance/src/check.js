// A table of checks, run in the order in which they were added.

const checks = [];
let group = '';

// What the checks that follow are about.
export const about = (name) => {
  group = name;
};
export const check = (name, run) => checks.push({ group, name, run });

export function equal(found, expected) {
  const show = (value) => (typeof value === 'string' ? JSON.stringify(value) : String(value));
  const same = Object.is(found, expected) || JSON.stringify(found) === JSON.stringify(expected);
  if (!same || typeof found !== typeof expected) {
    const text = (value) => (typeof value === 'object' && value !== null ? JSON.stringify(value) : show(value));
    throw new Error(`${text(found)}, not ${text(expected)}`);
  }
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
