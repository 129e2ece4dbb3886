// The packages that the build takes from the node_modules of the present folder, or of one above it: where they are, and the
// command that installs them.

import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

// The project's package manager, and how it adds packages, for the application and for its build.
const MANAGERS = {
  npm: ['install', '--save-dev --save-exact'],
  pnpm: ['add', '--save-dev --save-exact'],
  yarn: ['add', '--dev --exact'],
  bun: ['add', '--dev --exact'],
};
let manager = 'npm';
export const useManager = (name) => {
  manager = name;
};

export const installAll = () => `${manager} install`;

// For names, of packages that the application imports.
export const addPackages = (names) => [manager, MANAGERS[manager][0], ...names].join(' ');

// For packages, { name, version }, that the build or the runtime needs, in these versions if they say one.
export const addTools = (wanted) => {
  const [add, flags] = MANAGERS[manager];
  const names = wanted.map(({ name, version }) => (version === undefined ? name : `${name}@${version}`));
  return [manager, add, flags, ...names].join(' ');
};

// The present folder, and those above it.
function* foldersUp() {
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    yield folder;
    if (folder === dirname(folder)) return;
  }
}

// The package.json of a folder; undefined if there is none that can be read.
function described(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  } catch {
    return undefined;
  }
}

// Whether a package.json here or above names a package.
export const isNamed = ({ name }) =>
  [...foldersUp()].some((folder) => {
    const { dependencies, devDependencies } = described(folder) ?? {};
    return dependencies?.[name] !== undefined || devDependencies?.[name] !== undefined;
  });

// The folder of an installed package, or what is wrong with it, behind "needs". With `isAny`, another version does as well.
export function find({ name, version, isAny }) {
  const wanted = version === undefined ? name : `${name} ${version}`;
  for (const above of foldersUp()) {
    const folder = join(above, 'node_modules', name);
    const found = described(folder)?.version;
    if (found === undefined) continue;
    const isOther = version !== undefined && found !== version && !isAny;
    if (isOther) return { lacks: `the package ${wanted}, and ${found} is installed`, isOther };
    // Package managers link to where they keep it.
    return { folder: realpathSync(folder) };
  }
  return { lacks: `the package ${wanted}, which is not installed here`, isOther: false };
}
