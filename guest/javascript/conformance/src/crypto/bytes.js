// Bytes as the standards print them.

export const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
export const text = (characters) => new TextEncoder().encode(characters);

// Of hexadecimal digits, which may have spaces between them.
export function bytes(digits) {
  const plain = digits.replace(/\s/g, '');
  return Uint8Array.from({ length: plain.length / 2 }, (_, index) => parseInt(plain.slice(index * 2, index * 2 + 2), 16));
}

// So many bytes that count up.
export const counting = (length, first = 0) => Uint8Array.from({ length }, (_, index) => first + index);

export function base64url(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}
export const fromBase64url = (characters) =>
  Uint8Array.from(atob(characters.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
