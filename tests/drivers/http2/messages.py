"""RFC 9113, section 8: what makes a request malformed. It is answered with 400, or its stream is reset."""

from table import case
from wire import *

ECHO = {"method": "POST", "path": "/api/echo"}
REFUSED = (400, 404, 405, 421, 501)


def malformed(c, *fields):
    """Sends the fields as they are, as a whole request, which must not be taken for one."""
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block(fields)))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400,))


@case("8.1", "trailers end a request")
def _(c):
    c.ask(1, ("te", "trailers"), end=False, **ECHO)
    c.send(frame(DATA, 0, 1, b"hello"))
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block([("x-checksum", "1")])))
    _, body = c.expect_status(200)
    if body != b"hello":
        raise Wrong(f"{body!r}")


@case("8.1", "a second HEADERS frame that does not end the stream")
def _(c):
    c.ask(1, end=False, **ECHO)
    c.send(frame(DATA, 0, 1, b"hello"))
    c.send(frame(HEADERS, END_HEADERS, 1, c.block([("x-checksum", "1")])))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400,))


@case("8.1", "pseudo-fields in trailers")
def _(c):
    c.ask(1, end=False, **ECHO)
    c.send(frame(DATA, 0, 1, b"hello"))
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block([(":method", "GET")])))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400, 502))


@case("8.1.1", "less body than its length")
def _(c):
    c.ask(1, ("content-length", "10"), end=False, **ECHO)
    c.send(frame(DATA, END_STREAM, 1, b"hello"))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400, 502))


@case("8.1.1", "more body than its length")
def _(c):
    c.ask(1, ("content-length", "1"), end=False, **ECHO)
    c.send(frame(DATA, 0, 1, b"he"), frame(DATA, END_STREAM, 1, b"llo"))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400, 502))


@case("8.1.1", "a length and no body at all")
def _(c):
    malformed(c, *c.fields(("content-length", "1"), **ECHO))


@case("8.1.1", "trailers before the body is as long as it says")
def _(c):
    c.ask(1, ("content-length", "10"), end=False, **ECHO)
    c.send(frame(DATA, 0, 1, b"hello"))
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block([("x-checksum", "1")])))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400, 502))


for _length in ["", "+5", "-5", "0x5", "5 ", "5,5", "5, 6", "five", "99999999999999999999999"]:

    @case("8.1.1", f"a length of {_length!r}")
    def _(c, length=_length):
        c.ask(1, ("content-length", length), end=False, **ECHO)
        c.send(frame(DATA, END_STREAM, 1, b"hello"))
        c.expect_stream_error(PROTOCOL_ERROR, statuses=(400,))


@case("8.1.1", "two lengths")
def _(c):
    c.ask(1, ("content-length", "5"), ("content-length", "6"), end=False, **ECHO)
    c.send(frame(DATA, END_STREAM, 1, b"hello"))
    c.expect_stream_error(PROTOCOL_ERROR, statuses=(400,))


for _name in ["X-Upper", "x upper", "x\x7f", "x\x00y", "x\ny", "x\xe9", "x:y", "", " x", "x\ty", "x(y"]:

    @case("8.2.1", f"a field of the name {_name!r}")
    def _(c, name=_name):
        malformed(c, *c.fields((name.encode("latin-1"), b"1")))


for _value in ["a\0b", "a\rb", "a\nb", "a\r\nx-smuggled: 1", " a", "a ", "\ta", "a\t"]:

    @case("8.2.1", f"a field with the value {_value!r}")
    def _(c, value=_value):
        malformed(c, *c.fields(("x-value", value)))


for _name, _value in [
    ("connection", "keep-alive"),
    ("connection", "x-private"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "websocket"),
    ("te", "gzip"),
    ("te", "trailers, deflate"),
]:

    @case("8.2.2", f"a field of a connection: {_name}: {_value}")
    def _(c, name=_name, value=_value):
        malformed(c, *c.fields((name, value)))


@case("8.2.2", "te: trailers is allowed")
def _(c):
    c.ask(1, ("te", "trailers"))
    c.expect_status(200)


@case("8.2.3", "cookies in pieces are one")
def _(c):
    c.ask(1, ("cookie", "a=1"), ("cookie", "b=2"))
    c.expect_status(200)


for _name in [":method", ":scheme", ":path"]:

    @case("8.3.1", f"without {_name}")
    def _(c, name=_name):
        malformed(c, *c.fields(without=(name,)))

    @case("8.3.1", f"{_name} twice")
    def _(c, name=_name):
        fields = c.fields()
        malformed(c, *fields[:4], next(field for field in fields if field[0] == name))


@case("8.3.1", ":authority twice")
def _(c):
    malformed(c, *c.fields(), (":authority", c.target.authority))


@case("8.3.1", "without any authority")
def _(c):
    malformed(c, *c.fields(without=(":authority",)))


@case("8.3.1", "Host in place of :authority")
def _(c):
    c.ask(1, ("host", c.target.authority), without=(":authority",))
    c.expect_status(200)


@case("8.3.1", "Host against :authority")
def _(c):
    malformed(c, *c.fields(("host", "other.test")))


@case("8.3.1", "user and password in :authority")
def _(c):
    malformed(c, *c.fields((":authority", f"user@{c.target.authority}"), without=(":authority",)))


for _rule, _field in [
    ("an unknown pseudo-field", (":unknown", "1")),
    ("a pseudo-field of answers", (":status", "200")),
    (":protocol, which nobody announced", (":protocol", "websocket")),
]:

    @case("8.3", _rule)
    def _(c, field=_field):
        malformed(c, *c.fields(field))


@case("8.3", "a pseudo-field behind a field")
def _(c):
    malformed(c, ("x-first", "1"), *c.fields())


for _path in ["", "hello", "*", "http://other.test/hello", "/hel lo", "/hello\r\nx-smuggled: 1", "/\0", "/hello#part", "//\n"]:

    @case("8.3.1", f"a path of {_path!r}")
    def _(c, path=_path):
        malformed(c, *c.fields(path=path))


for _method in ["", "GE T", "GET /smuggled HTTP/1.1\r\nx: y", "G\0T", "GET\t"]:

    @case("8.3.1", f"a method of {_method!r}")
    def _(c, method=_method):
        malformed(c, *c.fields(method=method))


for _scheme in ["", "ht tp", "http://x/?", "http\r\nx: y"]:

    @case("8.3.1", f"a scheme of {_scheme!r}")
    def _(c, scheme=_scheme):
        malformed(c, *c.fields(without=(":scheme",))[:1], (":scheme", scheme), *c.fields()[2:])


for _authority in ["", "a b", "a/b", "a\r\nb", "a:port", "a?b", "a#b", "a\\b", "[::1"]:

    @case("8.3.1", f"an authority of {_authority!r}")
    def _(c, authority=_authority):
        malformed(c, *c.fields(without=(":authority",)), (":authority", authority))


@case("8.3.1", "OPTIONS * is allowed")
def _(c):
    c.ask(1, method="OPTIONS", path="*")
    c.expect_status(200, 204, *REFUSED)
    c.expect_alive()


@case("8.5", "CONNECT is refused, and the connection goes on")
def _(c):
    c.ask(1, method="CONNECT", without=(":scheme", ":path"))
    c.expect_stream_error(PROTOCOL_ERROR, CANCEL, REFUSED_STREAM, statuses=REFUSED, connection=False)
    c.expect_alive()


@case("8.5", "CONNECT with a path")
def _(c):
    malformed(c, *c.fields(method="CONNECT"))


@case("10.5.1", "a header list above the announced size")
def _(c):
    if MAX_HEADER_LIST_SIZE not in c.theirs:
        raise Wrong("no size is announced")
    block = c.block(c.fields(*[(f"x-{n}", "x" * 3000) for n in range(c.theirs[MAX_HEADER_LIST_SIZE] // 3000 + 1)]))
    pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    frames = [frame(HEADERS, END_STREAM, 1, pieces[0])]
    frames += [frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:-1]]
    c.send(*frames, frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
    c.expect_stream_error(PROTOCOL_ERROR, ENHANCE_YOUR_CALM, REFUSED_STREAM, statuses=(431,))


@case("10.5.1", "more fields than a head may have")
def _(c):
    c.ask(1, *[(f"x-{n}", "1") for n in range(300)])
    c.expect_stream_error(PROTOCOL_ERROR, ENHANCE_YOUR_CALM, REFUSED_STREAM, statuses=(431,))
