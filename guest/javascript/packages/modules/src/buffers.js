import { Buffer as Imported, isUtf8 } from 'node:buffer';
import { StringDecoder } from 'node:string_decoder';

export function buffered() {
  const bytes = Buffer.from('héllo€😀');
  const written = Buffer.alloc(16);
  written.writeUInt32BE(0xdeadbeef, 0);
  written.writeDoubleLE(Math.PI, 4);
  written.writeInt16LE(-2, 12);
  return {
    same: Imported === Buffer && bytes instanceof Uint8Array && Buffer.isBuffer(bytes) && !Buffer.isBuffer(new Uint8Array()),
    encodings: ['hex', 'base64', 'base64url', 'latin1', 'utf16le', 'ascii'].map((encoding) => bytes.toString(encoding)),
    decoded: [
      Buffer.from('aGk_LQ', 'base64url').toString('hex'),
      Buffer.from('aGk/LQ==', 'base64').toString('hex'),
      Buffer.from('cafe', 'hex').length,
      Buffer.from('é', 'latin1').toString('hex'),
      Buffer.from('-_-_', 'base64url').toString('base64url'),
    ],
    lengths: [Buffer.byteLength('€'), Buffer.byteLength('aGk_LQ', 'base64url'), Buffer.isEncoding('base64url'), Buffer.isEncoding('no')],
    numbers: [written.toString('hex'), written.readUInt32LE(0), written.readDoubleLE(4), written.readInt16LE(12)],
    parts: [bytes.subarray(1, 3).toString('hex'), bytes.slice(-4).toString(), bytes.indexOf('l'), bytes.includes('€'), bytes.equals(Buffer.from(bytes))],
    joined: Buffer.concat([Buffer.from('a'), new Uint8Array([98])]).toString(),
    compared: Buffer.compare(Buffer.from('a'), Buffer.from('b')),
    json: JSON.stringify(Buffer.from([1, 2])),
    filled: Buffer.alloc(5, 'ab').toString(),
    swapped: Buffer.from([1, 2, 3, 4]).swap16().toString('hex'),
    big: Buffer.from('0102030405060708', 'hex').readBigUInt64BE().toString(),
    utf8: [isUtf8(bytes), isUtf8(Buffer.from([0xff]))],
    response: bytes.length,
  };
}

export function decoded() {
  const decoder = new StringDecoder('utf8');
  const euro = Buffer.from('€');
  return [decoder.write(euro.subarray(0, 1)), decoder.write(euro.subarray(1)), decoder.end(Buffer.from([0xe2]))];
}
