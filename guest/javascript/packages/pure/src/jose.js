import { CompactEncrypt, compactDecrypt, createLocalJWKSet, importJWK, importPKCS8, importSPKI, jwtVerify, SignJWT, UnsecuredJWT, errors } from 'jose';

const SECRET = new TextEncoder().encode('a secret that is long enough for HS256');
// RFC 8037, appendix A.
const EDWARDS = { kty: 'OKP', crv: 'Ed25519', d: 'nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' };

export async function jose() {
  const now = 1_700_000_000;
  const token = await new SignJWT({ user: 'Ä' })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuedAt(now)
    .setExpirationTime(now + 60)
    .setIssuer('test')
    .sign(SECRET);
  const { payload } = await jwtVerify(token, SECRET, { issuer: 'test', currentDate: new Date(now * 1000) });
  const failures = [];
  for (const [given, options] of [
    [token, { currentDate: new Date((now + 61) * 1000) }],
    [`${token.slice(0, -2)}AA`, { currentDate: new Date(now * 1000) }],
    [token, { issuer: 'other', currentDate: new Date(now * 1000) }],
  ]) {
    failures.push(await jwtVerify(given, SECRET, options).catch((error) => [error.code, error instanceof errors.JOSEError]));
  }
  const signed = await new SignJWT({ n: 1 }).setProtectedHeader({ alg: 'EdDSA', kid: 'k' }).sign(await importJWK(EDWARDS, 'EdDSA'));
  const { d: _, ...open } = EDWARDS;
  const set = createLocalJWKSet({ keys: [{ ...open, kid: 'k', alg: 'EdDSA' }] });
  const verified = await jwtVerify(signed, set);
  const key = await importPKCS8(PRIVATE, 'ES256');
  const curve = await new SignJWT({ n: 2 }).setProtectedHeader({ alg: 'ES256' }).sign(key);
  const spki = await importSPKI(PUBLIC, 'ES256');
  const encrypted = await new CompactEncrypt(new TextEncoder().encode('hidden')).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(new Uint8Array(32));
  const { plaintext } = await compactDecrypt(encrypted, new Uint8Array(32));
  return {
    token,
    payload,
    failures,
    signed,
    verified: verified.payload,
    curve: (await jwtVerify(curve, spki)).payload,
    plain: new TextDecoder().decode(plaintext),
    unsecured: new UnsecuredJWT({ a: 1 }).encode(),
  };
}

// For tests alone.
const PRIVATE = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzJNqvDA+hblyQ5tH
pmHJt5OLoQ+jR9XdN0Nrj6yCJPqhRANCAAQf4djk7GSi7cuOQ0cfsOp0gAdpIpny
8TLLvAzLqTvHdme4vRV1XJKn7peTh8ULm98QOKXzaHX8HcWqtewJDuqs
-----END PRIVATE KEY-----`;
const PUBLIC = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEH+HY5Oxkou3LjkNHH7DqdIAHaSKZ
8vEyy7wMy6k7x3ZnuL0VdVySp+6Xk4fFC5vfEDil82h1/B3FqrXsCQ7qrA==
-----END PUBLIC KEY-----`;
