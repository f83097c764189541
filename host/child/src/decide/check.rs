//! Checks a decision without acting on it, for probes.

use super::{Allowed, allowed, asset, outbound::outbound, refused::refused, relay};
use crate::build::{Code, LoadedBuild, LoadedHandler};
use http::StatusCode;
use protoplex_handler::{
    HandlerError,
    decision::{Decision, Relay},
};
use protoplex_http::Head;
use std::sync::Arc;

/// The status that the decision answers with; that of a relay or an app is not known before it has answered.
///
/// # Errors
/// Acting on it would fail whatever the request: it is outside the handler's grants, malformed, or names a file or an app
/// that the build does not have.
pub(crate) fn check(
    build: &Arc<LoadedBuild>,
    handler: &LoadedHandler,
    head: &Head<'_>,
    decision: Decision,
) -> Result<Option<StatusCode>, HandlerError> {
    if let Decision::Asset(file) = &decision
        && asset::granted(handler, build, &file.path)?.is_none()
    {
        return refused(format!(
            "the build has no asset `{}`; add the file, or probe another path",
            file.path
        ));
    }
    match allowed(handler, build, head, decision)? {
        Allowed::Reply(reply) => return Ok(Some(reply.status)),
        Allowed::Relay(decision) => check_relay(handler, head, &decision)?,
        Allowed::App(index) => check_app(build, handler, index)?,
    }
    Ok(None)
}

fn check_relay(
    handler: &LoadedHandler,
    head: &Head<'_>,
    decision: &Relay,
) -> Result<(), HandlerError> {
    let grant = relay::granted(handler, decision)?;
    outbound(handler, head, false, decision, Arc::clone(&grant.counters)).map(drop)
}

fn check_app(
    build: &LoadedBuild,
    handler: &LoadedHandler,
    index: usize,
) -> Result<(), HandlerError> {
    let app = &build.handlers[index];
    if !matches!(app.code, Code::App(_)) {
        return refused(format!("`{}` is no app handler", app.name));
    }
    let routes = &build.manifest.routes;
    let mut routed = routes.iter().filter(|route| route.handler == handler.name);
    if !routed.any(|route| route.role.spec().runs_apps) {
        return refused("`app` decisions are for routes of role app; relay to `role:app` instead");
    }
    Ok(())
}
