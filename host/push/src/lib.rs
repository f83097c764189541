//! Pushing: `builds/*.toml` and the files it names go in, a signed build at the Seed and a release come out.
//!
//! Knows nothing of terminals: what happens is told to a [`PushProgress`].

mod adopt;
pub mod assets;
pub mod diff;
mod fault;
mod package;
mod push;
mod reader;
mod source;
mod strict;
mod words;

pub use adopt::upload_missing;
pub use fault::{SourceFault, SourceFaults, nearest};
pub use package::{Blob, Inspect, Inspected, Package, SOURCE_BYTES_MAX, locate, package};
use protoplex_wire::manifest::defaults;
pub use push::{PushError, PushOptions, PushProgress, ReleaseEnd, UPLOADS_MAX, follow, push};
