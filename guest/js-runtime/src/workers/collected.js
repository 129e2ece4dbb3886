// All bytes of a stream, or null where they are more than `most`: it is left then.
export async function collected(stream, most) {
  const reader = stream.getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!(value instanceof Uint8Array)) {
      const error = new TypeError('a stream of bytes is made of Uint8Arrays');
      reader.cancel(error).catch(() => {});
      throw error;
    }
    length += value.length;
    if (length > most) {
      // Nobody waits for it: of two branches of a stream, one is given up only with the other.
      reader.cancel().catch(() => {});
      return null;
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
