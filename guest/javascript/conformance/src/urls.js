// URL, URLSearchParams, TextEncoder, TextDecoder, base64.

import { about, check, equal, ok, throws } from './check.js';

about('URL');
check('URL: parts', () => {
  const url = new URL('https://u:p@a.test:8443/x/y?q=1#h');
  equal(
    [url.protocol, url.username, url.password, url.host, url.hostname, url.port, url.pathname, url.search, url.hash, url.origin],
    ['https:', 'u', 'p', 'a.test:8443', 'a.test', '8443', '/x/y', '?q=1', '#h', 'https://a.test:8443'],
  );
});
check('URL: relative to a base', () => equal(new URL('../c?d', 'http://a.test/x/y/z').href, 'http://a.test/x/c?d'));
check('URL: a default port goes', () => equal(new URL('http://a.test:80/').href, 'http://a.test/'));
check('URL: an invalid one is a TypeError', () => throws('TypeError', () => new URL('nothing')));
check('URL: spaces and other scripts are encoded', () => equal(new URL('http://a.test/ä b').href, 'http://a.test/%C3%A4%20b'));
check('URL: hosts of other scripts become punycode', () => equal(new URL('http://bücher.test/').host, 'xn--bcher-kva.test'));
check('URL: dots in paths are resolved', () => equal(new URL('http://a.test/x/./y/../z').pathname, '/x/z'));
check('URL: setters', () => {
  const url = new URL('http://a.test/');
  url.pathname = '/b';
  url.search = 'c=1';
  url.hash = 'd';
  url.port = '81';
  equal(url.href, 'http://a.test:81/b?c=1#d');
});
check('URL: searchParams write through', () => {
  const url = new URL('http://a.test/?a=1');
  url.searchParams.append('b', '2');
  equal(url.search, '?a=1&b=2');
});
check('URL: IPv6', () => equal(new URL('http://[::1]:80/').host, '[::1]'));
check('URL: toString, toJSON', () => {
  const url = new URL('http://a.test');
  equal([`${url}`, JSON.stringify({ url })], ['http://a.test/', '{"url":"http://a.test/"}']);
});
check('URL: plain ones and others, all parts, with a base and without', () => {
  const parts = ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash'];
  for (const text of [
    'http://a.test/', 'http://a.test', 'https://a.test/x/y.z?q', 'http://a.test/?', 'http://a.test/?a?b', 'http://a.test/#',
    'http://a.test/x#y', 'http://a.test:80/', 'https://a.test:443/x', 'http://a.test:8080/x', 'http://a.test:08/', 'HTTP://A.test/X',
    'http://127.1/', 'http://127.0.0.1:65535/', 'http://0x7f.1/', 'http://[::1]:8/', 'http://[0:0::1]/', 'http://xn--bcher-kva.test/',
    'http://u@a.test/', 'http://u:p@a.test/x', 'http://a.test//x//', 'http://a.test/./x', 'http://a.test/x/.', 'http://a.test/x/..',
    'http://a.test/x/.y', 'http://a.test/%2e/x', 'http://a.test/%41', 'http://a.test/x?%41=%zz', "http://a.test/'?'", 'http://a.test/x y',
    'http://a.test/x?a b', 'http://a.test/ä?ö', 'http://a.test\\\\x/y', 'http:/a.test/x', 'http:a.test/x', ' http://a.test/x ', 'http://a.test/x\t',
    'http://a.test/x|y^z`"<>{}', 'http://a.test/?x|y^z`"<>{}', 'ftp://a.test/x', 'mailto:a@b', 'data:text/plain,a/b', 'http://a.test/x;y=1,2:@!$&()*+~_-',
  ]) {
    const [one, other] = [new URL(text), new URL(text, 'ws://base.test/')];
    for (const part of parts) {
      if (one[part] !== other[part]) throw new Error(`${part} of ${JSON.stringify(text)}: ${one[part]}, not ${other[part]}`);
    }
  }
});
check('URL: what is no URL, with a base or without', async () => {
  for (const text of ['http://', 'http://a b/', 'http://a.test:99999/', 'http://1.2.3.4.5/', 'http://[::1/', 'http:///x:y', '//a.test/', 'http://a%zz/x']) {
    equal([text, URL.canParse(text)], [text, false]);
  }
});
check('URL: a plain one is written to', () => {
  const url = new URL('http://a.test/x?a=1');
  url.searchParams.set('a', '2');
  url.hash = 'h';
  url.host = 'b.test:81';
  equal([url.href, url.search, url.pathname, `${url}`], ['http://b.test:81/x?a=2#h', '?a=2', '/x', 'http://b.test:81/x?a=2#h']);
  ok(url instanceof URL && Object.prototype.toString.call(url) === '[object URL]');
});
check('URL.canParse', () => equal([URL.canParse('http://a.test'), URL.canParse('x')], [true, false]));
check('URL.parse', () => equal([URL.parse('http://a.test')?.href, URL.parse('x')], ['http://a.test/', null]));

about('URLSearchParams');
check('URLSearchParams: of a string, with repeats', () => {
  const params = new URLSearchParams('?a=1&a=2&b=x+y&c=%C3%A4');
  equal([params.getAll('a'), params.get('b'), params.get('c'), params.get('d')], [['1', '2'], 'x y', 'ä', null]);
});
check('URLSearchParams: of an object and of pairs', () =>
  equal([`${new URLSearchParams({ a: 1 })}`, `${new URLSearchParams([['a', '1'], ['a', '2']])}`], ['a=1', 'a=1&a=2']));
check('URLSearchParams: set, delete, has, size', () => {
  const params = new URLSearchParams('a=1&a=2&b=3');
  params.set('a', '4');
  params.delete('b');
  equal([`${params}`, params.has('b'), params.size], ['a=4', false, 1]);
});
check('URLSearchParams: has and delete with a value', () => {
  const params = new URLSearchParams('a=1&a=2');
  equal([params.has('a', '2'), params.has('a', '3')], [true, false]);
  params.delete('a', '1');
  equal(`${params}`, 'a=2');
});
check('URLSearchParams: sort', () => {
  const params = new URLSearchParams('b=1&a=2');
  params.sort();
  equal(`${params}`, 'a=2&b=1');
});
check('URLSearchParams: iteration', () => equal([...new URLSearchParams('a=1&b=2')], [['a', '1'], ['b', '2']]));
check('URLSearchParams: what is encoded', () => equal(`${new URLSearchParams({ a: "ä &='*~" })}`, 'a=%C3%A4+%26%3D%27*%7E'));

about('encoding: TextEncoder, TextDecoder, base64');
check('TextEncoder: UTF-8', () => equal([...new TextEncoder().encode('ä€😀')], [195, 164, 226, 130, 172, 240, 159, 152, 128]));
check('TextEncoder: half of a pair', () => equal([...new TextEncoder().encode('\ud800')], [239, 191, 189]));
check('TextEncoder: encodeInto stops at whole characters', () => {
  const bytes = new Uint8Array(3);
  const { read, written } = new TextEncoder().encodeInto('aä€', bytes);
  equal([read, written], [2, 3]);
});
check('TextDecoder: UTF-8 with errors', () => equal(new TextDecoder().decode(new Uint8Array([97, 255, 98])), 'a\ufffdb'));
check('TextDecoder: fatal', () => throws('TypeError', () => new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255]))));
check('TextDecoder: byte order mark', () => {
  const bytes = new Uint8Array([239, 187, 191, 97]);
  equal([new TextDecoder().decode(bytes), new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)], ['a', '\ufeffa']);
});
check('TextDecoder: in pieces', () => {
  const decoder = new TextDecoder();
  equal(decoder.decode(new Uint8Array([226, 130]), { stream: true }) + decoder.decode(new Uint8Array([172])), '€');
});
check('TextDecoder: latin1 is windows-1252', () => equal(new TextDecoder('latin1').decode(new Uint8Array([0xe9, 0x80])), 'é€'));
check('TextDecoder: UTF-16', () => equal(new TextDecoder('utf-16le').decode(new Uint8Array([97, 0, 172, 32])), 'a€'));
check('TextDecoder: an unknown encoding is a RangeError', () => throws('RangeError', () => new TextDecoder('nothing')));
check('TextDecoder: of an ArrayBuffer and of nothing', () =>
  equal([new TextDecoder().decode(new Uint8Array([97]).buffer), new TextDecoder().decode()], ['a', '']));
check('TextEncoderStream', async () => {
  const reader = new ReadableStream({ start(c) { c.enqueue('ä'); c.close(); } }).pipeThrough(new TextEncoderStream()).getReader();
  equal([...(await reader.read()).value], [195, 164]);
});
check('TextDecoderStream', async () => {
  const source = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([195])); c.enqueue(new Uint8Array([164])); c.close(); } });
  let text = '';
  for await (const piece of source.pipeThrough(new TextDecoderStream())) text += piece;
  equal(text, 'ä');
});
check('btoa, atob', () => equal([btoa('a\xff'), atob('Yf8='), atob(' Y Q ')], ['Yf8=', 'a\xff', 'a']));
check('btoa of a character above one byte is an InvalidCharacterError', () => throws('InvalidCharacterError', () => btoa('€')));
check('atob of nonsense is an InvalidCharacterError', () => throws('InvalidCharacterError', () => atob('a')));
about('others');
check('URLPattern', () => ok(new URLPattern({ pathname: '/a/:id' }).exec('http://a.test/a/1').pathname.groups.id === '1'));
