import { applyPatches, enablePatches, produce, produceWithPatches } from 'immer';
import { chunk, cloneDeep, deburr, groupBy, kebabCase, merge, orderBy, template } from 'lodash-es';
import { combineLatest, from, interval, lastValueFrom, map, mergeMap, of, take, toArray } from 'rxjs';
import superjson from 'superjson';

export function lodash() {
  const people = [{ name: 'b', age: 2 }, { name: 'a', age: 2 }, { name: 'c', age: 1 }];
  const nested = { a: { b: [1, { c: new Date(0) }] } };
  return {
    ordered: orderBy(people, ['age', 'name'], ['desc', 'asc']),
    grouped: groupBy(people, 'age'),
    chunks: chunk([1, 2, 3, 4, 5], 2),
    kebab: kebabCase('fooBar Baz_quux'),
    plain: deburr('déjà vu, Łódź'),
    cloned: cloneDeep(nested).a.b[1].c.getTime() === 0 && cloneDeep(nested).a !== nested.a,
    merged: merge({ a: { b: 1 } }, { a: { c: [1] } }),
    text: template('Hello <%- user %>!<% if (n > 1) { %> <%= n %><% } %>')({ user: '<Ada>', n: 2 }),
  };
}

export async function observed() {
  const squares = from([1, 2, 3]).pipe(mergeMap((x) => of(x, x * x)), toArray());
  const ticks = interval(5).pipe(take(3), map((x) => x * 10), toArray());
  return lastValueFrom(combineLatest([squares, ticks]));
}

enablePatches();

export function produced() {
  const base = { list: [{ done: false }], map: new Map([['a', 1]]).size };
  const [next, patches, inverse] = produceWithPatches(base, (draft) => {
    draft.list[0].done = true;
    draft.list.push({ done: false });
  });
  const frozen = Object.isFrozen(produce(base, (draft) => void (draft.map = 2)));
  return { base, next, patches, undone: applyPatches(next, inverse), frozen };
}

export function serialized() {
  const value = { at: new Date(0), set: new Set([1, 'a']), map: new Map([[{ a: 1 }, 2n]]), none: undefined, pattern: /a+/gi, nan: NaN };
  const text = superjson.stringify(value);
  const again = superjson.parse(text);
  return { text, kinds: [again.at instanceof Date, again.set.has('a'), [...again.map.values()][0] === 2n, again.pattern.flags, 'none' in again] };
}
