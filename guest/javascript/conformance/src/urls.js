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

const hrefs = (pairs) => pairs.map(([text, base]) => new URL(text, base).href);
check('URL: file: keeps its host, its drive and empty segments', () => {
  equal(
    hrefs([
      ['file://share/C:/a'], ['file:///c|/x/../..'], ['file://localhost/a'], ['file:////a//b'], ['file:\\\\\\d'], ['file://C:/a'], ['file:a?b#c'],
      ['FILE:/ a^b\u00e4%2e?\u00e4'],
    ]),
    [
      'file://share/C:/a', 'file:///c:/', 'file:///a', 'file:////a//b', 'file:///d', 'file:///C:/a', 'file:///a?b#c', 'file:///%20a%5Eb%C3%A4%2e?%C3%A4',
    ],
  );
});
check('URL: file: with many brackets takes no time', async () => {
  const began = performance.now();
  await throws('TypeError', () => new URL(`file://${'['.repeat(40_000)}`));
  await throws('TypeError', () => new URL(`file://${'[a]'.repeat(10_000)}`));
  ok(performance.now() - began < 1000);
  equal(new URL('file://[::1]/a').hostname, '[::1]');
});
check('URL: relative to a file:', () => {
  const base = 'file://share/D:/a/b?q#h';
  equal(
    hrefs([['c', base], ['/c', base], ['//other/c', base], ['..', base], ['../../..', base], ['E|', base], ['', base], ['#i', base], ['?r', base], ['http:x', base]]),
    [
      'file://share/D:/a/c', 'file://share/D:/c', 'file://other/c', 'file://share/D:/', 'file://share/D:/', 'file://share/E:', 'file://share/D:/a/b?q',
      'file://share/D:/a/b?q#i', 'file://share/D:/a/b?r', 'http://x/',
    ],
  );
});
check('URL: parts of a file: are set', () => {
  const url = new URL('file:///a');
  const { searchParams } = url;
  Object.assign(url, { pathname: '//x/../c|', host: 'share', search: 'q=1', hash: 'h', port: '8', username: 'u', protocol: 'mailto' });
  equal([url.href, url.origin, url.host, searchParams.get('q')], ['file://share//c|?q=1#h', 'null', 'share', '1']);
  searchParams.set('q', '2');
  url.host = 'localhost';
  equal(url.href, 'file:////c|?q=2#h');
  url.host = 'a:80';
  equal([url.host, url.protocol, url.port, url.username, url.password], ['', 'file:', '', '', '']);
  url.href = 'http://a.test/?q=3';
  equal([url.host, searchParams.get('q'), url.searchParams === searchParams], ['a.test', '3', true]);
  url.href = 'file://b/?q=4';
  equal([url.href, searchParams.get('q'), url.searchParams === searchParams], ['file://b/?q=4', '4', true]);
  url.protocol = 'https';
  equal([url.href, url.origin, url.searchParams === searchParams], ['https://b/?q=4', 'https://b', true]);
});
check('URL: hosts of file: that are none are a TypeError', async () => {
  for (const text of ['file://a:80/', 'file://u@a/', 'file://a b/', 'file://[::1/', 'file://%zz/']) await throws('TypeError', () => new URL(text));
  await throws('TypeError', () => new URL('file:a', 'nothing'));
});
check('URL: the space at the end of an opaque path', () => {
  equal(hrefs([['a:b  ?c'], ['a:b #c'], ['a:b  '], ['data: x ?q ']]), ['a:b %20?c', 'a:b%20#c', 'a:b', 'data: x%20?q']);
  const url = new URL('a:b ?c#d');
  Object.assign(url, { search: '', hash: '' });
  equal(url.href, 'a:b%20');
});
check('URL: ^ in a path is encoded', () => {
  equal(hrefs([['http://a.test/^?^#^'], ['a://b/^'], ['^', 'http://a.test/']]), ['http://a.test/%5E?^#^', 'a://b/%5E', 'http://a.test/%5E']);
  const url = new URL('http://a.test/');
  url.pathname = '/x^y';
  equal(url.pathname, '/x%5Ey');
});
check('URL: three slashes and more lead to a host', () =>
  equal(hrefs([['///b.test/x', 'http://a.test/y'], ['\\\\\\/b.test', 'https://a.test/']]), ['http://b.test/x', 'https://b.test/']));
check('URL: paths with // where there is no host', () => {
  const set = (href, name, value) => {
    const url = new URL(href);
    url[name] = value;
    return url.href;
  };
  equal(
    [
      set('a:/', 'pathname', '//b'), set('a:/', 'pathname', '/..//b'), set('a:/.//b', 'pathname', 'c'), set('a:/.//b', 'host', 'h'), set('a:/.//b', 'hostname', ''),
      set('a:///b', 'pathname', ''), set('a:/b', 'pathname', ''), set('a:b', 'pathname', '/c'), set('a:/b', 'pathname', 'x^y'),
    ],
    ['a:/.//b', 'a:/.//b', 'a:/c', 'a://h//b', 'a:////b', 'a://', 'a:/', 'a:b', 'a:/x%5Ey'],
  );
});
check('URL: hostname with a port is none', () => {
  const url = new URL('http://a.test:81/');
  url.hostname = 'b.test:82';
  equal(url.host, 'a.test:81');
  url.hostname = '[::1]';
  equal(url.host, '[::1]:81');
});
check('URL: origins of blob:', () =>
  equal(
    ['blob:https://a.test/x', 'blob:http://a.test:81/x', 'blob:ws://a.test/x', 'blob:blob:https://a.test/x', 'blob:null/x'].map((text) => new URL(text).origin),
    ['https://a.test', 'http://a.test:81', 'null', 'null', 'null'],
  ));

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

check('URLSearchParams: size of the prototype is a TypeError', () => throws('TypeError', () => URLSearchParams.prototype.size));

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
about('URLPattern');
check('URLPattern', () => ok(new URLPattern({ pathname: '/a/:id' }).exec('http://a.test/a/1').pathname.groups.id === '1'));
check('URLPattern: hosts, optional parts, wildcards, expressions, other scripts', () => {
  const pattern = new URLPattern('https://{*.}?a.test/:kind(x|y)/:n\u00e4me{/*}?');
  const groups = (url) => pattern.exec(url)?.pathname.groups;
  equal(groups('https://b.a.test/y/z/r/s?q'), { kind: 'y', n\u00e4me: 'z', 0: 'r/s' });
  equal([pattern.test('https://a.test/x/1'), pattern.test('https://a.test/z/1'), pattern.test('http://a.test/x/1')], [true, false, false]);
  equal([pattern.hasRegExpGroups, pattern.protocol, pattern.hostname], [true, 'https', '{*.}?a.test']);
});
check('URLPattern: with a base, without regard to case, and what is none', async () => {
  equal(new URLPattern('/A/*', 'http://a.test', { ignoreCase: true }).test('/a/b', 'http://a.test'), true);
  for (const bad of ['(', '{', { pathname: '/:a/:a' }, 'no-base']) await throws('TypeError', () => new URLPattern(bad));
  equal([URLPattern.name, Object.prototype.toString.call(new URLPattern())], ['URLPattern', '[object URLPattern]']);
});
