//! Bodies: one that is read, and one that is written.

use std::{error::Error, fmt, future::Future, pin::Pin};
use wasip3::{
    http::types::{ErrorCode, Request, Trailers},
    spawn_local,
    wit_bindgen::{FutureReader, StreamReader, StreamWriter},
    wit_future,
};

/// Bytes that are asked for at once: a few network reads.
const CHUNK_BYTES: usize = 64 << 10;

/// End of a body: whole, with trailers perhaps, or cut.
type Ended = Result<Option<Trailers>, ErrorCode>;

/// A body to read, or to send on unread as a response.
pub struct Body {
    stream: StreamReader<u8>,
    end: End,
}

/// Knowledge of a body's end. The host tells it apart from the bytes, which look the same whether the body is whole
/// or was cut.
enum End {
    Unread(FutureReader<Ended>),
    /// Kept, so that a read which is given up loses nothing.
    Reading(Pin<Box<dyn Future<Output = Ended>>>),
    Read(Ended),
}

/// Why a body could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The body was cut: its client left or broke the protocol, took too long, or a proxy or server on the way did. What
    /// was read of it is not all.
    Cut(ErrorCode),
    /// The body is longer than asked for.
    TooLarge,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(code) => write!(f, "the body was cut: {code:?}"),
            Self::TooLarge => write!(f, "the body is too large"),
        }
    }
}

impl Error for BodyError {}

impl Body {
    pub(super) fn of(request: Request) -> Self {
        // Dropping the writer says that this side found nothing wrong with the body.
        let (_, result) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Request::consume_body(request, result);
        let end = End::Unread(trailers);
        Self { stream, end }
    }

    /// Reads the next piece, of at most 64 KiB. `None` at the end of a whole body, and none of the pieces is empty.
    ///
    /// # Errors
    /// [`BodyError::Cut`]: there is no more, and the body is not whole. What came before looks like any other piece, so
    /// nothing may be done for good until `None` was read.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        self.chunk_into(Vec::with_capacity(CHUNK_BYTES)).await
    }

    /// Reads the next piece like [`chunk`](Self::chunk), into a buffer whose capacity is used again.
    ///
    /// # Errors
    /// Those of `chunk`.
    pub async fn chunk_into(&mut self, mut buffer: Vec<u8>) -> Result<Option<Vec<u8>>, BodyError> {
        buffer.clear();
        if let End::Unread(_) = self.end {
            buffer = self.stream.read(buffer).await.1;
        }
        if !buffer.is_empty() {
            return Ok(Some(buffer));
        }
        match self.end.read().await {
            Ok(_) => Ok(None),
            Err(code) => Err(BodyError::Cut(code.clone())),
        }
    }

    /// Reads the whole body, if it is at most `bytes_max` long.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when there is more, [`BodyError::Cut`] when it is not whole.
    pub async fn bytes(&mut self, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
            if all.len() > bytes_max {
                return Err(BodyError::TooLarge);
            }
        }
        Ok(all)
    }

    /// Returns the first trailer of that name, in any case, once the end was read: after `None` from
    /// [`chunk`](Self::chunk), or after [`bytes`](Self::bytes). Bytes that are not UTF-8 read as U+FFFD.
    pub fn trailer(&self, name: &str) -> Option<String> {
        let End::Read(Ok(Some(trailers))) = &self.end else {
            return None;
        };
        let values = trailers.get(name);
        let first = values.first();
        first.map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Splits the rest of the body into the parts that the standard's bindings have.
    pub(super) fn into_parts(self) -> (StreamReader<u8>, FutureReader<Ended>) {
        let end = match self.end {
            End::Unread(end) => end,
            mut known => {
                let (writer, end) = wit_future::new(|| Ok(None));
                spawn_local(async move {
                    let _ = known.read().await;
                    if let End::Read(ended) = known {
                        // Nobody may be left to hear it.
                        let _ = writer.write(ended).await;
                    }
                });
                end
            }
        };
        (self.stream, end)
    }
}

impl End {
    async fn read(&mut self) -> &Ended {
        // Nobody sees what stands there meanwhile.
        *self = match std::mem::replace(self, Self::Read(Ok(None))) {
            Self::Unread(end) => Self::Reading(Box::pin(end.into_future())),
            begun => begun,
        };
        if let Self::Reading(end) = self {
            let ended = end.await;
            *self = Self::Read(ended);
        }
        match self {
            Self::Read(ended) => ended,
            Self::Unread(_) | Self::Reading(_) => unreachable!("it was read above"),
        }
    }
}

/// Sender of the pieces of a streamed response.
pub struct Sender {
    pub(super) stream: StreamWriter<u8>,
}

/// The client has left; nothing that is sent will arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Sender {
    /// Sends a piece, and waits until it is taken.
    ///
    /// # Errors
    /// [`Gone`], and the handler should end.
    pub async fn send(&mut self, piece: impl Into<Vec<u8>>) -> Result<(), Gone> {
        let left = self.stream.write_all(piece.into()).await;
        if left.is_empty() { Ok(()) } else { Err(Gone) }
    }
}
