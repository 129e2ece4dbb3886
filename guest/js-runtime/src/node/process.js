// node:process, as far as an application without a process of its own can have it. `version` and `versions` name no Node.js:
// packages that look for it would take the paths that need its files and sockets.

import { vars } from '../bindings.js';
import { isActive, whenOver } from '../loop.js';
import { environment } from '../wasi.js';

// The values of the project's configuration, what was granted, which is known once there is a request, and what the application has
// put there.
function makeEnv() {
  const values = { NODE_ENV: 'production' };
  let isRead = false;
  const known = () => {
    if (!isRead && isActive()) {
      isRead = true;
      for (const [name, value] of Object.entries(vars)) values[name] = typeof value === 'string' ? value : JSON.stringify(value);
      Object.assign(values, environment());
    }
    return values;
  };
  return new Proxy(values, {
    get: (_, name) => known()[name],
    set: (_, name, value) => Reflect.set(known(), name, `${value}`),
    has: (_, name) => name in known(),
    deleteProperty: (_, name) => delete known()[name],
    ownKeys: () => Reflect.ownKeys(known()),
    getOwnPropertyDescriptor: (_, name) => Reflect.getOwnPropertyDescriptor(known(), name),
  });
}

// A stream to the log, a line a record. A line without an end is over with its request.
function stream(print) {
  let rest = '';
  const finish = () => {
    if (rest !== '') print(rest);
    rest = '';
  };
  return {
    isTTY: false,
    write(chunk) {
      const lines = `${rest}${typeof chunk === 'string' ? chunk : new TextDecoder().decode(chunk)}`.split('\n');
      rest = lines.pop();
      if (rest !== '') whenOver(finish);
      for (const line of lines) print(line);
      return true;
    },
  };
}

function hrtime(since = [0, 0]) {
  const now = BigInt(Math.round(performance.now() * 1e6)) - BigInt(since[0]) * 1_000_000_000n - BigInt(since[1]);
  return [Number(now / 1_000_000_000n), Number(now % 1_000_000_000n)];
}
hrtime.bigint = () => BigInt(Math.round(performance.now() * 1e6));

function makeProcess() {
  const process = {
    title: 'wasmhost',
    arch: 'wasm32',
    platform: 'linux',
    version: '',
    versions: {},
    pid: 1,
    argv: [],
    execArgv: [],
    env: makeEnv(),
    stdout: stream((line) => console.log(line)),
    stderr: stream((line) => console.error(line)),
    cwd: () => '/',
    hrtime,
    uptime: () => performance.now() / 1000,
    // Node.js runs these before the microtasks that wait already; here they are among them.
    nextTick(run, ...args) {
      queueMicrotask(() => run(...args));
    },
    emitWarning(warning) {
      console.warn(warning);
    },
    exit() {
      throw new Error('process.exit: an application cannot end its instance');
    },
    emit: () => false,
    listeners: () => [],
    listenerCount: () => 0,
  };
  // A process hears of no signal, and does not end.
  for (const name of [
    'addListener',
    'off',
    'on',
    'once',
    'prependListener',
    'removeAllListeners',
    'removeListener',
    'setMaxListeners',
  ]) {
    process[name] = () => process;
  }
  return process;
}

export const process = makeProcess();
export default process;
export const {
  arch,
  argv,
  cwd,
  emitWarning,
  env,
  execArgv,
  exit,
  nextTick,
  pid,
  platform,
  stderr,
  stdout,
  title,
  uptime,
  version,
  versions,
} = process;
export { hrtime };
