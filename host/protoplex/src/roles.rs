//! Service of each role: the one place that knows them all.

use protoplex_child::role::StartRole;
use protoplex_fileserver as fileserver;
use protoplex_live as live;
use protoplex_wire::role::Role;

pub use live::check_secrets;

/// Chooses the function that starts the service of a role in its child.
pub fn start(role: Role) -> StartRole {
    match role {
        Role::Fileserver => fileserver::start,
        // On a role that keeps no connections it hears of changed keys, and adds nothing else.
        Role::Live | Role::Proxy | Role::App => live::start,
    }
}
