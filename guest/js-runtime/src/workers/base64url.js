// Texts as others put them into URLs: a key may have any characters.

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function base64url(text) {
  let units = '';
  for (const byte of encoder.encode(text)) units += String.fromCharCode(byte);
  return btoa(units).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

// The text; undefined for what is none.
export function fromBase64url(given) {
  try {
    return decoder.decode(Uint8Array.from(atob(given.replace(/-/g, '+').replace(/_/g, '/')), (unit) => unit.charCodeAt(0)));
  } catch {
    return undefined;
  }
}
