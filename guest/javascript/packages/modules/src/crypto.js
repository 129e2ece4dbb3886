import all, {
  createHash,
  createHmac,
  createSign,
  hkdfSync,
  pbkdf2,
  pbkdf2Sync,
  randomBytes,
  randomInt,
  randomUUID,
  scryptSync,
  timingSafeEqual,
  webcrypto,
} from 'node:crypto';
import { promisify } from 'node:util';

// Where there is no native part.
const early = createHash('sha256').update('at the top level').digest('hex');

export async function crypto() {
  const names = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'SHA512', 'sha512-256', 'ripemd160', 'RSA-SHA256'];
  const partial = createHash('sha256').update('a');
  const copy = partial.copy().update('b').digest('hex');
  return {
    early,
    hashes: names.map((name) => createHash(name).update('héllo').update(Buffer.from([0, 255])).digest('hex')),
    encodings: [partial.update('ü', 'latin1').digest('base64url'), copy, createHash('sha1').digest().length],
    macs: ['md5', 'sha256', 'sha512'].map((name) => createHmac(name, 'key').update('data').digest('base64')),
    long: createHmac('sha256', 'k'.repeat(200)).update('x'.repeat(10_000)).digest('hex'),
    equal: [timingSafeEqual(Buffer.from('ab'), Buffer.from('ab')), timingSafeEqual(Buffer.from('ab'), Buffer.from('ac'))],
    refused: [
      failure(() => timingSafeEqual(Buffer.from('a'), Buffer.from('ab'))),
      failure(() => createHash('none')),
      failure(() => createHash('md5').update(1)),
      failure(() => partial.update('again')),
    ],
    pbkdf2: [pbkdf2Sync('password', 'salt', 1000, 32, 'sha256').toString('hex'), (await promisify(pbkdf2)('password', 'salt', 2, 20, 'sha1')).toString('hex')],
    hkdf: Buffer.from(hkdfSync('sha256', 'key', 'salt', 'info', 42)).toString('hex'),
    scrypt: scryptSync('password', 'salt', 32, { N: 16, r: 8, p: 1 }).toString('hex'),
    random: [randomBytes(70_000).length, randomBytes(8).equals(randomBytes(8)), [0, 1, 2].includes(randomInt(3)), randomInt(5, 6), /^[\da-f-]{36}$/.test(randomUUID())],
    called: await new Promise((resolve) => randomBytes(3, (error, bytes) => resolve([error, bytes.length]))),
    same: [all.createHash === createHash, webcrypto.subtle === globalThis.crypto.subtle, typeof createSign],
  };
}

function failure(run) {
  try {
    run();
    return null;
  } catch (error) {
    return [error.constructor.name, error.code ?? null];
  }
}
