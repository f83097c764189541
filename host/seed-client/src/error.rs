//! Why a call failed.

use protoplex_fleet::TlsSetupError;
use protoplex_wire::{Digest, status::ApiError};

/// Why a call did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there, or not in time, or not as a member of this fleet.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The Seed says no.
    #[error("{} ({})", .error.message, .error.code)]
    Api {
        /// The status of the answer.
        status: u16,
        /// The Seed's error.
        error: ApiError,
    },
    /// The answer is not what this version expects.
    #[error("an answer that cannot be understood: {0}")]
    Protocol(String),
    /// The content is not what its digest says.
    #[error("the content is {found}, not {expected}")]
    Digest {
        /// Digest that was asked for.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// The content is larger than the caller takes.
    #[error("the content has over {0} bytes")]
    TooLarge(u64),
    /// A line of the link that is no known message. After [`FrameError::UnknownType`] the link goes on.
    ///
    /// [`FrameError::UnknownType`]: protoplex_wire::link::FrameError::UnknownType
    #[error(transparent)]
    Frame(#[from] protoplex_wire::link::FrameError),
    /// The certificates or the key of this side.
    #[error(transparent)]
    Identity(#[from] TlsSetupError),
    /// The URL that this side was given.
    #[error("{0}")]
    Url(String),
}
