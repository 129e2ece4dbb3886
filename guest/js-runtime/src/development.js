// What is done in `wasmhost dev` only, which says so by a variable of the environment.

import { toldOf } from './errors.js';
import { lookAlways } from './rejections.js';
import { environment } from './wasi.js';

const VARIABLE = 'WASMHOST_DEVELOPMENT';
// The field of a response that tells the host of an error (host/serve/src/development/thrown.rs), and how long its parts may be.
const FIELD = 'wasmhost-error';
const TEXT_MAX = 2000;
const FRAMES_MAX = 30;

let development = false;

export const isDevelopment = () => development;

// The variables that were granted to the application.
export function environmentOf() {
  const { [VARIABLE]: given, ...env } = environment();
  development = given !== undefined;
  if (development) lookAlways();
  return env;
}

// The fields of the answer to a request whose handler has thrown this: in place of the answer the host shows what they tell.
export function fieldsOf(error) {
  if (!development) return {};
  const { what, frames } = toldOf(error);
  const short = (text) => text.slice(0, TEXT_MAX);
  const told = {
    what: short(what),
    frames: frames.slice(0, FRAMES_MAX).map((frame) => ({ ...frame, function: short(frame.function), file: short(frame.file) })),
  };
  // A field takes one character per byte.
  const escape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return { [FIELD]: JSON.stringify(told).replace(/[^\x20-\x7e]/g, escape) };
}
