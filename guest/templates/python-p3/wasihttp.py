"""A small router, with requests and responses over the calls of wasi:http 0.3.

Texts of headers are Latin-1: every byte is a character, and goes out as it came in.
"""

import gc
import json
import re
import sys
import traceback
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

import wit_world
from componentize_py_async_support import spawn
from componentize_py_async_support.futures import FutureReader, FutureWriter
from componentize_py_async_support.streams import ByteStreamReader, ByteStreamWriter
from componentize_py_runtime import drop_resource
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import client, monotonic_clock
from wit_world.imports import wasi_http_types as types
from wit_world.imports.wasi_http_types import Fields

Headers = list[tuple[str, str]]
Parts = AsyncIterable[str | bytes] | Iterable[str | bytes]

# At most so much of a body is asked for in one call.
CHUNK = 64 * 1024

METHODS = {
    "GET": types.Method_Get,
    "HEAD": types.Method_Head,
    "POST": types.Method_Post,
    "PUT": types.Method_Put,
    "DELETE": types.Method_Delete,
    "CONNECT": types.Method_Connect,
    "OPTIONS": types.Method_Options,
    "TRACE": types.Method_Trace,
    "PATCH": types.Method_Patch,
}
NAMES = {method: name for name, method in METHODS.items()}

# The names that componentize-py makes of the two types of future that a body needs.
_trailers = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future
_transmission = wit_world.result_unit_wasi_http_types_error_code_future


class _Handle:
    """Gives a handle back to the host when the object that has it goes, unless it was given back before."""

    __slots__ = ("_args",)

    def __init__(self, args: tuple) -> None:
        self._args = args

    def detach(self) -> tuple | None:
        args, self._args = self._args, None
        return args and (None, drop_resource, args, None)

    def __del__(self) -> None:
        if self._args:
            drop_resource(*self._args)


class _Finalize(weakref.finalize):
    """For the handles of componentize-py. Python's own finalizer takes some thousand instructions to make, and a request has
    half a dozen handles."""

    __slots__ = ()

    def __new__(cls, thing: object, function: Callable, *args: object, **named: object) -> "_Handle | _Finalize":
        return _Handle(args) if function is drop_resource else super().__new__(cls)


weakref.finalize = _Finalize


class Request:
    """What the client asks."""

    def __init__(self, request: types.Request) -> None:
        self._request = request
        method = request.get_method()
        self.method = method.value if isinstance(method, types.Method_Other) else NAMES[type(method)]
        self.target = request.get_path_with_query() or "/"
        path, _, self.query_string = self.target.partition("?")
        self.path = unquote(path)
        self.authority = request.get_authority()
        with request.get_headers() as fields:
            self.headers: Headers = [(name, value.decode("latin-1")) for name, value in fields.copy_all()]

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query; of those with the same name, the last."""
        return dict(self.query_list)

    @property
    def query_list(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query_string, keep_blank_values=True)

    def header(self, name: str, default: str | None = None) -> str | None:
        """The field's first value."""
        return next((value for field, value in self.headers if field == name.lower()), default)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, part by part as it arrives. Raises BodyError when it breaks off."""
        _, transmitted = _transmission(lambda: Ok(None))
        body, trailers = types.Request.consume_body(self._request, transmitted)
        async for part in _chunks(body, trailers):
            yield part

    async def body(self) -> bytes:
        """The whole body."""
        return b"".join([part async for part in self.chunks()])


class Response:
    """What is answered: a text, bytes, a dict or list as JSON, or parts of a text or of bytes as they are made."""

    def __init__(
        self,
        body: str | bytes | dict | list | Parts = b"",
        status: int = 200,
        headers: Headers | None = None,
    ) -> None:
        self.status = status
        self.headers = list(headers or [])
        kind = None
        if isinstance(body, str):
            body, kind = body.encode(), "text/plain; charset=utf-8"
        elif isinstance(body, (dict, list)):
            body, kind = json.dumps(body).encode(), "application/json"
        if kind and not any(name.lower() == "content-type" for name, _ in self.headers):
            self.headers.append(("content-type", kind))
        if isinstance(body, bytes):
            body = [body] if body else []
        self.body: Parts = body if isinstance(body, AsyncIterable) else iter(body)


Answer = Response | str | bytes | dict | list
Route = Callable[..., Answer | Awaitable[Answer]]


class App:
    """Routes: `{name}` in a path takes one part of it, and is an argument of the function."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Route]] = []

    def route(self, method: str, path: str) -> Callable[[Route], Route]:
        pattern = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))

        def add(function: Route) -> Route:
            self._routes.append((method, pattern, function))
            return function

        return add

    def get(self, path: str) -> Callable[[Route], Route]:
        return self.route("GET", path)

    def post(self, path: str) -> Callable[[Route], Route]:
        return self.route("POST", path)

    async def respond(self, request: Request) -> Response:
        # A HEAD request gets the response of GET; the host leaves out the body.
        wanted = "GET" if request.method == "HEAD" else request.method
        for method, pattern, function in self._routes:
            if method == wanted and (match := pattern.fullmatch(request.path)):
                answer = function(request, **match.groupdict())
                return _response(function, await answer if isinstance(answer, Awaitable) else answer)
        return Response("not found", 404)

    def handler(app) -> type[exports.Handler]:
        """The class that componentize-py exports."""

        class Handler(exports.Handler):
            async def handle(self, request: types.Request) -> types.Response:
                try:
                    return _send(await app.respond(Request(request)))
                except Exception:
                    _report()
                    return _send(Response("internal server error", 500))

        # What was loaded until now lives as long as the instance. The garbage collector need not look at it, and writes to
        # none of it: most of the memory stays shared with other instances.
        gc.collect()
        gc.freeze()
        return Handler


def _response(function: Route, answer: object) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, (str, bytes, dict, list)):
        return Response(answer)
    kind = type(answer).__name__
    raise TypeError(f"{function.__name__}() returned {kind}: expected a Response, str, bytes, dict or list")


def _report() -> None:
    """The exception that is being handled, in the log."""
    trace = traceback.format_exc()
    print(trace, end="", file=sys.stderr)
    if "ModuleNotFoundError: " in trace:
        print("hint: import it at the top of app.py: files are there only while the component is built", file=sys.stderr)


async def sleep(seconds: float) -> None:
    """Waits, while other requests of the instance go on. (asyncio has no timers here.)"""
    await monotonic_clock.wait_for(max(0, int(seconds * 1_000_000_000)))


class Fetched:
    """The response of another server."""

    def __init__(self, response: types.Response) -> None:
        self._response = response
        self.status = response.get_status_code()
        with response.get_headers() as fields:
            self.headers: Headers = [(name, value.decode("latin-1")) for name, value in fields.copy_all()]

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, part by part as it arrives. Raises BodyError when it breaks off."""
        _, transmitted = _transmission(lambda: Ok(None))
        body, trailers = types.Response.consume_body(self._response, transmitted)
        async for part in _chunks(body, trailers):
            yield part

    async def body(self) -> bytes:
        return b"".join([part async for part in self.chunks()])


class FetchError(Exception):
    """Why there is no response, such as `HTTP-request-denied`."""


class BodyError(Exception):
    """A body broke off before its end: the other side failed or has gone."""


async def fetch(url: str, method: str = "GET", headers: Headers | None = None, body: bytes = b"") -> Fetched:
    """Sends a request, and waits for the head of the response. The host must allow it (--allow-host)."""
    address = urlsplit(url)
    headers = list(headers or [])
    if (body or method in ("POST", "PUT", "PATCH")) and not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("content-length", str(len(body))))
    writer, content = wit_world.byte_stream() if body else (None, None)
    outcome, trailers = _trailers(lambda: Ok(None))
    request, _transmitted = types.Request.new(_fields(headers), content, trailers, None)
    request.set_method(METHODS[method]() if method in METHODS else types.Method_Other(method))
    request.set_scheme(types.Scheme_Https() if address.scheme == "https" else types.Scheme_Http())
    request.set_authority(address.netloc)
    request.set_path_with_query((address.path or "/") + (f"?{address.query}" if address.query else ""))
    spawn(_write(writer, outcome, [body]) if writer else outcome.write(Ok(None)))
    try:
        return Fetched(await client.send(request))
    except Err as error:
        raise FetchError(_code(error.value)) from None


def _code(code: object) -> str:
    name = type(code).__name__.removeprefix("ErrorCode_")
    # `HttpRequestDenied` to `HTTP-request-denied`, as the WIT has it.
    words = re.findall(r"[A-Z][a-z]*", name)
    upper = {"Http": "HTTP", "Dns": "DNS", "Tls": "TLS", "Ip": "IP", "Uri": "URI"}
    return "-".join(upper.get(word, word.lower()) for word in words)


def _fields(headers: Headers) -> Fields:
    return Fields.from_list([(name, value.encode("latin-1")) for name, value in headers])


def _send(response: Response) -> types.Response:
    """The body is written once the host reads it, after the response headers were returned."""
    fields = _fields(response.headers)
    writer, body = wit_world.byte_stream()
    outcome, trailers = _trailers(lambda: Ok(None))
    outgoing, _transmitted = types.Response.new(fields, body, trailers)
    outgoing.set_status_code(response.status)
    spawn(_write(writer, outcome, response.body))
    return outgoing


async def _chunks(body: ByteStreamReader, trailers: FutureReader) -> AsyncIterator[bytes]:
    with body:
        while not body.writer_dropped:
            if part := await body.read(CHUNK):
                yield part
    # The stream ends in the same way when the body breaks off; only this tells.
    if isinstance(result := await trailers.read(), Err):
        raise BodyError(f"the body broke off before its end: {_code(result.value)}")


async def _write(writer: ByteStreamWriter, outcome: FutureWriter, parts: Parts) -> None:
    result = Ok(None)
    try:
        with writer:
            await _write_parts(writer, parts)
    except Exception:
        # The parts could not be made, or what they are passed on from broke off. The receiver sees that the body is
        # not whole.
        _report()
        result = Err(types.ErrorCode_InternalError(None))
    await outcome.write(result)


async def _write_parts(writer: ByteStreamWriter, parts: Parts) -> None:
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            if not await _write_part(writer, part):
                return
        return
    for part in parts:
        if not await _write_part(writer, part):
            return


async def _write_part(writer: ByteStreamWriter, part: str | bytes) -> bool:
    """Whether the client is still there."""
    data = part.encode() if isinstance(part, str) else part
    return not data or await writer.write_all(data) == len(data)
