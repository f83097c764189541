"""One HTTP/2 connection, frame by frame. Nothing here keeps a client from breaking the rules."""

import socket
import ssl
import struct
from dataclasses import dataclass

import hpack
import hyperframe.frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Whatever is waited for has come by then, or never will.
STEP_SECONDS = 10.0

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL = 5, 6, 8


class Wrong(Exception):
    """The server did something else than the rule says."""


class Closed(Exception):
    """The connection is at its end."""


@dataclass
class Target:
    """Where the server is, and whether it is spoken to over TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def authority(self):
        return f"{self.host}:{self.port}"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs, flags=0, stream=0):
    return frame(SETTINGS, flags, stream, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


class Connection:
    """A connection whose settings have been exchanged, unless `raw`."""

    def __init__(self, target, *pairs, raw=False):
        self.target = target
        self.socket = socket.create_connection((target.host, target.port), STEP_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.tls:
            self.socket = target.tls.wrap_socket(self.socket, server_hostname="localhost")
            if self.socket.selected_alpn_protocol() != "h2":
                raise Wrong("ALPN did not choose h2")
        self.buffer = b""
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.blocks = {}
        self.theirs = {}
        if not raw:
            self.send(PREFACE, settings(*pairs))
            self.exchange()

    def close(self):
        self.socket.close()

    def send(self, *frames):
        try:
            self.socket.sendall(b"".join(frames))
        except OSError:
            # What the server said before it closed is still to be read.
            pass

    def exchange(self):
        """Reads the server's settings and its word on ours."""
        acknowledged = False
        while not (self.theirs and acknowledged):
            got = self.read()
            if isinstance(got, hyperframe.frame.GoAwayFrame):
                raise Wrong(f"GOAWAY {got.error_code} to a good preface")
            if isinstance(got, hyperframe.frame.SettingsFrame):
                if "ACK" in got.flags:
                    acknowledged = True
                else:
                    self.theirs = dict(got.settings) or {0: 0}
                    self.send(settings(flags=ACK))

    def fill(self, count):
        while len(self.buffer) < count:
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                raise Wrong("nothing came in time") from None
            except OSError as error:
                raise Closed(str(error)) from None
            if not piece:
                raise Closed("end")
            self.buffer += piece

    def read(self):
        """The next frame, as hyperframe reads it."""
        self.fill(9)
        got, length = hyperframe.frame.Frame.parse_frame_header(memoryview(self.buffer[:9]))
        self.fill(9 + length)
        got.parse_body(memoryview(self.buffer[9 : 9 + length]))
        self.buffer = self.buffer[9 + length :]
        return got

    # What a client sends.

    def fields(self, *more, method="GET", path="/hello", without=()):
        """The fields of a good request, those in `without` left out, and `more` behind them."""
        usual = [
            (":method", method),
            (":scheme", "https" if self.target.tls else "http"),
            (":path", path),
            (":authority", self.target.authority),
        ]
        return [field for field in usual if field[0] not in without] + list(more)

    def block(self, fields):
        return self.encoder.encode(fields)

    def ask(self, stream, *more, end=True, **usual):
        """Sends the head of a request."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.send(frame(HEADERS, flags, stream, self.block(self.fields(*more, **usual))))

    # What a server must do.

    def head(self, got):
        """The fields of a block that ends with this frame, by stream; else `None`."""
        if isinstance(got, (hyperframe.frame.HeadersFrame, hyperframe.frame.ContinuationFrame)):
            block = self.blocks.pop(got.stream_id, b"") + got.data
            if "END_HEADERS" in got.flags:
                return self.decoder.decode(block)
            self.blocks[got.stream_id] = block
        return None

    def answer(self, stream=1):
        """Reads a whole answer: its fields and its body."""
        fields, body = None, b""
        while True:
            got = self.read()
            if isinstance(got, hyperframe.frame.GoAwayFrame) and got.error_code != NO_ERROR:
                raise Wrong(f"GOAWAY {got.error_code} instead of an answer")
            head = self.head(got)
            if got.stream_id != stream:
                continue
            if isinstance(got, hyperframe.frame.RstStreamFrame):
                # NO_ERROR behind an answer: the rest of the request is not wanted.
                raise Wrong(f"RST_STREAM {got.error_code} instead of an answer")
            if head is not None and fields is None:
                fields = dict(head)
                if fields[":status"].startswith("1"):
                    fields = None
            if isinstance(got, hyperframe.frame.DataFrame):
                body += got.data
            if "END_STREAM" in got.flags:
                return fields, body

    def expect_status(self, *statuses, stream=1):
        fields, body = self.answer(stream)
        if int(fields[":status"]) not in statuses:
            raise Wrong(f"{fields[':status']} instead of {statuses}: {body[:200]!r}")
        return fields, body

    def expect_alive(self):
        """The connection goes on as if nothing had happened."""
        self.send(frame(PING, payload=b"is alive"))
        while True:
            try:
                got = self.read()
            except Closed as end:
                raise Wrong(f"the connection is gone: {end}") from None
            self.head(got)
            if isinstance(got, hyperframe.frame.GoAwayFrame):
                raise Wrong(f"GOAWAY {got.error_code}")
            if isinstance(got, hyperframe.frame.PingFrame) and got.opaque_data == b"is alive":
                return

    def expect_connection_error(self, *codes):
        """GOAWAY with one of the codes, and then the end of the connection (RFC 9113, section 5.4.1)."""
        said = None
        while True:
            try:
                got = self.read()
            except Closed:
                break
            self.head(got)
            if isinstance(got, hyperframe.frame.GoAwayFrame):
                said = got.error_code
                if said != NO_ERROR and said not in codes:
                    raise Wrong(f"GOAWAY {said} instead of {codes}")
        if said is None:
            raise Wrong("the connection was closed without GOAWAY")

    def expect_stream_error(self, *codes, stream=1, statuses=(), connection=True):
        """RST_STREAM with one of the codes; GOAWAY with one of them (section 5.4.2 allows it); or a whole answer with
        one of the statuses, where the rule is one of HTTP (section 8.1.1). An answer may have begun, not ended."""
        answered = None
        while True:
            try:
                got = self.read()
            except Closed as end:
                raise Wrong(f"the connection was closed without a word: {end}") from None
            head = self.head(got)
            if isinstance(got, hyperframe.frame.GoAwayFrame) and got.error_code != NO_ERROR:
                if connection and got.error_code in codes:
                    return
                raise Wrong(f"GOAWAY {got.error_code} instead of a stream's error {codes}")
            if got.stream_id != stream:
                continue
            if isinstance(got, hyperframe.frame.RstStreamFrame):
                if got.error_code in codes:
                    return
                raise Wrong(f"RST_STREAM {got.error_code} instead of {codes}")
            if head is not None:
                answered = int(dict(head)[":status"])
            if "END_STREAM" in got.flags:
                if answered in statuses:
                    return
                raise Wrong(f"it was answered with {answered}")
