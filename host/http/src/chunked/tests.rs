//! Chunked bodies as attackers write them, and as clients do.

use super::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The body, and what stands behind it; `None` while it is unfinished.
type Read = Result<Option<(Vec<u8>, Vec<u8>)>, &'static str>;

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    read_of(ChunkWriter::Client, pieces)
}

fn read_of<'a>(writer: ChunkWriter, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut decoder, mut buffer, mut body) =
        (ChunkDecoder::new(writer), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                DecodedChunk::Data(data) => body.extend_from_slice(&data),
                DecodedChunk::NeedsMore => break,
                // Bytes behind the body arrive later, or stand behind it already.
                DecodedChunk::End => {}
            }
            if decoder.is_done() {
                break;
            }
        }
    }
    Ok(decoder.is_done().then(|| (body, buffer.to_vec())))
}

impl ChunkDecoder {
    fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }
}

/// `ok`, `refused` or `unfinished`.
fn verdict(bytes: &[u8]) -> &'static str {
    match read([bytes]) {
        Ok(Some(_)) => "ok",
        Ok(None) => "unfinished",
        Err(_) => "refused",
    }
}

#[test]
fn a_servers_chunk_sizes_may_be_padded_and_a_clients_not() {
    let zeros = "0".repeat(250);
    for (size, of_server) in [
        ("5 ", "ok"),
        ("5 \t", "ok"),
        ("5\t;a=b \t", "ok"),
        ("00000000000000005", "ok"),
        (&format!("{zeros}5"), "ok"),
        (&format!("{zeros}{zeros}5"), "refused"),
        ("10000000000000005", "refused"),
        (" 5", "refused"),
        ("5 5", "refused"),
        ("5 x", "refused"),
        ("00x5", "refused"),
        (" ", "refused"),
        ("", "refused"),
    ] {
        let text = format!("{size}\r\nhello\r\n000 \r\n\r\n");
        let read = read_of(ChunkWriter::Server, [text.as_bytes()]);
        match of_server {
            "ok" => assert_eq!(read, Ok(Some((b"hello".to_vec(), vec![]))), "{size:?}"),
            _ => assert!(read.is_err(), "{size:?}: {read:?}"),
        }
        assert_eq!(verdict(text.as_bytes()), "refused", "{size:?} of a client");
    }
}

#[test]
fn chunk_framing_is_read_strictly() {
    for (bytes, expected) in [
        (&b"0\r\n\r\n"[..], "ok"),
        (b"5\r\nhello\r\n0\r\n\r\n", "ok"),
        (b"00005\r\nhello\r\n000\r\n\r\n", "ok"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", "ok"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", "ok"),
        (b"5;a=b\r\nhello\r\n0\r\n\r\n", "ok"),
        (b"5 ;a=\"b\"\r\nhello\r\n0;x\r\n\r\n", "ok"),
        (b"5\t;a\r\nhello\r\n0\r\n\r\n", "ok"),
        (b"5\r\nhello\r\n", "unfinished"),
        (b"5\r\nhello\r\n0\r\n", "unfinished"),
        (b"5\r\nhello\r\n0\r\n\r", "unfinished"),
        // Sizes.
        (b"\r\n", "refused"),
        (b"\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"g\r\n", "refused"),
        (b"0x5\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"+5\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"-5\r\nhello\r\n0\r\n\r\n", "refused"),
        (b" 5\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5 \r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5 5\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5,\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5_0\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5\x0c;a\r\nhello\r\n0\r\n\r\n", "refused"),
        (b";a\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"00000000000000005\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"10000000000000005\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"ffffffffffffffff\r\n", "refused"),
        (b"20000000000001\r\n", "refused"),
        (b"20000000000000\r\n", "unfinished"),
        // Line ends.
        (b"5\nhello\r\n0\r\n\r\n", "refused"),
        (b"5\r\nhello\n0\r\n\r\n", "refused"),
        (b"5\r\nhello\r\n0\n\r\n", "refused"),
        (b"5\r\nhello\r\n0\r\n\n", "refused"),
        (b"5\r\nhello0\r\n\r\n", "refused"),
        (b"5\r\nhelloo\r\n0\r\n\r\n", "refused"),
        (b"6\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5\r\rhello\r\n0\r\n\r\n", "refused"),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5\r\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5;a\nhello\r\n0\r\n\r\n", "refused"),
        (b"5;a\0b\r\nhello\r\n0\r\n\r\n", "refused"),
        (b"5;a\x7f\r\nhello\r\n0\r\n\r\n", "refused"),
        // Trailers.
        (b"0\r\nX: y\r\n\r\n", "ok"),
        (b"0\r\nX:\r\nY: \xff\r\n\r\n", "ok"),
        (b"0\r\nX\r\n\r\n", "refused"),
        (b"0\r\n: y\r\n\r\n", "refused"),
        (b"0\r\nX : y\r\n\r\n", "refused"),
        (b"0\r\nX: y\r\n folded\r\n\r\n", "refused"),
        (b"0\r\nX: y\n\r\n", "refused"),
        (b"0\r\nX: a\0b\r\n\r\n", "refused"),
        (b"0\r\nX: a\rb\r\n\r\n", "refused"),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", "refused"),
    ] {
        assert_eq!(
            verdict(bytes),
            expected,
            "{:?}",
            bytes.escape_ascii().to_string()
        );
    }
}

#[test]
fn trailers_that_would_frame_or_route_are_dropped() {
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
    ] {
        let body = format!("2\r\nhi\r\n0\r\n{name}: 7\r\n\r\nGET /next");
        let read = read([body.as_bytes()]);
        assert_eq!(
            read,
            Ok(Some((b"hi".into(), b"GET /next".into()))),
            "{name}"
        );
    }
}

#[test]
fn extensions_and_trailers_have_an_end() {
    let extended = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes - 1));
    let ended = |body: String| verdict((body + "0\r\n\r\n").as_bytes());
    assert_eq!(ended(extended(256)), "ok");
    assert_eq!(ended(extended(257)), "refused");
    assert_eq!(verdict(&b"1;".repeat(200)), "refused");
    assert_eq!(ended(extended(256).repeat(64)), "ok");
    assert_eq!(ended(extended(256).repeat(64) + &extended(2)), "refused");
    // A body without extensions may have as many chunks as it likes.
    assert_eq!(ended("1\r\nx\r\n".repeat(20_000)), "ok");
    let trailers = |count: usize| format!("0\r\n{}\r\n", "X: 45678\r\n".repeat(count));
    assert_eq!(verdict(trailers(100).as_bytes()), "ok");
    assert_eq!(verdict(trailers(101).as_bytes()), "refused");
    for (bytes, verdict_of) in [(16_000, "ok"), (17_000, "refused")] {
        let large = [b"0\r\nX: ", &b"y".repeat(bytes)[..], b"\r\n\r\n"].concat();
        assert_eq!(verdict(&large), verdict_of);
    }
}

#[test]
fn a_large_chunk_is_handed_over_piece_by_piece() {
    let (mut decoder, mut buffer) = (
        ChunkDecoder::new(ChunkWriter::Client),
        BytesMut::from("100000\r\n"),
    );
    buffer.extend_from_slice(&vec![b'x'; 1 << 20]);
    for _ in 0..16 {
        let Ok(DecodedChunk::Data(piece)) = decoder.decode(&mut buffer) else {
            panic!("a piece is missing");
        };
        assert_eq!(piece.len(), 64 << 10);
    }
    assert_eq!(decoder.decode(&mut buffer), Ok(DecodedChunk::NeedsMore));
}

/// A random body, mostly sound.
fn random_body(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let data: Vec<u8> = (0..random.random_range(1..20))
            .map(|_| random.random())
            .collect();
        let extension = ["", "", ";a=b", " ;c"][random.random_range(0..4)];
        bytes.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(
        ["0\r\n\r\n", "0\r\nX: y\r\n\r\nrest"][random.random_range(0..2)].as_bytes(),
    );
    for _ in 0..random.random_range(0..3) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..3) {
            0 => bytes[at] = random.random(),
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, b"\r\n ;0f\0"[random.random_range(0..7)]),
        }
    }
    bytes
}

#[test]
fn a_body_in_pieces_is_read_as_the_body_at_once() {
    let mut random = StdRng::seed_from_u64(2);
    let mut sound = 0;
    for _ in 0..20_000 {
        let body = random_body(&mut random);
        let whole = read([&body[..]]);
        sound += usize::from(matches!(whole, Ok(Some(_))));
        let cut = random.random_range(0..=body.len());
        assert_eq!(
            read(body.chunks(1)),
            whole,
            "{:?}",
            body.escape_ascii().to_string()
        );
        assert_eq!(read([&body[..cut], &body[cut..]]), whole);
    }
    assert!(sound > 5000, "only {sound} bodies were sound");
}

#[test]
fn chunks_end_only_where_the_body_does() {
    let mut out = Vec::new();
    chunk(&mut out, b"");
    chunk(&mut out, b"hello, chunked world");
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "content-length"] {
        trailers.insert(name, HeaderValue::from_static("7"));
    }
    last_chunk(&mut out, Some(&trailers));
    assert_eq!(out, b"14\r\nhello, chunked world\r\n0\r\nx-sum: 7\r\n\r\n");
}
