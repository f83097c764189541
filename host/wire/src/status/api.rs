//! Errors of the Seed's and the meta port's API.

use crate::release::Stage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The body of every error of the Seed's and the meta port's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Code for programs: a word of [`ApiCode`], or of another version's.
    pub code: String,
    /// Message for people: what was wrong and what to do instead.
    pub message: String,
}

/// Why a request to the Seed's or the meta port's API was not done, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiCode {
    /// There is no such blob.
    Blob,
    /// There is no such build.
    Build,
    /// A release is under way.
    Busy,
    /// A component does not compile.
    Compile,
    /// Another build is active than the one the order was made against.
    Conflict,
    /// The content is not what its digest says.
    Digest,
    /// A blob could not be fetched.
    Fetch,
    /// The certificate is of somebody who may not ask this.
    Forbidden,
    /// A fault of the server's own.
    Internal,
    /// The request is for more than there may be.
    Limit,
    /// A component imports or exports what its world and grants do not have.
    Link,
    /// The manifest cannot be read, or contradicts itself.
    Manifest,
    /// The path is there for another method.
    Method,
    /// Blobs must be uploaded first.
    MissingBlobs,
    /// There is no build to go back to.
    NoRollback,
    /// The Seed does not hold, so nothing is to be adopted.
    NotHeld,
    /// No connected node runs the build.
    NotRunning,
    /// There is nothing at the path.
    Path,
    /// The message is not known, or comes out of order.
    Protocol,
    /// The request cannot be read.
    Request,
    /// The build is unsigned, or signed by a key that is not trusted.
    Signature,
    /// The process is about to end.
    Stopping,
    /// The disk cannot be written or read.
    Storage,
    /// The request did not come in time.
    Timeout,
    /// An instance could not be made, or its probe failed.
    WarmUp,
}

impl ApiCode {
    /// Word of the code, as [`ApiError::code`] has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Build => "build",
            Self::Busy => "busy",
            Self::Compile => "compile",
            Self::Conflict => "conflict",
            Self::Digest => "digest",
            Self::Fetch => "fetch",
            Self::Forbidden => "forbidden",
            Self::Internal => "internal",
            Self::Limit => "limit",
            Self::Link => "link",
            Self::Manifest => "manifest",
            Self::Method => "method",
            Self::MissingBlobs => "missing-blobs",
            Self::NoRollback => "no-rollback",
            Self::NotHeld => "not-held",
            Self::NotRunning => "not-running",
            Self::Path => "path",
            Self::Protocol => "protocol",
            Self::Request => "request",
            Self::Signature => "signature",
            Self::Stopping => "stopping",
            Self::Storage => "storage",
            Self::Timeout => "timeout",
            Self::WarmUp => "warm-up",
        }
    }
}

impl fmt::Display for ApiCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<ApiCode> for String {
    fn from(code: ApiCode) -> Self {
        code.as_str().to_owned()
    }
}

impl From<Stage> for ApiCode {
    /// Maps a stage at which a build fails to the code for it.
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Fetch => Self::Fetch,
            Stage::Digest => Self::Digest,
            Stage::Signature => Self::Signature,
            Stage::Compile => Self::Compile,
            Stage::Link => Self::Link,
            Stage::WarmUp => Self::WarmUp,
            Stage::Limit => Self::Limit,
            Stage::Protocol => Self::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_the_same_word_in_a_release_and_in_an_answer() {
        for stage in [
            Stage::Fetch,
            Stage::Digest,
            Stage::Signature,
            Stage::Compile,
            Stage::Link,
            Stage::WarmUp,
            Stage::Limit,
            Stage::Protocol,
        ] {
            assert_eq!(ApiCode::from(stage).as_str(), stage.to_string());
        }
    }
}
