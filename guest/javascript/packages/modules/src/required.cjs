// What packages of the older kind do.
const EventEmitter = require('events');
const assert = require('assert');
const { Buffer } = require('buffer');
const path = require('path');
const util = require('node:util');
const { Readable } = require('stream');
const crypto = require('crypto');

class Emitter extends EventEmitter {}
function Old() {
  EventEmitter.call(this);
}
util.inherits(Old, EventEmitter);

module.exports = () => {
  const heard = [];
  for (const emitter of [new Emitter(), new Old()]) {
    emitter.on('x', (value) => heard.push(value));
    emitter.emit('x', heard.length);
  }
  assert(true);
  assert.equal(1, '1');
  return [heard, Buffer.from('a').toString('hex'), path.join('a', '..', 'b'), typeof Readable.from, crypto.createHash('md5').update('a').digest('hex')];
};
