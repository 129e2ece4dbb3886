// `process` for @jspm/core, whose own waits with timers, and would need a request.

export { process as p } from './process.js';
