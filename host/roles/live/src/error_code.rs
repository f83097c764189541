//! Words for programs that say why something was not done: in the channel protocol and in the HTTP API.

use serde::Serialize;

/// Why a command, or an item of the HTTP API, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ErrorCode {
    /// What was asked cannot be read, or makes no sense here.
    BadRequest,
    /// The right to it has ended.
    Expired,
    /// The rules of the build, or a token, do not allow it.
    Forbidden,
    /// More bytes than there may be.
    TooLarge,
    /// More subscriptions or subscribers than there may be.
    TooMany,
    /// Not possible now; a later try may be.
    Unavailable,
    /// There is no such namespace.
    Unknown,
}
