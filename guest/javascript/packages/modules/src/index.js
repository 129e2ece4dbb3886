// One route for each module of Node.js. What it answers is compared with what Node.js answers for the same code.

import { answer } from '../../answer.js';
import { asserted, called, emitted, parsed, placed, queried, shown, streamed, timed, zipped } from './modules.js';
import { buffered, decoded } from './buffers.js';
import { crypto } from './crypto.js';
import { environment, others } from './environment.js';
import { stored } from './stored.js';

export default {
  fetch: answer({
    assert: asserted,
    async_hooks: stored,
    buffer: buffered,
    crypto,
    events: emitted,
    others,
    path: placed,
    process: environment,
    querystring: queried,
    require: called,
    stream: streamed,
    string_decoder: decoded,
    timers: timed,
    url: parsed,
    util: shown,
    zlib: zipped,
  }),
};
