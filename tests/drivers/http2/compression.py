"""RFC 7541: header blocks that a decoder must refuse, and some that it must take."""

from table import case
from wire import *


def block(c, *parts):
    """A request's fields without the dynamic table, and then these bytes."""
    return c.encoder.encode(c.fields(), huffman=False) + b"".join(parts)


def send(c, payload, stream=1):
    c.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, payload))


# What comes behind a good request's fields, and must make its block an error.
BAD = [
    ("2.3.3", "index 0", b"\x80"),
    ("2.3.3", "an index beyond both tables", b"\xff\x80\x01"),
    ("6.2", "the name of an index beyond both tables", b"\x7f\x80\x01\x01a"),
    ("6.2.2", "the same, without indexing", b"\x0f\x80\x02\x01a"),
    ("4.2", "a change of the table's size at the end of a block", b"\x20"),
    ("4.2", "a change of the table's size between fields", b"\x20\x82"),
    ("5.1", "an integer that overflows", b"\xff" + b"\xff" * 10 + b"\x7f"),
    ("5.1", "an integer with more zeros than any needs", b"\xff" + b"\x80" * 20 + b"\x00"),
    ("5.1", "an integer that is cut", b"\xff\xff"),
    ("5.1", "a string's length that overflows", b"\x00\x7f" + b"\xff" * 10 + b"\x7f"),
    ("5.2", "a string that ends behind the block", b"\x00\x01a\x0ab"),
    ("5.2", "a name that ends behind the block", b"\x00\x0aab"),
    ("5.2", "a field without its value", b"\x00\x01a"),
    # `a` is 00011 in Huffman's code: one byte with three bits of padding, 00011111.
    ("5.2", "Huffman padding of a whole byte", b"\x00\x01x\x82\x1f\xff"),
    ("5.2", "Huffman padding of zeros", b"\x00\x01x\x81\x18"),
    ("5.2", "EOS in a string", b"\x00\x01x\x84\xff\xff\xff\xff"),
    ("5.2", "EOS behind a character", b"\x00\x01x\x85\x1f\xff\xff\xff\xff"),
]
for _section, _rule, _bytes in BAD:

    @case(f"HPACK {_section}", _rule)
    def _(c, payload=_bytes):
        send(c, block(c, payload))
        c.expect_connection_error(COMPRESSION_ERROR)


@case("HPACK 6.3", "a table larger than the server allows")
def _(c):
    send(c, b"\x3f\xe1\xff\x03" + block(c))
    c.expect_connection_error(COMPRESSION_ERROR)


@case("HPACK 4.2", "a smaller table at the start of a block is taken")
def _(c):
    send(c, b"\x20" + b"\x3f\x01" + block(c))
    c.expect_status(200)


@case("HPACK 4.4", "an entry that was evicted")
def _(c):
    # Literal with indexing, then a table of size 0, then index 62.
    send(c, c.encoder.encode(c.fields(without=(":authority",))) + b"\x40\x04host" + string(c.target.authority))
    c.expect_status(200)
    send(c, b"\x20\xbe", stream=3)
    c.expect_connection_error(COMPRESSION_ERROR)


def string(text):
    return bytes([len(text)]) + text.encode()


def without_table(c, path):
    """Method, scheme and authority as literals that no table keeps, and the path."""
    fields = dict(c.fields(path=path))
    return b"".join(b"\x00" + string(name) + string(value) for name, value in fields.items())


@case("HPACK 2.3.2", "an entry of the dynamic table is found again")
def _(c):
    send(c, without_table(c, "/whoami") + b"\x40\x0auser-agent\x05first")
    _, body = c.expect_status(200)
    send(c, without_table(c, "/whoami") + b"\xbe", stream=3)
    _, again = c.expect_status(200, stream=3)
    for said in [body, again]:
        if b'"agent":"first"' not in said:
            raise Wrong(f"{said!r}")


@case("HPACK 6.2.3", "fields that are never indexed, and Huffman's code")
def _(c):
    # `www.example.com` of RFC 7541, appendix C.4.1.
    huffman = bytes.fromhex("8cf1e3c2e5f23a6ba0ab90f4ff")
    send(c, without_table(c, "/whoami") + b"\x10\x0auser-agent" + huffman)
    _, body = c.expect_status(200)
    if b"www.example.com" not in body:
        raise Wrong(f"{body!r}")


@case("HPACK 4.3", "a client without a table gets answers that use none")
def _(c):
    c.send(settings((HEADER_TABLE_SIZE, 0)))
    c.expect_alive()
    c.decoder.max_allowed_table_size = 0
    for stream in [1, 3]:
        c.ask(stream)
        c.expect_status(200, stream=stream)
