//! Chunked framing of a request's body, strictly: CRLF only, sizes in hexadecimal, short extensions and trailers.

use bytes::{Buf, Bytes, BytesMut};

/// Extensions of one chunk; nobody uses them, attackers do.
const EXTENSION_BYTES_MAX: usize = 256;
/// A size line: 16 digits and the extensions.
const SIZE_LINE_BYTES_MAX: usize = 16 + EXTENSION_BYTES_MAX;
/// All trailers together; they are checked and dropped.
const TRAILER_BYTES_MAX: usize = 8 << 10;
/// No body is larger.
const CHUNK_BYTES_MAX: u64 = 1 << 53;
/// Bytes that are handed over at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers(usize),
    Done,
}

/// Decodes from a buffer that grows.
#[derive(Debug)]
pub(super) struct Decoder(State);

/// What the buffer held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Data(Bytes),
    NeedsMore,
    End,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self(State::Size)
    }

    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match &mut self.0 {
                State::Size => {
                    let Some(line) = line(buffer, SIZE_LINE_BYTES_MAX)? else { return Ok(Decoded::NeedsMore) };
                    self.0 = match size(&line)? {
                        0 => State::Trailers(0),
                        size => State::Data(size),
                    };
                }
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedsMore);
                    }
                    let take = (buffer.len() as u64).min(*left).min(PIECE_BYTES_MAX);
                    *left -= take;
                    if *left == 0 {
                        self.0 = State::DataEnd;
                    }
                    return Ok(Decoded::Data(buffer.split_to(usize::try_from(take).unwrap_or(usize::MAX)).freeze()));
                }
                State::DataEnd => {
                    if buffer.len() < 2 {
                        return Ok(Decoded::NeedsMore);
                    }
                    if &buffer[..2] != b"\r\n" {
                        return Err("a chunk is longer than its size");
                    }
                    buffer.advance(2);
                    self.0 = State::Size;
                }
                State::Trailers(seen) => {
                    let Some(line) = line(buffer, TRAILER_BYTES_MAX - *seen)? else { return Ok(Decoded::NeedsMore) };
                    if line.is_empty() {
                        self.0 = State::Done;
                    } else {
                        check_trailer(&line)?;
                        *seen = (*seen + line.len() + 2).min(TRAILER_BYTES_MAX);
                    }
                }
                State::Done => return Ok(Decoded::End),
            }
        }
    }
}

/// One line without its CRLF.
fn line(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, &'static str> {
    match buffer.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > max => Err("a chunk's line is too long"),
        Some(0) => Err("a chunk's line ends with LF alone"),
        Some(at) if buffer[at - 1] != b'\r' => Err("a chunk's line ends with LF alone"),
        Some(at) => {
            let line = buffer.split_to(at - 1).freeze();
            buffer.advance(2);
            if line.contains(&b'\r') { Err("CR stands alone in a chunk's line") } else { Ok(Some(line)) }
        }
        None if buffer.len() > max => Err("a chunk's line is too long"),
        None => Ok(None),
    }
}

fn size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let rest = line[digits..].trim_ascii_start();
    if !rest.is_empty() && rest[0] != b';' || rest.is_empty() && digits != line.len() {
        return Err("a chunk's size is no number");
    }
    let text = std::str::from_utf8(&line[..digits]).unwrap_or_default();
    let size = u64::from_str_radix(text, 16).map_err(|_| "a chunk's size is no number")?;
    if size > CHUNK_BYTES_MAX { Err("a chunk is too large") } else { Ok(size) }
}

fn check_trailer(line: &[u8]) -> Result<(), &'static str> {
    let name = line.iter().position(|&byte| byte == b':').map(|at| &line[..at]);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match name {
        Some(name) if !name.is_empty() && name.iter().all(token) => Ok(()),
        _ => Err("a trailer is malformed"),
    }
}
