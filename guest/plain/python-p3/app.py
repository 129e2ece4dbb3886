"""Hello for wasi 0.3: `componentize-py bindings` writes the modules that it imports, for an editor to read."""

import wit_world
from componentize_py_async_support import spawn
from componentize_py_async_support.streams import ByteStreamReader, ByteStreamWriter
from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import wasi_http_types as types
from wit_world.imports.wasi_http_types import Fields, Request, Response

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

# The names that componentize-py makes of the two types of future that a body needs.
trailers_future = wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future
transmission_future = wit_world.result_unit_wasi_http_types_error_code_future

# Lives as long as the instance, from request to request.
count = 0


class Handler(exports.Handler):
    async def handle(self, request: Request) -> Response:
        global count
        method = method_of(request)
        path_with_query = request.get_path_with_query() or "/"
        match method, path_with_query.partition("?")[0]:
            case "GET", "/":
                return answer(200, "Hello, World!")
            case "POST", "/echo":
                return echo(request)
            case "GET", "/headers":
                agent = header(request, "user-agent") or "-"
                return answer(200, f"method: {method}\npath: {path_with_query}\nuser-agent: {agent}\n")
            case "GET", "/count":
                count += 1
                return answer(200, str(count))
            case _:
                return answer(404, "not found")


def method_of(request: Request) -> str:
    method = request.get_method()
    return method.value if isinstance(method, types.Method_Other) else METHODS[type(method)]


def header(request: Request, name: str) -> str | None:
    with request.get_headers() as headers:
        values = headers.get(name)
    return values[0].decode("utf-8", "replace") if values else None


def response_of(status: int, content_type: str, body: ByteStreamReader, trailers) -> Response:
    headers = Fields.from_list([("content-type", content_type.encode())])
    response, _transmission = Response.new(headers, body, trailers)
    response.set_status_code(status)
    return response


def answer(status: int, text: str) -> Response:
    """The text is written once the host reads it, after `handle` has returned the head."""
    writer, body = wit_world.byte_stream()
    _, trailers = trailers_future(lambda: Ok(None))
    spawn(write(writer, text.encode()))
    return response_of(status, "text/plain", body, trailers)


async def write(writer: ByteStreamWriter, data: bytes) -> None:
    with writer:
        await writer.write_all(data)


def echo(request: Request) -> Response:
    """Hands the request's body and trailers on as the answer's: no byte passes through Python."""
    content_type = header(request, "content-type") or "application/octet-stream"
    _, transmitted = transmission_future(lambda: Ok(None))
    body, trailers = Request.consume_body(request, transmitted)
    return response_of(200, content_type, body, trailers)
