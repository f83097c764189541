//! Bodies of requests as JSON.

use super::fault::ApiFault;
use axum::body::Body;
use serde::de::DeserializeOwned;

/// Most bytes of a JSON body: a question about 60,000 blobs fits.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Reads a JSON body, whatever its content type is called.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiFault> {
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let bytes = bytes
        .map_err(|error| ApiFault::bad_request(format!("the body cannot be read: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiFault::bad_request(format!("the body is not right: {error}")))
}
