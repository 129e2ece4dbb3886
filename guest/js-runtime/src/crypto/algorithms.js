// The algorithms by their names, and which operations each has (Web Cryptography API, section 18.4).

import { dictionary, error, text } from './convert.js';
import { bare } from '../own.js';

// By name in upper case: { name, operations: { encrypt: { members, run }, … } }.
const algorithms = { __proto__: null };

// `operations`: functions of what was normalized; where an operation takes members, a pair of them and the function.
export function define(name, operations) {
  const made = { __proto__: null };
  for (const [operation, given] of Object.entries(operations)) {
    const [members, run] = Array.isArray(given) ? given : [{}, given];
    made[operation] = bare({ members, run });
  }
  algorithms[name.toUpperCase()] = bare({ name, operations: made });
}

export const has = (name, operation) => algorithms[name.toUpperCase()]?.operations[operation] !== undefined;

// Section "Normalizing an algorithm": the members, the name as the standard writes it, and the function `run`.
export function normalize(operation, algorithm) {
  const isObject = (typeof algorithm === 'object' && algorithm !== null) || typeof algorithm === 'function';
  const given = isObject ? algorithm : { name: `${algorithm}` };
  const { name: named } = dictionary(given, { name: text }, 'the algorithm');
  const found = algorithms[named.toUpperCase()];
  const supported = found?.operations[operation];
  if (supported === undefined) throw error('NotSupportedError', `${named} has no ${operation} here`);
  const { members, run } = supported;
  return { __proto__: null, ...dictionary(given, members, found.name), name: found.name, run };
}

// A member that names a hash.
export const hash = (value) => normalize('digest', value).name;
