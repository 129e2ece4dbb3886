"""Hello for wasi 0.2: `componentize-py bindings` writes the modules that it imports, for an editor to read."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

METHODS = {
    types.Method_Get: "GET",
    types.Method_Head: "HEAD",
    types.Method_Post: "POST",
    types.Method_Put: "PUT",
    types.Method_Delete: "DELETE",
    types.Method_Connect: "CONNECT",
    types.Method_Options: "OPTIONS",
    types.Method_Trace: "TRACE",
    types.Method_Patch: "PATCH",
}

# Lives as long as the instance, from request to request.
count = 0


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        global count
        method = method_of(request)
        path_with_query = request.path_with_query() or "/"
        match method, path_with_query.partition("?")[0]:
            case "GET", "/":
                answer(response_out, 200, "Hello, World!")
            case "POST", "/echo":
                echo(request, response_out)
            case "GET", "/headers":
                agent = header(request, "user-agent") or "-"
                answer(response_out, 200, f"method: {method}\npath: {path_with_query}\nuser-agent: {agent}\n")
            case "GET", "/count":
                count += 1
                answer(response_out, 200, str(count))
            case _:
                answer(response_out, 404, "not found")


def method_of(request: IncomingRequest) -> str:
    method = request.method()
    return method.value if isinstance(method, types.Method_Other) else METHODS[type(method)]


def header(request: IncomingRequest, name: str) -> str | None:
    with request.headers() as headers:
        values = headers.get(name)
    return values[0].decode("utf-8", "replace") if values else None


def begin(response_out: ResponseOutparam, status: int, content_type: str) -> OutgoingBody:
    """Sends the head; what is left to do is the body."""
    response = OutgoingResponse(Fields.from_list([("content-type", content_type.encode())]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    return body


def answer(response_out: ResponseOutparam, status: int, text: str) -> None:
    body = begin(response_out, status, "text/plain")
    with body.write() as sink:
        sink.blocking_write_and_flush(text.encode())  # at most 4096 bytes a call
    OutgoingBody.finish(body, None)


def echo(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    """Sends the body back as it comes: the host moves the bytes from stream to stream, none passes through Python."""
    content_type = header(request, "content-type") or "application/octet-stream"
    incoming = request.consume()
    outgoing = begin(response_out, 200, content_type)
    with incoming.stream() as source, outgoing.write() as sink:
        try:
            while True:
                sink.blocking_splice(source, 64 * 1024)
        except Err as error:
            if not isinstance(error.value, StreamError_Closed):
                raise
    IncomingBody.finish(incoming)
    OutgoingBody.finish(outgoing, None)
