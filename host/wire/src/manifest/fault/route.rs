//! Faults of routes.

use crate::{Role, manifest::World};

/// A route that no request could take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFault {
    /// Nodes of the route's role do not run the handler.
    #[error(
        "handler `{handler}` is {world}, and runs on nodes of role {roles} only; a proxy relays to them, for example to \
         `live:NAMESPACE`",
        roles = Role::names(|role| role.keeps_connections)
    )]
    LiveOnly {
        /// Name of the handler.
        handler: String,
        /// World of the handler.
        world: World,
    },
    /// The path is not absolute.
    #[error("path `{0}` must start with `/`")]
    NoSlash(String),
    /// The path has a star that is no whole last part.
    #[error("path `{0}`: `*` may only be the whole last part, as in `/static/*`")]
    Star(String),
    /// No request line has this path.
    #[error("path `{0}`: write it as it stands on a request line, without query and fragment")]
    Path(String),
    /// No request names this host.
    #[error("host `{0}` must be a lower-case name or `*.` and a name")]
    Host(String),
    /// The host has a port.
    #[error("host `{0}`: leave the port out")]
    Port(String),
    /// The method is none.
    #[error("method `{0}` must be upper-case letters, such as GET")]
    Method(String),
    /// An earlier route takes the same requests.
    #[error("{requests} has a route already, route {first}")]
    Taken {
        /// Role, method, host and path.
        requests: String,
        /// The earlier route, from 1.
        first: usize,
    },
}
