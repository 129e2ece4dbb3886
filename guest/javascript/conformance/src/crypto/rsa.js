// RSA: the key and the signature of RFC 7515, appendix A.2; what OpenSSL made with that key; and new keys.

import { about, check, equal, ok, throws } from '../check.js';
import { base64url, fromBase64url, hex, text } from './bytes.js';

const { subtle } = crypto;

about('crypto.subtle: RSA');

const PUBLIC = {
  kty: 'RSA',
  n: 'ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ',
  e: 'AQAB',
};
const PRIVATE = {
  ...PUBLIC,
  d: 'Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ',
  p: '4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc',
  q: 'uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc',
  dp: 'BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0',
  dq: 'h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU',
  qi: 'IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U',
};
const SIGNING_INPUT =
  'eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ';
const SIGNATURE =
  'cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw';

const of = (name, hash = 'SHA-256') => ({ name, hash });
const key = (jwk, name, usages, hash) => subtle.importKey('jwk', jwk, of(name, hash), true, usages);

check('RSASSA-PKCS1-v1_5: RFC 7515', async () => {
  const name = 'RSASSA-PKCS1-v1_5';
  const [publicKey, privateKey] = [await key(PUBLIC, name, ['verify']), await key(PRIVATE, name, ['sign'])];
  const { algorithm } = publicKey;
  equal([algorithm.name, algorithm.modulusLength, hex(algorithm.publicExponent), algorithm.hash], [name, 2048, '010001', { name: 'SHA-256' }]);
  ok(await subtle.verify(name, publicKey, fromBase64url(SIGNATURE), text(SIGNING_INPUT)));
  ok(!(await subtle.verify(name, publicKey, fromBase64url(SIGNATURE), text('another'))));
  ok(!(await subtle.verify(name, publicKey, fromBase64url(SIGNATURE).slice(1), text(SIGNING_INPUT))));
  // There is one signature only.
  equal(hex(await subtle.sign(name, privateKey, text(SIGNING_INPUT))), hex(fromBase64url(SIGNATURE)));
});
for (const hash of ['SHA-1', 'SHA-384', 'SHA-512']) {
  check(`RSASSA-PKCS1-v1_5 with ${hash}`, async () => {
    const name = 'RSASSA-PKCS1-v1_5';
    const signature = await subtle.sign(name, await key(PRIVATE, name, ['sign'], hash), text('x'));
    ok(await subtle.verify(name, await key(PUBLIC, name, ['verify'], hash), signature, text('x')));
    ok(!(await subtle.verify(name, await key(PUBLIC, name, ['verify'], 'SHA-256'), signature, text('x'))));
  });
}
check('RSA-PSS: what OpenSSL signed', async () => {
  const publicKey = await key(PUBLIC, 'RSA-PSS', ['verify']);
  const signature = fromBase64url('NkNKWLTHZXyy5YOTwUJHHko-p7H1uPTBMwTpRLf_OWBrlLic4CFqDK3Uyx1vJSifA7cMHv9K9c9oy2Gl4OMgbk1tmTIK1uFLeIf068Run669bE398GCYEFbrFkA-gBck1SnLunSiUeQCfQoLAINpyt44pLGxXhd9i2410VgFdBQ7PjwotRXuJYb8CWbXufFqOQXOcChbkfm4C0H-tXs20UDCu6cPcz0_4HTWKughojtlRl32wg-fp8YdRnwmw-n37WIOLzoAADCmy_o2P0Us_q7ICJKzDnHZFFIaFC0LHZKknjZsnYujeDSRGVbPkKkfUrszFLtuxkOUOB8tBfeqiA');
  ok(await subtle.verify({ name: 'RSA-PSS', saltLength: 32 }, publicKey, signature, text('sample')));
  ok(!(await subtle.verify({ name: 'RSA-PSS', saltLength: 20 }, publicKey, signature, text('sample'))));
  ok(!(await subtle.verify({ name: 'RSA-PSS', saltLength: 32 }, publicKey, signature, text('Sample'))));
});
check('RSA-PSS: sign and verify, with every hash and salts of two lengths', async () => {
  for (const hash of ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512']) {
    const publicKey = await key(PUBLIC, 'RSA-PSS', ['verify'], hash);
    const privateKey = await key(PRIVATE, 'RSA-PSS', ['sign'], hash);
    for (const saltLength of [0, 20]) {
      const how = { name: 'RSA-PSS', saltLength };
      const signature = await subtle.sign(how, privateKey, text('x'));
      ok(await subtle.verify(how, publicKey, signature, text('x')));
      // With a salt each is another.
      equal(hex(signature) === hex(await subtle.sign(how, privateKey, text('x'))), saltLength === 0);
    }
  }
});
check('RSA-PSS: a salt that is too long is an OperationError', async () => {
  const privateKey = await key(PRIVATE, 'RSA-PSS', ['sign']);
  for (const saltLength of [255, 257, 2 ** 32 - 1]) {
    await throws('OperationError', () => subtle.sign({ name: 'RSA-PSS', saltLength }, privateKey, text('x')));
  }
});
check('RSA-OAEP: what OpenSSL encrypted', async () => {
  const privateKey = await key(PRIVATE, 'RSA-OAEP', ['decrypt']);
  const sealed = fromBase64url('njafAwpYMgTE5ZgAFwGogx4zurS2_bfiCy2eFPDfZ5ttECg7nMzYQuACXX8vSYMX6fOSLkhoZK9C4B5XHStc7K5tUkwUyGRWNFUKPRCYAQ8FyfeIfwzKPMEXC-8oCKmcc9hKIz3qNsljNUXPBys9HurQupCuEN3uabyD3Gt8N6350Z67NCxijW3cpnaPn0YGLm6WxnXgmG1JMvLofb2uDcwxxTf3XsobqfLWFXN5hSXqYsx5tOo0taetdN8PPNNmkMULaSuBsK3MPEtX8-wjbPePdDgHUopFD9JmL5HCXzvPFl0q3rQw10-bwa3RTT04CPo5U_EnAPY44e3aeSDEBw');
  const how = { name: 'RSA-OAEP', label: text('label') };
  equal(new TextDecoder().decode(await subtle.decrypt(how, privateKey, sealed)), 'sample');
  await throws('OperationError', () => subtle.decrypt('RSA-OAEP', privateKey, sealed));
});
check('RSA-OAEP: there and back, with every hash and up to the longest text', async () => {
  for (const [hash, length] of [['SHA-1', 20], ['SHA-256', 32], ['SHA-384', 48], ['SHA-512', 64]]) {
    const publicKey = await key(PUBLIC, 'RSA-OAEP', ['encrypt'], hash);
    const privateKey = await key(PRIVATE, 'RSA-OAEP', ['decrypt'], hash);
    const longest = new Uint8Array(256 - 2 * length - 2).fill(7);
    const sealed = await subtle.encrypt('RSA-OAEP', publicKey, longest);
    equal(hex(await subtle.decrypt('RSA-OAEP', privateKey, sealed)), hex(longest));
    await throws('OperationError', () => subtle.encrypt('RSA-OAEP', publicKey, new Uint8Array(longest.length + 1)));
  }
});
check('RSA: keys are written and read in all formats', async () => {
  for (const [name, alg, privateUses, publicUses] of [
    ['RSASSA-PKCS1-v1_5', 'RS384', ['sign'], ['verify']],
    ['RSA-PSS', 'PS384', ['sign'], ['verify']],
    ['RSA-OAEP', 'RSA-OAEP-384', ['decrypt', 'unwrapKey'], ['encrypt', 'wrapKey']],
  ]) {
    const privateKey = await key({ ...PRIVATE, alg }, name, privateUses, 'SHA-384');
    const publicKey = await key({ ...PUBLIC, alg }, name, publicUses, 'SHA-384');
    const { kty, alg: named, key_ops, ext, ...numbers } = await subtle.exportKey('jwk', publicKey);
    equal([kty, named, key_ops, ext, numbers], ['RSA', alg, publicUses, true, { n: PUBLIC.n, e: PUBLIC.e }]);
    const { n, e, d, p, q, dp, dq, qi } = await subtle.exportKey('jwk', privateKey);
    equal({ kty: 'RSA', n, e, d, p, q, dp, dq, qi }, PRIVATE);
    const spki = await subtle.exportKey('spki', publicKey);
    const pkcs8 = await subtle.exportKey('pkcs8', privateKey);
    equal([hex(spki.slice(0, 24)), spki.byteLength], ['30820122300d06092a864886f70d01010105000382010f00', 294]);
    equal(hex(pkcs8.slice(0, 26)), '308204bd020100300d06092a864886f70d0101010500048204a7');
    const [one, other] = [
      await subtle.importKey('spki', spki, of(name), true, publicUses),
      await subtle.importKey('pkcs8', pkcs8, of(name), true, privateUses),
    ];
    equal([(await subtle.exportKey('jwk', one)).n, (await subtle.exportKey('jwk', other)).qi], [PUBLIC.n, PRIVATE.qi]);
  }
});
check('RSA: what is no key is a DataError', async () => {
  const name = 'RSA-PSS';
  const spki = await subtle.exportKey('spki', await key(PUBLIC, name, ['verify']));
  for (const [format, data, usages] of [
    ['spki', spki.slice(0, -1), ['verify']],
    ['pkcs8', spki, ['sign']],
    ['jwk', { ...PUBLIC, kty: 'EC' }, ['verify']],
    ['jwk', { ...PUBLIC, e: undefined }, ['verify']],
    ['jwk', { ...PUBLIC, n: '+' }, ['verify']],
    ['jwk', { ...PUBLIC, alg: 'RS256' }, ['verify']],
    ['jwk', { ...PUBLIC, use: 'enc' }, ['verify']],
    ['jwk', { ...PRIVATE, p: PRIVATE.q }, ['sign']],
    // Numbers that follow from the others, but not so.
    ['jwk', { ...PRIVATE, dp: PRIVATE.dq }, ['sign']],
    ['jwk', { ...PRIVATE, dq: PRIVATE.dp }, ['sign']],
    ['jwk', { ...PRIVATE, qi: 'Aw' }, ['sign']],
    // Of 1,016 and 8,200 bits, and an exponent of five bytes.
    ['jwk', { ...PUBLIC, n: base64url(new Uint8Array(127).fill(255)) }, ['verify']],
    ['jwk', { ...PUBLIC, n: base64url(new Uint8Array(1025).fill(255)) }, ['verify']],
    ['jwk', { ...PRIVATE, n: base64url(new Uint8Array(1025).fill(255)) }, ['sign']],
    ['jwk', { ...PUBLIC, e: 'AQAAAAE' }, ['verify']],
  ]) {
    await throws('DataError', () => subtle.importKey(format, data, of(name), true, usages));
  }
});
check('RSA: generate, and use the key', async () => {
  const how = { name: 'RSA-PSS', modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1), hash: 'SHA-256' };
  const { publicKey, privateKey } = await subtle.generateKey(how, false, ['sign', 'verify']);
  equal([publicKey.type, publicKey.extractable, publicKey.usages], ['public', true, ['verify']]);
  equal([privateKey.type, privateKey.extractable, privateKey.usages], ['private', false, ['sign']]);
  equal([publicKey.algorithm.modulusLength, hex(publicKey.algorithm.publicExponent)], [2048, '010001']);
  const signature = await subtle.sign({ name: 'RSA-PSS', saltLength: 32 }, privateKey, text('x'));
  ok(await subtle.verify({ name: 'RSA-PSS', saltLength: 32 }, publicKey, signature, text('x')));
});
check('RSA: an even exponent, or a key that is too short, is an OperationError', async () => {
  const how = { name: 'RSA-PSS', modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1), hash: 'SHA-256' };
  for (const publicExponent of [Uint8Array.of(1, 0, 0), Uint8Array.of(1), new Uint8Array(0)]) {
    await throws('OperationError', () => subtle.generateKey({ ...how, publicExponent }, false, ['sign']));
  }
  await throws('OperationError', () => subtle.generateKey({ ...how, modulusLength: 256 }, false, ['sign']));
  await throws('SyntaxError', () => subtle.generateKey(how, false, ['encrypt']));
});
