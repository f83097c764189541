//! Newline-delimited frames out of a stream of chunks, with a bound on the longest.

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use protoplex_wire::link::FRAME_BYTES_MAX;

/// Why there are no further lines.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// A line above [`FRAME_BYTES_MAX`].
    #[error("a frame has over {FRAME_BYTES_MAX} bytes")]
    TooLong,
    /// The stream broke, for this reason.
    #[error("the stream broke: {0}")]
    Broken(String),
}

/// Lines of a stream. Reading is cancel safe: what was read of a line is kept.
pub struct FrameLines<S> {
    stream: S,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no newline.
    searched: usize,
}

impl<S, E> FrameLines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    /// Reads lines from `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// Reads the next line without its newline; `None` at the end. Empty lines are skipped; a last line needs no
    /// newline.
    ///
    /// # Errors
    /// The stream broke or a line is too long; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Bytes, LineError>> {
        loop {
            if let Some(line) = self.take_line() {
                if line.len() > FRAME_BYTES_MAX {
                    return Some(Err(LineError::TooLong));
                }
                if line.is_empty() {
                    continue;
                }
                return Some(Ok(line));
            }
            if self.buffer.len() > FRAME_BYTES_MAX {
                return Some(Err(LineError::TooLong));
            }
            match self.stream.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Some(Err(LineError::Broken(error.to_string()))),
                None if self.buffer.is_empty() => return None,
                None => {
                    self.searched = 0;
                    return Some(Ok(self.buffer.split().freeze()));
                }
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let unread = &self.buffer[self.searched..];
        let Some(at) = unread.iter().position(|b| *b == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + at).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(chunks: &[&str]) -> Vec<Result<String, String>> {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|c| Ok::<_, String>(Bytes::copy_from_slice(c.as_bytes())))
            .collect();
        let mut lines = FrameLines::new(futures::stream::iter(chunks));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            let failed = line.is_err();
            all.push(
                line.map(|l| String::from_utf8(l.to_vec()).unwrap())
                    .map_err(|e| e.to_string()),
            );
            if failed {
                break;
            }
        }
        all
    }

    #[tokio::test]
    async fn lines_do_not_depend_on_where_chunks_end() {
        let expected = [
            Ok("one".to_owned()),
            Ok("two".to_owned()),
            Ok("three".to_owned()),
        ];
        assert_eq!(lines(&["one\ntwo\n\nthree"]).await, expected);
        assert_eq!(
            lines(&["on", "e", "\n", "two\nth", "ree\n"]).await,
            expected
        );
        assert_eq!(lines(&[]).await, []);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_at_the_limit() {
        let long = "x".repeat(FRAME_BYTES_MAX / 2 + 1);
        let read = lines(&[&long, &long, &long]).await;
        assert!(matches!(&read[..], [Err(error)] if error.contains("frame")));
    }
}
