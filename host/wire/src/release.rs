//! Builds and the orders to run them.

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The id of a build: the digest of its canonical manifest.
pub type BuildId = Digest;

/// Number of a release, in the Seed's total order. A node refuses any that is lower than one it has taken, for ever.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ReleaseId {
    /// Epoch, which grows by one when an operator ends a hold.
    pub epoch: u64,
    /// Sequence, which grows by one with every release of the epoch.
    pub sequence: u64,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

/// Stage of a release at which a node failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A blob could not be fetched from the Seed.
    Fetch,
    /// A blob or the manifest is not what its digest says.
    Digest,
    /// The build is unsigned, or signed by a key that this node does not trust.
    Signature,
    /// A component does not compile.
    Compile,
    /// A component imports or exports what its world and grants do not have.
    Link,
    /// An instance could not be made, or its probe failed.
    WarmUp,
    /// The build asks for more than the node has.
    Limit,
    /// The message is unknown to this node, or comes out of order.
    Protocol,
}

impl fmt::Display for Stage {
    /// The word that serde writes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
