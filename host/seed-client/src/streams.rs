//! Response bodies, in chunks and in lines.

use crate::{ClientError, exchange::causes};
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use protoplex_fleet::lines::{FrameLines, LineError};
use protoplex_wire::status::ReleaseEvent;
use std::time::Duration;

/// Longest time between two chunks of a body that is expected to flow.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// A response whose body has not been read yet.
pub struct StreamedResponse {
    response: Response<Incoming>,
}

impl StreamedResponse {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        Self { response }
    }

    /// Status of the response.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Headers of the response.
    pub fn headers(&self) -> &http::HeaderMap {
        self.response.headers()
    }

    /// Reads the next chunk; `None` at the end. Waits as long as it takes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            match self.response.body_mut().frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => continue,
                },
                Err(error) => {
                    return Some(Err(ClientError::Unreachable {
                        url: "the answer".to_owned(),
                        reason: causes(&error),
                    }));
                }
            }
        }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// More than `bytes_max`, nothing for [`CHUNK_TIMEOUT`], or the connection broke.
    pub async fn collect(mut self, bytes_max: u64) -> Result<Bytes, ClientError> {
        let announced = hyper::body::Body::size_hint(self.response.body()).lower();
        if announced > bytes_max {
            return Err(ClientError::TooLarge(bytes_max));
        }
        let mut all = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        loop {
            let chunk = tokio::time::timeout(CHUNK_TIMEOUT, self.chunk()).await;
            let chunk = chunk.map_err(|_| ClientError::Unreachable {
                url: "the answer".to_owned(),
                reason: format!("nothing more for {} s", CHUNK_TIMEOUT.as_secs()),
            })?;
            match chunk {
                None => return Ok(all.freeze()),
                Some(chunk) => all.extend_from_slice(&chunk?),
            }
            if all.len() as u64 > bytes_max {
                return Err(ClientError::TooLarge(bytes_max));
            }
        }
    }

    pub(super) fn lines(self) -> FrameLines<BodyDataStream<Incoming>> {
        FrameLines::new(self.response.into_body().into_data_stream())
    }
}

/// Stream of the events of a release, until `finished`.
pub struct ReleaseEvents {
    lines: FrameLines<BodyDataStream<Incoming>>,
}

impl ReleaseEvents {
    pub(super) fn new(response: StreamedResponse) -> Self {
        Self {
            lines: response.lines(),
        }
    }

    /// Reads the next event; `None` after the last one. Cancel safe.
    ///
    /// # Errors
    /// The Seed is gone (the release goes on, or is reverted when it starts again), or speaks otherwise.
    pub async fn next(&mut self) -> Option<Result<ReleaseEvent, ClientError>> {
        let line = match self.lines.next().await? {
            Ok(line) => line,
            Err(error) => return Some(Err(broken(error))),
        };
        Some(serde_json::from_slice(&line).map_err(|e| ClientError::Protocol(e.to_string())))
    }
}

pub(super) fn broken(error: LineError) -> ClientError {
    match error {
        LineError::TooLong => ClientError::Protocol(error.to_string()),
        LineError::Broken(reason) => ClientError::Unreachable {
            url: "the stream".to_owned(),
            reason,
        },
    }
}
