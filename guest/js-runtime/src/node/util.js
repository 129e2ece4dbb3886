// node:util of @jspm/core, and what it has not.

import util from 'wasmhost:jspm/util';
import assert from 'wasmhost:jspm/assert';

export const { callbackify, debuglog, deprecate, format, inherits, inspect, isArray, log, promisify, types, TextDecoder, TextEncoder } = util;

export function isDeepStrictEqual(a, b) {
  try {
    assert.deepStrictEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

// eslint-disable-next-line no-control-regex
const CONTROL = /[\u001b\u009b][[\]()#;?]*(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PR-TZcf-nq-uy=><~]/g;
export const stripVTControlCharacters = (text) => text.replace(CONTROL, '');
export const toUSVString = (text) => `${text}`.toWellFormed();

export default { ...util, isDeepStrictEqual, stripVTControlCharacters, toUSVString };
