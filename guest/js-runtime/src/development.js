// What is done in `wasmhost dev` only, which says so by a variable of the environment.

import { lookAlways } from './rejections.js';
import { environment } from './wasi.js';

const VARIABLE = 'WASMHOST_DEVELOPMENT';

let development = false;

export const isDevelopment = () => development;

// The variables that were granted to the application.
export function environmentOf() {
  const { [VARIABLE]: given, ...env } = environment();
  development = given !== undefined;
  if (development) lookAlways();
  return env;
}
