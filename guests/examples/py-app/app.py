"""An app handler in Python, for wasi:http 0.2: it answers, and sends a body back while it arrives."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

CHUNK_BYTES = 64 * 1024
# What one call of the standard takes at most.
WRITE_BYTES_MAX = 4096


class IncomingHandler(exports.IncomingHandler):
    """The export of this component; componentize-py finds it by its name."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = (request.path_with_query() or "/").split("?")[0]
        if path in ("/", "/py/hello"):
            answer(response_out, 200, b"hello from py-app\n")
        elif path == "/py/echo":
            echo(request, response_out)
        else:
            answer(response_out, 404, b"not found\n")


def answer(out: ResponseOutparam, status: int, text: bytes) -> None:
    body = start(out, status, [("content-length", str(len(text)).encode())])
    with body.write() as stream:
        stream.blocking_write_and_flush(text)
    OutgoingBody.finish(body, None)


def echo(request: IncomingRequest, out: ResponseOutparam) -> None:
    incoming = request.consume()
    outgoing = start(out, 200, [])
    with incoming.stream() as source, outgoing.write() as sink:
        while chunk := read(source):
            for offset in range(0, len(chunk), WRITE_BYTES_MAX):
                sink.blocking_write_and_flush(chunk[offset : offset + WRITE_BYTES_MAX])
    OutgoingBody.finish(outgoing, None)


def read(source) -> bytes:
    """The next piece; nothing at the end. Any other fault goes up, and the answer is cut."""
    try:
        return source.blocking_read(CHUNK_BYTES)
    except Err as error:
        if isinstance(error.value, StreamError_Closed):
            return b""
        raise


def start(out: ResponseOutparam, status: int, headers: list[tuple[str, bytes]]) -> OutgoingBody:
    fields = Fields.from_list([("content-type", b"text/plain; charset=utf-8"), *headers])
    response = OutgoingResponse(fields)
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    return body
