// The globals of Node.js that need no package, for applications that name them: see `node.mjs`.

import { provide, define } from '../shape.js';
import { process } from './process.js';
import { clearImmediate, setImmediate } from './timers.js';

define(globalThis, 'process', process);
provide('setImmediate', setImmediate);
provide('clearImmediate', clearImmediate);
