//! Types that cross a process or a network: manifest, release, link messages, status.
//!
//! No I/O and no clock. Unknown fields are ignored on the link and refused in a manifest.

pub mod digest;
pub mod directory;
pub mod link;
pub mod manifest;
pub mod release;
pub mod role;
pub mod signature;
pub mod status;

pub use digest::Digest;
pub use manifest::Manifest;
pub use release::{BuildId, ReleaseId};
pub use role::Role;
