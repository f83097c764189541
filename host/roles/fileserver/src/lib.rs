//! Nodes that serve files. Handlers on its routes decide which, and a child acts on decisions by itself: files of the
//! build come from its memory. The role adds nothing to that until it has a disk cache and uploads of its own.

use protoplex_child::role::{RoleService, RoleStart};
use std::sync::Arc;

/// Files, in one child.
struct Fileserver;

impl RoleService for Fileserver {}

/// Starts the role in a child.
///
/// # Errors
/// None so far.
pub fn start(_: &RoleStart<'_>) -> anyhow::Result<Arc<dyn RoleService>> {
    Ok(Arc::new(Fileserver))
}
