// MessageChannel (HTML, "Channel messaging"), within an instance: there are no workers to send to. A message arrives in a later turn
// of the loop, if the call lasts until then.

import { globals, isActive, whenOver } from './loop.js';
import { attributes, INNER, provide, shape } from './shape.js';

const KEY = Symbol('key');

class MessageEvent extends Event {
  constructor(type, options = undefined) {
    super(type, options ?? {});
    const { data = null, origin = '', lastEventId = '', source = null, ports = [] } = options ?? {};
    this[INNER] = { data, origin: `${origin}`, lastEventId: `${lastEventId}`, source, ports: Object.freeze([...ports]) };
  }
}
attributes(MessageEvent, ['data', 'origin', 'lastEventId', 'source', 'ports']);
shape(MessageEvent, 'MessageEvent', 1);

// Those that got a message in the present call.
const used = new Set();

function forget() {
  for (const port of used) port[INNER].waiting = [];
  used.clear();
}

class MessagePort extends EventTarget {
  constructor(key) {
    if (key !== KEY) throw new TypeError('Illegal constructor');
    super();
    // `other` is the port at the other end, `waiting` what came before somebody listens.
    this[INNER] = { other: null, waiting: [], hasStarted: false, handlers: { message: null, messageerror: null, close: null } };
  }

  postMessage(message, options = undefined) {
    if (arguments.length === 0) throw new TypeError('postMessage needs a message');
    const transfer = [...((Array.isArray(options) ? options : options?.transfer) ?? [])];
    // A port stays within the instance, as it is.
    const ports = transfer.filter((one) => one instanceof MessagePort);
    if (ports.includes(this)) throw new DOMException('a port cannot be sent through itself', 'DataCloneError');
    const others = transfer.filter((one) => !ports.includes(one));
    const data = ports.includes(message) ? message : structuredClone(message, { transfer: others });
    const { other } = this[INNER];
    if (other === null) return;
    other[INNER].waiting.push({ data, ports });
    if (isActive()) {
      used.add(other);
      whenOver(forget);
    }
    deliver(other);
  }

  start() {
    this[INNER].hasStarted = true;
    deliver(this);
  }

  close() {
    const inner = this[INNER];
    if (inner.other === null) return;
    inner.other[INNER].other = null;
    inner.other = null;
  }
}
for (const name of ['message', 'messageerror', 'close']) {
  const members = {
    get [`on${name}`]() {
      return this[INNER].handlers[name];
    },

    set [`on${name}`](handler) {
      const { handlers } = this[INNER];
      if (handlers[name] !== null) this.removeEventListener(name, handlers[name]);
      handlers[name] = typeof handler === 'function' ? handler : null;
      if (handlers[name] !== null) this.addEventListener(name, handlers[name]);
      if (name === 'message') this.start();
    },
  };
  Object.defineProperty(MessagePort.prototype, `on${name}`, Object.getOwnPropertyDescriptor(members, `on${name}`));
}
shape(MessagePort, 'MessagePort');

// One message a turn. At the top level there are no turns.
function deliver(port) {
  const { waiting, hasStarted } = port[INNER];
  if (!hasStarted || !isActive()) return;
  for (const { data, ports } of waiting.splice(0)) {
    globals.setTimeout(() => {
      const event = new MessageEvent('message', { ports });
      // The constructor takes undefined for null.
      event[INNER].data = data;
      port.dispatchEvent(event);
    }, 0);
  }
}

class MessageChannel {
  constructor() {
    const [port1, port2] = [new MessagePort(KEY), new MessagePort(KEY)];
    port1[INNER].other = port2;
    port2[INNER].other = port1;
    this[INNER] = { port1, port2 };
  }
}
attributes(MessageChannel, ['port1', 'port2']);
shape(MessageChannel, 'MessageChannel');

for (const [name, Interface] of Object.entries({ MessageChannel, MessageEvent, MessagePort })) provide(name, Interface);
