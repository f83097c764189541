//! A request in a child, as routes, decisions and roles get it.

use super::{build::LoadedBuild, tally::Tally};
use protoplex_http::{Body, Head};
use std::sync::Arc;

/// A request, and the build that it was routed by.
pub struct Request<'a> {
    /// The head, with host and path in normal form.
    pub head: &'a Head<'a>,
    /// The body, of which nothing was read.
    pub body: Body,
    /// The build that decides on the request.
    pub build: &'a Arc<LoadedBuild>,
    /// Whether a node of this fleet sent the request, with a build id and an origin under the fleet's MAC: what it says
    /// of its client holds.
    pub from_our_node: bool,
    /// Counts the reply.
    pub tally: &'a Tally<'a>,
}
