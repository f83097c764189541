//! State that all requests of a child share, for whatever answers one: builds, servers to relay to, counters, and the one
//! log line of a failed call.

use super::{
    background::Background, build::LoadedHandler, builds::Builds, metrics::Metrics,
    relay::RelayServers, reply,
};
use protoplex_handler::HandlerError;
use protoplex_http::Reply;
use protoplex_wire::role::RoleSpec;
use std::sync::atomic::Ordering::Relaxed;

/// State that all requests of a child share, and its role as well.
pub struct ChildContext {
    pub(super) role: &'static RoleSpec,
    /// The builds that are loaded.
    pub builds: Builds,
    pub(super) servers: RelayServers,
    pub(super) metrics: Metrics,
    /// Tasks that belong to no connection.
    pub background: Background,
}

impl ChildContext {
    /// Counts and logs a failed call, and makes the reply for its client.
    pub fn failed(&self, handler: &LoadedHandler, error: &HandlerError, request_id: &str) -> Reply {
        self.note_failure(handler, error, request_id);
        reply::handler_error(error, request_id)
    }

    /// Counts and logs a failed call, also one whose response has begun.
    pub(super) fn note_failure(
        &self,
        handler: &LoadedHandler,
        error: &HandlerError,
        request_id: &str,
    ) {
        handler.metrics.count_error(error.kind());
        if error.is_fatal() {
            self.metrics.traps.fetch_add(1, Relaxed);
        }
        let build = handler.context.build.short();
        tracing::warn!(handler = handler.name, build, request = request_id, kind = error.kind(), reason = %error, "a handler failed");
    }
}
