// The values of the project's configuration, in the types that they have there.

import { vars as given } from 'wasmhost:bindings';

import { vars } from '../bindings.js';

Object.assign(vars, given);
