"""RFC 9113, sections 3 to 5: preface, frames, header blocks and the states of streams."""

from table import case
from wire import *

# Answered over some seconds, so that its stream is open on the server's side while a case breaks a rule.
UNENDED = "/api/stream"


@case("3.4", "an invalid preface is no HTTP/2 connection", raw=True)
def _(c):
    c.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    try:
        while True:
            c.fill(len(c.buffer) + 1)
    except Closed:
        pass
    if c.buffer[9:13] == b" 200":
        raise Wrong("it was answered")


def refused_preface(c):
    """An error of the connection, whose GOAWAY may be left out."""
    while True:
        try:
            got = c.read()
        except Closed:
            return
        if got.__class__.__name__ == "PingFrame" or c.head(got):
            raise Wrong("it was answered")


@case("3.4", "the first frame is SETTINGS: not PING", raw=True)
def _(c):
    c.send(PREFACE, frame(PING, payload=b"12345678"))
    refused_preface(c)


@case("3.4", "the first frame is SETTINGS: not HEADERS", raw=True)
def _(c):
    c.send(PREFACE, frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block(c.fields())))
    refused_preface(c)


@case("3.4", "requests may follow the preface at once", raw=True)
def _(c):
    c.send(PREFACE, settings(), frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block(c.fields())))
    c.expect_status(200)


@case("4.1", "frames of unknown type are ignored")
def _(c):
    c.send(frame(0x16, 0xFF, 0, b"12345678"), frame(0x42, 0, 7, b""))
    c.expect_alive()


@case("4.1", "undefined flags are ignored")
def _(c):
    c.send(frame(PING, 0xFE & ~ACK, 0, b"is alive"))
    c.expect_alive()


@case("4.1", "the reserved bit is ignored")
def _(c):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 0x80000001, c.block(c.fields())))
    c.expect_status(200)


@case("4.2", "a frame of 16,384 bytes is taken")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(DATA, END_STREAM, 1, b"x" * 16384))
    _, body = c.expect_status(200)
    if len(body) != 16384:
        raise Wrong(f"{len(body)} bytes came back")


@case("4.2", "a DATA frame above the maximum")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(DATA, END_STREAM, 1, b"x" * 16385))
    c.expect_stream_error(FRAME_SIZE_ERROR)


@case("4.2", "a HEADERS frame above the maximum")
def _(c):
    block = c.block(c.fields(("x-long", "x" * 30000)))
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    c.expect_connection_error(FRAME_SIZE_ERROR)


@case("4.2", "a SETTINGS frame above the maximum")
def _(c):
    c.send(settings(*[(0xF000, 1)] * 3000))
    c.expect_connection_error(FRAME_SIZE_ERROR)


@case("4.3", "a header block that cannot be decoded")
def _(c):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
    c.expect_connection_error(COMPRESSION_ERROR)


def half(c, stream=1):
    """The first half of a header block; the second is returned."""
    block = c.block(c.fields(("x-more", "1")))
    c.send(frame(HEADERS, END_STREAM, stream, block[:4]))
    return block[4:]


@case("4.3", "PRIORITY inside a header block")
def _(c):
    half(c)
    c.send(frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("4.3", "HEADERS of another stream inside a header block")
def _(c):
    rest = half(c)
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, rest))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("4.3", "DATA inside a header block")
def _(c):
    half(c)
    c.send(frame(DATA, END_STREAM, 1, b"x"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("4.3", "PING inside a header block")
def _(c):
    half(c)
    c.send(frame(PING, payload=b"12345678"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("5.5", "a frame of unknown type inside a header block")
def _(c):
    half(c)
    c.send(frame(0x16, 0, 1, b"x"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: DATA")
def _(c):
    c.send(frame(DATA, END_STREAM, 1, b"x"))
    c.expect_connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1", "idle: RST_STREAM")
def _(c):
    c.send(reset(1))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: WINDOW_UPDATE")
def _(c):
    c.send(window_update(1, 100))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: CONTINUATION")
def _(c):
    c.send(frame(CONTINUATION, END_HEADERS, 1, c.block(c.fields())))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: PRIORITY is allowed")
def _(c):
    c.send(frame(PRIORITY, 0, 5, b"\0\0\0\0\x10"))
    c.ask(1)
    c.expect_status(200)
    c.expect_alive()


@case("5.1", "half-closed (remote): DATA")
def _(c):
    c.ask(1, path=UNENDED)
    c.send(frame(DATA, END_STREAM, 1, b"x"))
    c.expect_stream_error(STREAM_CLOSED)


@case("5.1", "half-closed (remote): HEADERS")
def _(c):
    c.ask(1, path=UNENDED)
    c.ask(1)
    c.expect_stream_error(STREAM_CLOSED)


@case("5.1", "half-closed (remote): CONTINUATION")
def _(c):
    c.ask(1)
    c.send(frame(CONTINUATION, END_HEADERS, 1, c.block(c.fields())))
    c.expect_connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1", "half-closed (remote): WINDOW_UPDATE, PRIORITY and RST_STREAM are allowed")
def _(c):
    c.ask(1)
    c.send(window_update(1, 10), frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"), reset(1))
    c.expect_alive()


@case("5.1", "closed by the client's reset: DATA")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(reset(1), frame(DATA, END_STREAM, 1, b"x"))
    c.expect_stream_error(STREAM_CLOSED)


@case("5.1", "closed by the client's reset: HEADERS")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(reset(1))
    c.ask(1)
    c.expect_stream_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1", "closed by both ends: DATA")
def _(c):
    c.ask(1)
    c.expect_status(200)
    c.send(frame(DATA, END_STREAM, 1, b"x"))
    c.expect_stream_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1", "closed by both ends: HEADERS")
def _(c):
    c.ask(1)
    c.expect_status(200)
    c.ask(1)
    c.expect_connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1", "closed by both ends: CONTINUATION")
def _(c):
    c.ask(1)
    c.expect_status(200)
    c.send(frame(CONTINUATION, END_HEADERS, 1, c.block(c.fields())))
    c.expect_connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1", "closed by both ends: WINDOW_UPDATE and RST_STREAM of a moment ago are allowed")
def _(c):
    c.ask(1)
    c.expect_status(200)
    c.send(window_update(1, 10), reset(1, NO_ERROR))
    c.expect_alive()


@case("5.1.1", "a stream of even number")
def _(c):
    c.ask(2)
    c.expect_connection_error(PROTOCOL_ERROR)


@case("5.1.1", "a stream of a smaller number than one before")
def _(c):
    c.ask(5)
    c.expect_status(200, stream=5)
    c.ask(3)
    c.expect_connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1.2", "more streams than allowed")
def _(c):
    allowed = c.theirs[MAX_CONCURRENT_STREAMS]
    last = 2 * allowed + 1
    for stream in range(1, last + 1, 2):
        c.ask(stream, method="POST", path="/api/echo", end=False)
    c.expect_stream_error(PROTOCOL_ERROR, REFUSED_STREAM, stream=last)


@case("5.3", "a stream that depends on itself is no worse than priorities that are ignored")
def _(c):
    block = c.block(c.fields())
    c.send(frame(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, b"\0\0\0\x01\x10" + block))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(200,))


@case("5.4.1", "the last stream stands in the GOAWAY of an error")
def _(c):
    c.ask(1)
    c.expect_status(200)
    c.send(frame(PING, 0, 0, b"short"))
    while True:
        got = c.read()
        if got.__class__.__name__ == "GoAwayFrame":
            if got.last_stream_id != 1:
                raise Wrong(f"GOAWAY names {got.last_stream_id}")
            return
