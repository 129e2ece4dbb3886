// Which characters begin a name of JavaScript, and go on with it. The engine's regular expressions have no such classes, but it knows
// which names groups may have.

const isName = (text) => {
  try {
    return new RegExp(`(?<${text}>)`) !== null;
  } catch {
    return false;
  }
};

export const ID_Start = { test: isName };
export const ID_Continue = { test: (char) => isName(`a${char}`) };
