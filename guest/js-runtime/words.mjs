// Whether a bundle has a word, which tells what it needs: such words stand nowhere in the runtime that comes with every application.
export const has = (code, word) => new RegExp(`(?<![-\\w])(?:${word})(?![-\\w])`).test(code);
