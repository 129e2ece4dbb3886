import { services } from 'wasmhost:bindings';

import { bound } from '../bindings.js';
import { Fetcher } from './services.js';

for (const [name, app] of Object.entries(services)) bound[name] = new Fetcher(app);
