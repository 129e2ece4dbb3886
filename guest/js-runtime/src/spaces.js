// White space as HTTP has it, at the ends of texts (Fetch, "HTTP whitespace"). A regular expression would try each run of it within
// a text, which takes quadratic time for what a client sends.

const isSpace = (code) => code === 32 || code === 9 || code === 10 || code === 13;

export function trimmedEnd(text) {
  let to = text.length;
  while (to > 0 && isSpace(text.charCodeAt(to - 1))) to -= 1;
  return text.slice(0, to);
}

export function trimmed(text) {
  let from = 0;
  while (isSpace(text.charCodeAt(from))) from += 1;
  return trimmedEnd(text.slice(from));
}
