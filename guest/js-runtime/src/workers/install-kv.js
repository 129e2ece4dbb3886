import { kv } from 'wasmhost:bindings';

import { bound } from '../bindings.js';
import { storeOf } from './entries.js';
import { KvNamespace } from './kv.js';

for (const [name, store] of Object.entries(kv)) bound[name] = new KvNamespace(storeOf(store));
