//! Types that cross a process or a network: manifest, release, link messages, status.
//!
//! No I/O and no clock. Unknown fields are ignored on the link and refused in a manifest.

pub mod digest;
pub mod directory;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod link;
pub mod manifest;
mod names;
mod outgoing_grant;
pub mod release;
pub mod role;
pub mod signature;
pub mod status;
mod upstream_ref;

pub use digest::Digest;
pub use manifest::Manifest;
pub use outgoing_grant::{NoOutgoingGrant, OutgoingGrant};
pub use release::{BuildId, ReleaseId};
pub use role::Role;
pub use upstream_ref::{NoUpstreamRef, UpstreamRef};
