// Puts calls of `src/profile.js` into the functions of an application, for `wasmhost build --profile`. Text is inserted and nothing
// else changed, so that lines stay as they are. A function that waits is left while it does. Generators, and functions with
// `for await`, are not measured: what they do counts for the function that runs them.

const CALL = '__wasmhostCall';

const isNode = (value) => typeof value?.type === 'string';
const isFunction = (node) => /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type);

function* childrenOf(node) {
  for (const value of Object.values(node)) {
    if (Array.isArray(value)) yield* value.filter(isNode);
    else if (isNode(value)) yield value;
  }
}

// Within the function itself, not within those in it.
const hasForAwait = (node) =>
  (node.type === 'ForOfStatement' && node.await) || [...childrenOf(node)].some((child) => !isFunction(child) && hasForAwait(child));

// What a function is called by: its own name, or that of what it is assigned to.
function nameOf(node, parent, renamed) {
  const named = node.id ?? { VariableDeclarator: parent?.id, AssignmentExpression: parent?.left }[parent?.type] ?? parent?.key;
  const name = named?.type === 'MemberExpression' ? named.property : named;
  if (name === undefined) return '(anonymous)';
  return renamed.get(`${name.loc.start.line}:${name.loc.start.column}`) ?? name.name ?? name.value ?? '(anonymous)';
}

// The code with the calls, and name and place of each function that has some. `placeOf` gives the place of a line and a column, which
// count from 1; none where the function is not to be measured. `renamed` has original names by their places.
export function instrument(acorn, code, placeOf, renamed) {
  const functions = [];
  const inserted = [];
  const around = (begin, before, end, after, visit) => {
    inserted.push({ at: begin, text: before, isEnd: false });
    visit();
    inserted.push({ at: end, text: after, isEnd: true });
  };
  const visitFunction = (node, parent) => {
    for (const parameter of node.params) visit(parameter, node, false);
    const { line, column } = node.loc.start;
    const place = node.generator || hasForAwait(node.body) ? undefined : placeOf(line, column + 1);
    if (place === undefined) return visit(node.body, node, false);
    const { start, end } = node.body;
    const begin = `const ${CALL}=__wasmhostProfile.enter(${functions.length});try{`;
    const over = `}finally{__wasmhostProfile.leave(${CALL})}`;
    functions.push([String(nameOf(node, parent, renamed)), place]);
    if (node.body.type === 'BlockStatement') return around(start + 1, begin, end - 1, over, () => visit(node.body, node, true));
    return around(start, `{${begin}return (`, end, `);${over}}`, () => visit(node.body, node, true));
  };
  // `isMeasured`: what is within a function that has calls.
  function visit(node, parent, isMeasured) {
    if (isFunction(node)) {
      if (node.id) visit(node.id, node, false);
      visitFunction(node, parent);
    } else if (node.type === 'AwaitExpression' && isMeasured) {
      around(node.start, `__wasmhostProfile.resume(${CALL},`, node.end, ')', () => {
        const { start, end } = node.argument;
        around(start, `__wasmhostProfile.wait(${CALL},(`, end, '))', () => visit(node.argument, node, true));
      });
    } else {
      for (const child of childrenOf(node)) visit(child, node, isMeasured);
    }
  }
  visit(acorn.parse(code, { ecmaVersion: 'latest', sourceType: 'module', preserveParens: true, locations: true }), undefined, false);
  // At one point, what ends there comes first, and else what was first.
  inserted.sort((one, other) => one.at - other.at || other.isEnd - one.isEnd);
  let text = '';
  let from = 0;
  for (const one of inserted) {
    text += code.slice(from, one.at) + one.text;
    from = one.at;
  }
  return { code: text + code.slice(from), functions };
}
