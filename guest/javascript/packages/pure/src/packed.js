import { decode, decodeAsync, encode, ExtensionCodec } from '@msgpack/msgpack';
import protobufjs from 'protobufjs';

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

export async function packed() {
  const value = { a: [1, -1, 1.5, null, true], text: 'Ä€😀', bytes: new Uint8Array([1, 2]), long: 2 ** 40 };
  const bytes = encode(value);
  const codec = new ExtensionCodec();
  codec.register({
    type: 0,
    encode: (object) => (object instanceof Set ? encode([...object]) : null),
    decode: (data) => new Set(decode(data)),
  });
  const set = decode(encode({ set: new Set([1, 2]) }, { extensionCodec: codec }), { extensionCodec: codec }).set;
  const streamed = await decodeAsync(new Blob([bytes]).stream());
  return { hex: hex(bytes), text: decode(bytes).text, set: [...set], streamed: streamed.long };
}

const PROTO = `syntax = "proto3";
message Person {
  string name = 1;
  int32 age = 2;
  repeated Phone phones = 3;
  map<string, int64> scores = 4;
  oneof kind { bool member = 5; double fee = 6; }
  enum Type { HOME = 0; WORK = 1; }
  message Phone { string number = 1; Type type = 2; }
}`;

export function protobuf() {
  const Person = protobufjs.parse(PROTO).root.lookupType('Person');
  const given = { name: 'Ådne', age: -3, phones: [{ number: '1', type: 'WORK' }], scores: { a: 7 }, fee: 1.25 };
  const bytes = Person.encode(Person.fromObject(given)).finish();
  const read = Person.toObject(Person.decode(bytes), { enums: String, longs: String, defaults: true, oneofs: true });
  return { hex: hex(bytes), read, wrong: Person.verify({ age: 'x' }) };
}
