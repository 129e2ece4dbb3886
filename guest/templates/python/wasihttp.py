"""A small router, with requests and responses over the calls of wasi:http 0.2.

Texts of headers are Latin-1: every byte is a character, and goes out as it came in.
"""

import contextlib
import gc
import json
import re
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

from componentize_py_runtime import drop_resource
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import outgoing_handler, types
from wit_world.imports.streams import InputStream, OutputStream, StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    IncomingResponse,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
)

Headers = list[tuple[str, str]]

# At most so much of a body is asked for in one call.
CHUNK = 64 * 1024
# At most so much can be sent by one call that waits until it is done.
AT_ONCE = 4096

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
    """What the client asks. The host is asked for the headers, the authority and the body when they are first used, which
    must be before the response ends."""

    def __init__(self, request: IncomingRequest) -> None:
        self._request = request
        self._body: IncomingBody | None = None
        self._headers: Headers | None = None
        method = request.method()
        self.method = NAMES.get(type(method)) or method.value
        self.target = request.path_with_query() or "/"
        path, _, self.query_string = self.target.partition("?")
        self.path = unquote(path) if "%" in path else path

    @property
    def authority(self) -> str | None:
        return self._request.authority()

    @property
    def headers(self) -> Headers:
        """All fields, in their order."""
        if self._headers is None:
            with self._request.headers() as fields:
                self._headers = [(name, value.decode("latin-1")) for name, value in fields.entries()]
        return self._headers

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

    def chunks(self) -> Iterator[bytes]:
        """The body, part by part as it arrives. Raises BodyError when it breaks off."""
        if self._body is None:
            self._body = self._request.consume()
            yield from _chunks(self._body)

    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def _close(self) -> None:
        self._request.__exit__(None, None, None)


class Response:
    """What is answered: a text, bytes, a dict or list as JSON, or parts of a text or of bytes as they are made."""

    def __init__(
        self,
        body: str | bytes | dict | list | Iterable[str | bytes] = b"",
        status: int = 200,
        headers: Headers | None = None,
    ) -> None:
        self.status = status
        self.headers = list(headers) if headers else []
        kind = None
        if isinstance(body, str):
            body, kind = body.encode(), "text/plain; charset=utf-8"
        elif isinstance(body, (dict, list)):
            body, kind = json.dumps(body).encode(), "application/json"
        if kind and not (headers and any(name.lower() == "content-type" for name, _ in headers)):
            self.headers.append(("content-type", kind))
        self.body: Iterable[str | bytes] = [body] if isinstance(body, bytes) else iter(body)


Route = Callable[..., Response | str | bytes | dict | list]


class App:
    """Routes: `{name}` in a path takes one part of it, and is an argument of the function."""

    def __init__(self) -> None:
        # With a pattern, or with the only path that the route has.
        self._routes: list[tuple[str, re.Pattern[str] | str, Route]] = []

    def route(self, method: str, path: str) -> Callable[[Route], Route]:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
        place = path if pattern == re.escape(path) else re.compile(pattern)

        def add(function: Route) -> Route:
            self._routes.append((method, place, function))
            return function

        return add

    def get(self, path: str) -> Callable[[Route], Route]:
        return self.route("GET", path)

    def post(self, path: str) -> Callable[[Route], Route]:
        return self.route("POST", path)

    def respond(self, request: Request) -> Response:
        # A HEAD request gets the response of GET; the host leaves out the body.
        wanted = "GET" if request.method == "HEAD" else request.method
        path = request.path
        for method, place, function in self._routes:
            if method != wanted:
                continue
            if isinstance(place, str):
                if place == path:
                    return _response(function, function(request))
            elif match := place.fullmatch(path):
                return _response(function, function(request, **match.groupdict()))
        return Response("not found", 404)

    def handler(app) -> type[exports.IncomingHandler]:
        """The class that componentize-py exports."""

        class IncomingHandler(exports.IncomingHandler):
            def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
                incoming = Request(request)
                try:
                    response = app.respond(incoming)
                    head = _head(response)
                except Exception:
                    _report()
                    response = Response("internal server error", 500)
                    head = _head(response)
                _send(head, response.body, response_out)
                incoming._close()

        # What was loaded until now lives as long as the instance. The garbage collector need not look at it, and writes to
        # none of it: most of the memory stays shared with other instances.
        gc.collect()
        gc.freeze()
        return IncomingHandler


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


class Fetched:
    """The response of another server."""

    def __init__(self, response: IncomingResponse) -> None:
        self._response = response
        self.status = response.status()
        with response.headers() as fields:
            self.headers: Headers = [(name, value.decode("latin-1")) for name, value in fields.entries()]

    def chunks(self) -> Iterator[bytes]:
        yield from _chunks(self._response.consume())
        self._response.__exit__(None, None, None)

    def body(self) -> bytes:
        return b"".join(self.chunks())


class FetchError(Exception):
    """Why there is no response, such as `HTTP-request-denied`."""


class BodyError(Exception):
    """A body broke off before its end: the other side failed or has gone."""


def fetch(url: str, method: str = "GET", headers: Headers | None = None, body: bytes = b"") -> Fetched:
    """Sends a request, and waits for the head of the response. The host must allow it (--allow-host)."""
    address = urlsplit(url)
    headers = list(headers or [])
    if (body or method in ("POST", "PUT", "PATCH")) and not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("content-length", str(len(body))))
    request = OutgoingRequest(_fields(headers))
    request.set_method(METHODS[method]() if method in METHODS else types.Method_Other(method))
    request.set_scheme(types.Scheme_Https() if address.scheme == "https" else types.Scheme_Http())
    request.set_authority(address.netloc)
    request.set_path_with_query((address.path or "/") + (f"?{address.query}" if address.query else ""))
    outgoing = request.body()
    try:
        future = outgoing_handler.handle(request, None)
    except Err as error:
        raise FetchError(_code(error.value)) from None
    try:
        with outgoing.write() as stream:
            _write(stream, body)
        OutgoingBody.finish(outgoing, None)
    except Err:
        pass  # The other side may answer before it has read everything. The response, or its error, tells.
    with future:
        with future.subscribe() as ready:
            ready.block()
        result = future.get()
    # A result in a result: the outer one tells whether the response was taken before.
    result = result.value if isinstance(result, Ok) else result
    if isinstance(result, Err):
        raise FetchError(_code(result.value))
    return Fetched(result.value if isinstance(result, Ok) else result)


def _code(code: object) -> str:
    name = type(code).__name__.removeprefix("ErrorCode_")
    # `HttpRequestDenied` to `HTTP-request-denied`, as the WIT has it.
    words = re.findall(r"[A-Z][a-z]*", name)
    upper = {"Http": "HTTP", "Dns": "DNS", "Tls": "TLS", "Ip": "IP", "Uri": "URI"}
    return "-".join(upper.get(word, word.lower()) for word in words)


def _fields(headers: Headers) -> Fields:
    return Fields.from_list([(name, value.encode("latin-1")) for name, value in headers])


def _chunks(body: IncomingBody) -> Iterator[bytes]:
    stream: InputStream
    with body:
        with body.stream() as stream:
            while True:
                try:
                    part = stream.blocking_read(CHUNK)
                except Err as error:
                    if isinstance(error.value, StreamError_Closed):
                        return
                    raise BodyError("the body broke off before its end") from None
                if part:
                    yield part


def _write(stream: OutputStream, data: bytes) -> None:
    while data:
        room = stream.check_write()
        if room == 0:
            with stream.subscribe() as ready:
                ready.block()
            continue
        stream.write(data[:room])
        data = data[room:]


def _write_parts(stream: OutputStream, parts: Iterable[str | bytes]) -> None:
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        try:
            _write(stream, data)
        except Err:
            return  # The client has gone.
    with contextlib.suppress(Err):
        stream.blocking_flush()


def _head(response: Response) -> OutgoingResponse:
    outgoing = OutgoingResponse(_fields(response.headers))
    if response.status != 200:
        outgoing.set_status_code(response.status)
    return outgoing


def _send(outgoing: OutgoingResponse, parts: Iterable[str | bytes], response_out: ResponseOutparam) -> None:
    body = outgoing.body()
    ResponseOutparam.set(response_out, Ok(outgoing))
    try:
        with body.write() as stream:
            if isinstance(parts, list) and len(parts) == 1 and len(parts[0]) <= AT_ONCE and isinstance(parts[0], bytes):
                try:
                    stream.blocking_write_and_flush(parts[0])
                except Err:
                    pass  # The client has gone.
            else:
                _write_parts(stream, parts)
    except Exception:
        # The parts could not be made, or what they are passed on from broke off. A body that is dropped without
        # `finish` is broken off, so that the client sees that it is not whole.
        _report()
        body.__exit__(None, None, None)
        return
    try:
        OutgoingBody.finish(body, None)
    except Err:
        # Not as long as its content-length says: the host breaks it off. Or the client has gone.
        print("the response's body was not taken whole", file=sys.stderr)
