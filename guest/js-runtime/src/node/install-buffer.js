// The global `Buffer`, for applications that name it and have the package: see `node.mjs`.

import { define } from '../shape.js';
import { Buffer } from './buffer.js';

define(globalThis, 'Buffer', Buffer);
