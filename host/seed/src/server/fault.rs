//! Responses to requests that are not done: one place that maps causes to statuses.

use crate::{
    core::OrderRefusal,
    store::{BlobError, StoreError},
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use protoplex_wire::status::{ApiCode, ApiError};

/// An error response: a status and an [`ApiError`].
#[derive(Debug)]
pub(super) struct ApiFault {
    status: StatusCode,
    error: ApiError,
}

impl ApiFault {
    pub(super) fn new(status: StatusCode, code: ApiCode, message: impl Into<String>) -> Self {
        Self {
            status,
            error: ApiError {
                code: code.into(),
                message: message.into(),
            },
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.error.message
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ApiCode::Forbidden, message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ApiCode::Request, message)
    }

    pub(super) fn not_found(code: ApiCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// Makes the response for a build that is refused for what it is.
    pub(super) fn build(code: ApiCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    pub(super) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ApiCode::Stopping,
            "the Seed is stopping; try again",
        )
    }
}

impl IntoResponse for ApiFault {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(
                code = self.error.code,
                message = self.error.message,
                "a request to the Seed failed"
            );
        }
        (self.status, Json(self.error)).into_response()
    }
}

impl From<OrderRefusal> for ApiFault {
    fn from(refusal: OrderRefusal) -> Self {
        let (status, code) = match refusal {
            OrderRefusal::Busy { .. } => (StatusCode::CONFLICT, ApiCode::Busy),
            OrderRefusal::Conflict { .. } => (StatusCode::CONFLICT, ApiCode::Conflict),
            OrderRefusal::NotHeld => (StatusCode::CONFLICT, ApiCode::NotHeld),
            OrderRefusal::NotRunning(_) => (StatusCode::CONFLICT, ApiCode::NotRunning),
            OrderRefusal::Storage(_) => (StatusCode::INSUFFICIENT_STORAGE, ApiCode::Storage),
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl From<StoreError> for ApiFault {
    fn from(error: StoreError) -> Self {
        let (status, message) = match error.is_full() {
            true => (
                StatusCode::INSUFFICIENT_STORAGE,
                format!(
                    "the Seed's disk is full ({error}); `protoplex gc` removes builds that are not kept, and `rollback` works without room"
                ),
            ),
            false => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        Self::new(status, ApiCode::Storage, message)
    }
}

impl From<BlobError> for ApiFault {
    fn from(error: BlobError) -> Self {
        let (status, code) = match error {
            BlobError::Absent(_) => (StatusCode::NOT_FOUND, ApiCode::Blob),
            BlobError::Damaged(_) => (StatusCode::INTERNAL_SERVER_ERROR, ApiCode::Digest),
            BlobError::OtherContent { .. } => (StatusCode::BAD_REQUEST, ApiCode::Digest),
            BlobError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, ApiCode::Limit),
            BlobError::Store(error) => return error.into(),
        };
        Self::new(status, code, error.to_string())
    }
}
