"""RFC 9113, section 6: each kind of frame."""

import hyperframe.frame

from table import case
from wire import *

# Each kind of frame with a fixed size: (kind, stream, payload that is too short).
CUT = {
    "6.3": ("PRIORITY", PRIORITY, 1, b"\0\0\0\0"),
    "6.4": ("RST_STREAM", RST_STREAM, 1, b"\0\0\0"),
    "6.7": ("PING", PING, 0, b"1234567"),
    "6.9": ("WINDOW_UPDATE", WINDOW_UPDATE, 1, b"\0\0\x01"),
}
for _section, (_name, _kind, _stream, _payload) in CUT.items():

    @case(_section, f"{_name} of a wrong size")
    def _(c, kind=_kind, stream=_stream, payload=_payload):
        if stream:
            c.ask(1, method="POST", path="/api/echo", end=False)
        c.send(frame(kind, 0, stream, payload))
        if kind == PRIORITY:
            c.expect_stream_error(FRAME_SIZE_ERROR)
        else:
            c.expect_connection_error(FRAME_SIZE_ERROR)


# Frames that belong to a stream, and those that belong to the connection.
MISPLACED = [
    ("6.1", "DATA on stream 0", DATA, 0, b"x"),
    ("6.2", "HEADERS on stream 0", HEADERS, 0, b"\x82"),
    ("6.3", "PRIORITY on stream 0", PRIORITY, 0, b"\0\0\0\0\x10"),
    ("6.4", "RST_STREAM on stream 0", RST_STREAM, 0, b"\0\0\0\x08"),
    ("6.5", "SETTINGS on a stream", SETTINGS, 1, b""),
    ("6.6", "PUSH_PROMISE from a client", PUSH_PROMISE, 1, b"\0\0\0\x02\x82"),
    ("6.7", "PING on a stream", PING, 1, b"12345678"),
    ("6.8", "GOAWAY on a stream", GOAWAY, 1, b"\0\0\0\0\0\0\0\0"),
    ("6.10", "CONTINUATION on stream 0", CONTINUATION, 0, b"\x82"),
]
for _section, _rule, _kind, _stream, _payload in MISPLACED:

    @case(_section, _rule)
    def _(c, kind=_kind, stream=_stream, payload=_payload):
        if stream:
            c.ask(1, method="POST", path="/api/echo", end=False)
        c.send(frame(kind, END_HEADERS if kind in (HEADERS, PUSH_PROMISE, CONTINUATION) else 0, stream, payload))
        c.expect_connection_error(PROTOCOL_ERROR)


@case("6.1", "DATA padded beyond its end")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(DATA, END_STREAM | PADDED, 1, b"\x06hello"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("6.1", "DATA padded, without the length of its padding")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(DATA, END_STREAM | PADDED, 1, b""))
    c.expect_connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)


@case("6.1", "padding is no part of a body")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(DATA, PADDED, 1, b"\x03hello\0\0\0"), frame(DATA, END_STREAM | PADDED, 1, b"\x00"))
    _, body = c.expect_status(200)
    if body != b"hello":
        raise Wrong(f"{body!r}")


@case("6.2", "HEADERS padded beyond its end")
def _(c):
    block = c.block(c.fields())
    c.send(frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, bytes([len(block) + 1]) + block))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("6.2", "HEADERS with padding and priority")
def _(c):
    block = c.block(c.fields())
    payload = b"\x04\0\0\0\0\x10" + block + b"\0\0\0\0"
    c.send(frame(HEADERS, END_HEADERS | END_STREAM | PADDED | PRIORITIZED, 1, payload))
    c.expect_status(200)


@case("6.2", "HEADERS with a priority that is cut")
def _(c):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, b"\0\0\0"))
    c.expect_connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)


@case("6.5", "SETTINGS are acknowledged")
def _(c):
    c.send(settings((INITIAL_WINDOW_SIZE, 1000)))
    while True:
        got = c.read()
        if isinstance(got, hyperframe.frame.SettingsFrame) and "ACK" in got.flags:
            return


@case("6.5", "an acknowledgement with settings")
def _(c):
    c.send(settings((INITIAL_WINDOW_SIZE, 1000), flags=ACK))
    c.expect_connection_error(FRAME_SIZE_ERROR)


@case("6.5", "SETTINGS of a size that is no multiple of six")
def _(c):
    c.send(frame(SETTINGS, 0, 0, b"\0\x03\0\0\0"))
    c.expect_connection_error(FRAME_SIZE_ERROR)


BAD_SETTINGS = [
    ("ENABLE_PUSH of 2", ENABLE_PUSH, 2, PROTOCOL_ERROR),
    ("INITIAL_WINDOW_SIZE above 2^31-1", INITIAL_WINDOW_SIZE, 1 << 31, FLOW_CONTROL_ERROR),
    ("MAX_FRAME_SIZE below 2^14", MAX_FRAME_SIZE, 16383, PROTOCOL_ERROR),
    ("MAX_FRAME_SIZE above 2^24-1", MAX_FRAME_SIZE, 1 << 24, PROTOCOL_ERROR),
]
for _rule, _key, _value, _code in BAD_SETTINGS:

    @case("6.5.2", _rule)
    def _(c, key=_key, value=_value, code=_code):
        c.send(settings((key, value)))
        c.expect_connection_error(code)


@case("6.5.2", "unknown settings are ignored")
def _(c):
    c.send(settings((0xFF, 1), (0, 7)))
    c.expect_alive()


@case("6.5.3", "of two values of a setting the last one counts")
def _(c):
    c.send(settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)))
    c.ask(1)
    first_data(c, 1)


def next_ping(c):
    while True:
        got = c.read()
        if isinstance(got, hyperframe.frame.PingFrame):
            return got


@case("6.7", "PING is answered with its own bytes")
def _(c):
    c.send(frame(PING, 0, 0, b"\x01\x02\x03\x04\x05\x06\x07\x08"))
    got = next_ping(c)
    if "ACK" not in got.flags:
        raise Wrong(f"{got}")
    if got.opaque_data != b"\x01\x02\x03\x04\x05\x06\x07\x08":
        raise Wrong(f"{got.opaque_data!r}")


@case("6.7", "an answer to a PING is not answered")
def _(c):
    c.send(frame(PING, ACK, 0, b"no reply"), frame(PING, 0, 0, b"reply to"))
    got = next_ping(c)
    if got.opaque_data != b"reply to":
        raise Wrong(f"{got}")


@case("6.8", "a client's GOAWAY lets what it asked for come")
def _(c):
    c.ask(1, path="/")
    c.send(frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0"))
    c.expect_status(200)


@case("6.9", "an increment of 0 on the connection")
def _(c):
    c.send(window_update(0, 0))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("6.9", "an increment of 0 on a stream")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(window_update(1, 0))
    c.expect_stream_error(PROTOCOL_ERROR)


def first_data(c, size):
    """The next DATA frame is of that size."""
    while True:
        got = c.read()
        c.head(got)
        if isinstance(got, hyperframe.frame.GoAwayFrame):
            raise Wrong(f"GOAWAY {got.error_code}")
        if isinstance(got, hyperframe.frame.DataFrame) and (got.data or size == 0):
            if len(got.data) != size:
                raise Wrong(f"DATA of {len(got.data)} bytes instead of {size}")
            return


@case("6.9.1", "no more is sent than a stream's window allows")
def _(c):
    c.send(settings((INITIAL_WINDOW_SIZE, 3)))
    c.ask(1)
    first_data(c, 3)
    c.expect_alive()
    c.send(window_update(1, 2))
    first_data(c, 2)


@case("6.9.1", "a window of the connection above 2^31-1")
def _(c):
    c.send(window_update(0, (1 << 31) - 1), window_update(0, (1 << 31) - 1))
    c.expect_connection_error(FLOW_CONTROL_ERROR)


@case("6.9.1", "a window of a stream above 2^31-1")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(window_update(1, (1 << 31) - 1), window_update(1, (1 << 31) - 1))
    c.expect_stream_error(FLOW_CONTROL_ERROR)


@case("6.9.2", "a changed initial window counts for open streams")
def _(c):
    c.send(settings((INITIAL_WINDOW_SIZE, 0)))
    c.ask(1)
    c.send(settings((INITIAL_WINDOW_SIZE, 1)))
    first_data(c, 1)


@case("6.9.2", "a window may become negative")
def _(c):
    c.send(settings((INITIAL_WINDOW_SIZE, 3)))
    c.ask(1)
    first_data(c, 3)
    c.send(settings((INITIAL_WINDOW_SIZE, 2)), window_update(1, 2))
    first_data(c, 1)


@case("6.9.2", "an initial window that makes a stream's too large")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(window_update(1, 1 << 30), settings((INITIAL_WINDOW_SIZE, (1 << 31) - 1)))
    c.expect_connection_error(FLOW_CONTROL_ERROR)


@case("6.10", "a header block in several frames")
def _(c):
    # Not very many: those who count them (against floods) may stop at some.
    block = c.block(c.fields(("x-long", "x" * 500)))
    size = len(block) // 4 + 1
    pieces = [block[at : at + size] for at in range(0, len(block), size)]
    frames = [frame(HEADERS, END_STREAM, 1, pieces[0])]
    frames += [frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:-1]]
    c.send(*frames, frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
    c.expect_status(200)


@case("6.10", "CONTINUATION behind the end of a header block")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("6.10", "CONTINUATION behind DATA")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"\x82"))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("6.10", "CONTINUATION of another stream")
def _(c):
    block = c.block(c.fields())
    c.send(frame(HEADERS, END_STREAM, 1, block[:4]), frame(CONTINUATION, END_HEADERS, 3, block[4:]))
    c.expect_connection_error(PROTOCOL_ERROR)


@case("6.10", "CONTINUATION without end is not gathered for ever")
def _(c):
    c.send(frame(HEADERS, END_STREAM, 1, c.block(c.fields())))
    for _ in range(64):
        c.send(frame(CONTINUATION, 0, 1, c.block([("x-flood", "x" * 8000)])))
    c.expect_connection_error(ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR, FRAME_SIZE_ERROR)


@case("6.10", "empty CONTINUATIONs are not taken for ever")
def _(c):
    c.send(frame(HEADERS, END_STREAM, 1, c.block(c.fields())))
    for _ in range(100):
        c.send(frame(CONTINUATION, 0, 1, b"") * 100)
    c.expect_connection_error(ENHANCE_YOUR_CALM, PROTOCOL_ERROR)


@case("7", "unknown error codes do nothing special")
def _(c):
    c.ask(1, method="POST", path="/api/echo", end=False)
    c.send(reset(1, 0xFFFFFFFF))
    c.ask(3)
    c.expect_status(200, stream=3)


@case("10.5", "streams that are reset as soon as they are opened end the connection")
def _(c):
    for stream in range(1, 4001, 2):
        c.ask(stream, path="/api/hello")
        c.send(reset(stream))
    c.expect_connection_error(ENHANCE_YOUR_CALM)


@case("10.5", "PING, SETTINGS and empty DATA again and again do not fill the memory of the server")
def _(c):
    for _ in range(20):
        c.send(frame(PING, payload=b"12345678") * 100 + settings((INITIAL_WINDOW_SIZE, 1000)) * 20)
    # Either is fine: answers for all, or an end.
    try:
        c.expect_alive()
    except Wrong as wrong:
        ends = (f"GOAWAY {ENHANCE_YOUR_CALM}", "the connection is gone")
        if not any(end in str(wrong) for end in ends):
            raise
