//! Chunked framing of a message's body, strictly: CRLF only, sizes in hexadecimal, short extensions and trailers.

use crate::trailers::{self, may_trail};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Most bytes of the extensions of one chunk; nobody uses them, attackers do.
const EXTENSION_BYTES_MAX: usize = 256;
/// Most bytes of extensions in a whole body: a byte of content shall not cost hundreds of others.
const EXTENSIONS_BYTES_MAX: usize = 16 << 10;
/// Most digits of a size: 64 bits.
const SIZE_DIGITS_MAX: usize = 16;
/// Most bytes of a size line: the digits, the extension and CR.
const SIZE_LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + EXTENSION_BYTES_MAX + 1;
/// Largest size of a chunk; no body is larger.
const CHUNK_BYTES_MAX: u64 = 1 << 53;
/// Most bytes that are handed over at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug)]
enum ChunkState {
    Size,
    Data(u64),
    DataEnd,
    Trailers(usize),
    Done,
}

/// Side that writes the chunks. Two readers of a request may take it for two requests, so a client's chunks are read
/// strictly. A server's are read by nobody but us, who write them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkWriter {
    /// A client keeps to the standard, or is refused.
    Client,
    /// A server may pad a size: zeros before it, spaces and tabs behind it.
    Server,
}

/// Decoder of one body, from a buffer that grows.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    writer: ChunkWriter,
    state: ChunkState,
    /// Trailers that followed the last chunk, without those that may be none.
    trailers: Option<Box<HeaderMap>>,
    trailers_size: trailers::TrailersSize,
    /// Bytes of extensions and padding so far.
    extensions_bytes: usize,
}

/// What a call of [`ChunkDecoder::decode`] found in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodedChunk {
    /// A piece of the body.
    Data(Bytes),
    /// The buffer holds nothing whole any more.
    NeedsMore,
    /// The body is over; what is left in the buffer stands behind it.
    End,
}

impl ChunkDecoder {
    /// Makes a decoder that stands before the first chunk.
    pub fn new(writer: ChunkWriter) -> Self {
        Self {
            writer,
            state: ChunkState::Size,
            trailers: None,
            trailers_size: trailers::TrailersSize::default(),
            extensions_bytes: 0,
        }
    }

    /// Takes the trailers, once, after the end.
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

    /// Takes as much as it can out of the buffer.
    ///
    /// # Errors
    /// The bytes are no chunks, or exceed a limit.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<DecodedChunk, &'static str> {
        loop {
            match &mut self.state {
                ChunkState::Size => {
                    let Some(line) = line(buffer, SIZE_LINE_BYTES_MAX)? else {
                        return Ok(DecodedChunk::NeedsMore);
                    };
                    let (size, extension) = size(&line, self.writer)?;
                    self.extensions_bytes += extension;
                    if self.extensions_bytes > EXTENSIONS_BYTES_MAX {
                        return Err("the chunks' extensions are too long");
                    }
                    self.state = match size {
                        0 => ChunkState::Trailers(0),
                        size => ChunkState::Data(size),
                    };
                }
                ChunkState::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(DecodedChunk::NeedsMore);
                    }
                    let take = (buffer.len() as u64).min(*left).min(PIECE_BYTES_MAX);
                    *left -= take;
                    if *left == 0 {
                        self.state = ChunkState::DataEnd;
                    }
                    return Ok(DecodedChunk::Data(
                        buffer
                            .split_to(usize::try_from(take).unwrap_or(usize::MAX))
                            .freeze(),
                    ));
                }
                ChunkState::DataEnd => {
                    if buffer.len() < 2 {
                        return Ok(DecodedChunk::NeedsMore);
                    }
                    if &buffer[..2] != b"\r\n" {
                        return Err("a chunk is longer than its size");
                    }
                    buffer.advance(2);
                    self.state = ChunkState::Size;
                }
                ChunkState::Trailers(seen) => {
                    let Some(line) = line(buffer, trailers::BYTES_MAX - *seen)? else {
                        return Ok(DecodedChunk::NeedsMore);
                    };
                    if line.is_empty() {
                        self.state = ChunkState::Done;
                    } else {
                        *seen = (*seen + line.len() + 2).min(trailers::BYTES_MAX);
                        self.keep_trailer(&line)?;
                    }
                }
                ChunkState::Done => return Ok(DecodedChunk::End),
            }
        }
    }
}

/// Takes one line out of the buffer, without its CRLF.
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

/// Reads a size line: the size, and the length of its extension and padding.
fn size(line: &[u8], writer: ChunkWriter) -> Result<(u64, usize), &'static str> {
    let (line, padding) = match writer {
        ChunkWriter::Client => (line, 0),
        ChunkWriter::Server => {
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

/// Takes padding off a size line: zeros before the size but the last one, and white space at the end.
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

/// Whether bytes are an extension: nothing, or a semicolon (spaces may stand before it) and text.
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
