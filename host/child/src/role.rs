//! The service that a role adds to a child: requests of its own, handlers that only it serves, and the state of these.
//!
//! A child knows no role by name. It is started with one [`RoleService`], and asks it at the few places below.

use super::{
    build::LoadedBuild, context::ChildContext, metrics::RoleMetrics, reply, request::Request,
};
use futures::future::BoxFuture;
use http::StatusCode;
use protoplex_control::{child_files::ChildFiles, messages::ChildConfig};
use protoplex_http::{Answer, Body, Head};
use protoplex_net::{NetLimits, TlsHandoff};
use protoplex_wire::directory::Directory;
use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

/// What a role is started with.
pub struct RoleStart<'a> {
    /// The configuration of the child.
    pub config: &'a ChildConfig,
    /// Certificates, keys and secrets.
    pub files: &'a ChildFiles,
    /// Limits on clients, for this child.
    pub limits: &'a NetLimits,
    /// Builds, directory, relays and metrics of the child.
    pub child: &'a Arc<ChildContext>,
}

/// Makes the service of a role.
///
/// # Errors
/// Its files or its part of the configuration cannot be used.
pub type StartRole = fn(&RoleStart<'_>) -> anyhow::Result<Arc<dyn RoleService>>;

/// The service of a role in one child. Every method has a default that does nothing, and none may block.
pub trait RoleService: Send + Sync {
    /// Prefix of the paths that [`Self::own_request`] answers; a role without one is never asked.
    fn own_paths(&self) -> Option<&'static str> {
        None
    }

    /// Answers a request of the role's own, whatever the routes of the build say.
    ///
    /// # Errors
    /// Gives back the body of any other request.
    fn own_request(&self, _head: &Head<'_>, body: Body) -> Result<Answer, Body> {
        Err(body)
    }

    /// Answers a request of a connection that outlives the route by which it was begun. Only a role that keeps connections
    /// ([`protoplex_wire::role::RoleSpec::keeps_connections`]) is asked.
    ///
    /// # Errors
    /// Gives back any other request.
    fn session_request<'a>(&self, request: Request<'a>) -> Result<Answer, Request<'a>> {
        Err(request)
    }

    /// Answers a request on the route of a handler whose connections the role keeps. A manifest has such routes only for
    /// roles that do ([`protoplex_wire::role::RoleSpec::keeps_connections`]).
    fn connect(&self, _handler: usize, request: Request<'_>) -> Answer {
        let id = request.head.request_id;
        Answer::Ready(reply::status(StatusCode::INTERNAL_SERVER_ERROR, id))
    }

    /// Takes connections of other protocols on the child's own listener.
    fn links(&self) -> Option<TlsHandoff> {
        None
    }

    /// The directory has changed. `nodes` are the addresses of all nodes.
    fn directory_changed(&self, _directory: &Directory, _nodes: &HashSet<IpAddr>) {}

    /// The parent has read certificates and secrets again.
    ///
    /// # Errors
    /// They cannot be used; the old ones stay.
    fn files_changed(&self, _files: &ChildFiles) -> anyhow::Result<()> {
        Ok(())
    }

    /// A build answers from here on.
    fn build_activated(&self, _build: &Arc<LoadedBuild>) {}

    /// The drain deadline of a build that answered before has passed.
    fn build_expired(&self, _build: &Arc<LoadedBuild>) {}

    /// The child drains: what would not end by itself has to go within the window.
    fn drain(&self, _window: Duration) {}

    /// Waits, up to a deadline of its own, until other children have what they are to take over.
    fn handed_over(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Metrics of this moment.
    fn metrics(&self) -> RoleMetrics {
        RoleMetrics::default()
    }
}
