//! Bodies: one that is read, and one that is written.

use wasip3::{
    http::types::{ErrorCode, Request, Trailers},
    wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter},
    wit_future,
};

/// Bytes asked for at once: a few network reads.
const CHUNK_BYTES: usize = 64 << 10;

/// A body to read, or to hand on unread as an answer.
pub struct Body {
    pub(super) stream: StreamReader<u8>,
    pub(super) trailers: FutureReader<Result<Option<Trailers>, ErrorCode>>,
}

impl Body {
    pub(super) fn of(request: Request) -> Self {
        // Dropping the writer says that this side found nothing wrong with the body.
        let (_, result) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Request::consume_body(request, result);
        Self { stream, trailers }
    }

    /// The next piece, of at most 64 KiB. Nothing at the end of the body, and none of the pieces is empty.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        self.chunk_into(Vec::with_capacity(CHUNK_BYTES)).await
    }

    /// Like [`chunk`](Self::chunk), into a buffer whose capacity is used again.
    pub async fn chunk_into(&mut self, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        buffer.clear();
        let (result, buffer) = self.stream.read(buffer).await;
        match result {
            StreamResult::Complete(_) if !buffer.is_empty() => Some(buffer),
            _ => None,
        }
    }

    /// The whole of it, as far as it is at most `bytes_max` long.
    ///
    /// # Errors
    /// With what was read so far, when there is more.
    pub async fn bytes(mut self, bytes_max: usize) -> Result<Vec<u8>, Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await {
            all.extend_from_slice(&chunk);
            if all.len() > bytes_max {
                return Err(all);
            }
        }
        Ok(all)
    }
}

/// Where the pieces of a streamed answer go.
pub struct Sender {
    pub(super) stream: StreamWriter<u8>,
}

/// The visitor is not there any more; nothing that is sent will arrive.
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
