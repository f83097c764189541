//! Chunked framing of a message's body, strictly: CRLF only, sizes in hexadecimal, short extensions and trailers.

use crate::trailers::{self, may_trail};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Extensions of one chunk; nobody uses them, attackers do.
const EXTENSION_BYTES_MAX: usize = 256;
/// Extensions of a whole body: a byte of content shall not cost hundreds of others.
const EXTENSIONS_BYTES_MAX: usize = 16 << 10;
/// 64 bits.
const SIZE_DIGITS_MAX: usize = 16;
/// A size line: the digits, the extension and CR.
const SIZE_LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + EXTENSION_BYTES_MAX + 1;
/// No body is larger.
const CHUNK_BYTES_MAX: u64 = 1 << 53;
/// Bytes that are handed over at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers(usize),
    Done,
}

/// The side that writes the chunks. Two readers of a request may take it for two requests, so a client's are read strictly. A
/// server's are read by nobody but us, who write them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Keeps to the standard, or is refused.
    Client,
    /// May pad a size: zeros before it, spaces and tabs behind it.
    Server,
}

/// Decodes from a buffer that grows.
#[derive(Clone, Debug)]
pub struct Decoder {
    writer: Writer,
    state: State,
    /// Headers that followed the last chunk and concern no connection.
    trailers: Option<Box<HeaderMap>>,
    trailers_size: trailers::Size,
    /// Bytes of extensions so far, and of padding.
    extensions_bytes: usize,
}

/// The content of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A piece of the body.
    Data(Bytes),
    /// The buffer holds nothing whole any more.
    NeedsMore,
    /// The body is over; what is left in the buffer stands behind it.
    End,
}

impl Decoder {
    /// Begins before the first chunk.
    pub fn new(writer: Writer) -> Self {
        Self {
            writer,
            state: State::Size,
            trailers: None,
            trailers_size: trailers::Size::default(),
            extensions_bytes: 0,
        }
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    fn keep_trailer(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = trailer(line)?;
        let added = self.trailers_size.add(line.len());
        added.map_err(|_| "the trailers are too large")?;
        if may_trail(&name) {
            let trailers = self.trailers.get_or_insert_default();
            trailers.append(name, value);
        }
        Ok(())
    }

    /// Takes what it can out of the buffer.
    ///
    /// # Errors
    /// The bytes are no chunks, or a limit of theirs is exceeded.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match &mut self.state {
                State::Size => {
                    let Some(line) = line(buffer, SIZE_LINE_BYTES_MAX)? else {
                        return Ok(Decoded::NeedsMore);
                    };
                    let (size, extension) = size(&line, self.writer)?;
                    self.extensions_bytes += extension;
                    if self.extensions_bytes > EXTENSIONS_BYTES_MAX {
                        return Err("the chunks' extensions are too long");
                    }
                    self.state = match size {
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
                        self.state = State::DataEnd;
                    }
                    return Ok(Decoded::Data(
                        buffer
                            .split_to(usize::try_from(take).unwrap_or(usize::MAX))
                            .freeze(),
                    ));
                }
                State::DataEnd => {
                    if buffer.len() < 2 {
                        return Ok(Decoded::NeedsMore);
                    }
                    if &buffer[..2] != b"\r\n" {
                        return Err("a chunk is longer than its size");
                    }
                    buffer.advance(2);
                    self.state = State::Size;
                }
                State::Trailers(seen) => {
                    let Some(line) = line(buffer, trailers::BYTES_MAX - *seen)? else {
                        return Ok(Decoded::NeedsMore);
                    };
                    if line.is_empty() {
                        self.state = State::Done;
                    } else {
                        *seen = (*seen + line.len() + 2).min(trailers::BYTES_MAX);
                        self.keep_trailer(&line)?;
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
            if line.contains(&b'\r') {
                Err("CR stands alone in a chunk's line")
            } else {
                Ok(Some(line))
            }
        }
        None if buffer.len() > max => Err("a chunk's line is too long"),
        None => Ok(None),
    }
}

/// The size that a line announces, and how long its extension is, with what pads it.
fn size(line: &[u8], writer: Writer) -> Result<(u64, usize), &'static str> {
    let (line, padding) = match writer {
        Writer::Client => (line, 0),
        Writer::Server => {
            let bare = unpadded(line);
            (bare, line.len() - bare.len())
        }
    };
    let digits = line
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let (digits, extension) = line.split_at(digits);
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX || !is_extension(extension) {
        return Err("a chunk's size is no number");
    }
    let extension_bytes = extension.len() + padding;
    if extension_bytes > EXTENSION_BYTES_MAX {
        return Err("a chunk's extension is too long");
    }
    let size = digits.iter().fold(0, |size: u64, &digit| {
        size << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or_default())
    });
    if size > CHUNK_BYTES_MAX {
        Err("a chunk is too large")
    } else {
        Ok((size, extension_bytes))
    }
}

/// A size line without zeros before the size, but the last one, and without white space at its end.
fn unpadded(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    while let [b'0', rest @ ..] = line
        && rest.first().is_some_and(u8::is_ascii_hexdigit)
    {
        line = rest;
    }
    line
}

/// Nothing, or a semicolon (spaces may stand before it) and text.
fn is_extension(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|byte| !is_space(*byte));
    match start {
        Some(start) => bytes[start] == b';' && bytes.iter().copied().all(is_text),
        None => bytes.is_empty(),
    }
}

fn trailer(line: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    const MALFORMED: &str = "a trailer is malformed";
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(MALFORMED)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let name = HeaderName::from_bytes(name).map_err(|_| MALFORMED)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| MALFORMED)?;
    Ok((name, value))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether a byte may stand in a header's value: no control characters.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 127)
}

/// Appends one chunk.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the end of a chunked body.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&http::HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if may_trail(name) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
