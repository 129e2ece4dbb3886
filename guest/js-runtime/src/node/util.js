// node:util of @jspm/core, and what it has not or has of an old version.

import assert from 'wasmhost:jspm/assert';
import util from 'wasmhost:jspm/util';

import { format, formatWithOptions, inspect } from './inspect.js';

export const { callbackify, debuglog, deprecate, inherits, isArray, log, promisify, types, TextDecoder, TextEncoder } = util;

export { format, formatWithOptions, inspect };

export function isDeepStrictEqual(a, b) {
  try {
    assert.deepStrictEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

const CONTROL = /[\u001b\u009b][[\]()#;?]*(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PR-TZcf-nq-uy=><~]/g;
export const stripVTControlCharacters = (text) => text.replace(CONTROL, '');
export const toUSVString = (text) => `${text}`.toWellFormed();

export default { ...util, format, formatWithOptions, inspect, isDeepStrictEqual, stripVTControlCharacters, toUSVString };
