// What an application finds in its `env` besides the host's variables: modules that `build.mjs` imports before the application's put
// it here. What the host says goes before `vars`, and `bound` before both.
export const vars = {};
export const bound = {};
