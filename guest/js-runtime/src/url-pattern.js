// URLPattern, in the bundles that name it (`url-pattern.mjs`).

import { URLPattern } from 'wasmhost:url-pattern';

import { provide, shape } from './shape.js';

shape(URLPattern, 'URLPattern');
provide('URLPattern', URLPattern);
