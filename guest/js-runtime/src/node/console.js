// node:console.

export const { debug, error, info, log, warn } = console;
export default console;
