//! Errors of a call to the Seed or a node.

use protoplex_fleet::TlsSetupError;
use protoplex_wire::{Digest, status::ApiError};

/// Why a call did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No member of this fleet answers at the URL, or not in time.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// URL that was called.
        url: String,
        /// Cause of the failure.
        reason: String,
    },
    /// The Seed refused the request.
    #[error("{} ({})", .error.message, .error.code)]
    Api {
        /// HTTP status of the response.
        status: u16,
        /// Error that the Seed answered with.
        error: ApiError,
    },
    /// The response is not what this version expects.
    #[error("a response that cannot be understood: {0}")]
    Protocol(String),
    /// The content is not what its digest says.
    #[error("the content is {found}, not {expected}")]
    Digest {
        /// Digest that was asked for.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// The content has so many bytes, more than the caller takes.
    #[error("the content has over {0} bytes")]
    TooLarge(u64),
    /// A line of the link that is no known message. After [`LinkFrameError::UnknownType`] the link goes on.
    ///
    /// [`LinkFrameError::UnknownType`]: protoplex_wire::link::LinkFrameError::UnknownType
    #[error(transparent)]
    Frame(#[from] protoplex_wire::link::LinkFrameError),
    /// The certificates or the key of this side cannot be used.
    #[error(transparent)]
    Identity(#[from] TlsSetupError),
    /// The URL that was given cannot be used.
    #[error("{0}")]
    Url(String),
}
