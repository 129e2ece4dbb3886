// Puts `caches` among the globals. `build.mjs` imports this before all modules of an application that names it.

import { received } from '../response.js';
import { define, provide } from '../shape.js';
import { Cache, CacheStorage, STORE } from './cache.js';
import { storeOf } from './entries.js';

const made = (parts) => received({ ...parts, url: '', redirected: false });

provide('Cache', Cache);
provide('CacheStorage', CacheStorage);
define(globalThis, 'caches', new CacheStorage(storeOf(STORE), made));
