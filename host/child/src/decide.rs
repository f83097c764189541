//! From a decision to a reply. Every decision is checked against the handler's grants before it is acted on.

pub(super) mod app;
mod asset;
pub(super) mod check;
mod edits;
mod outbound;
mod refused;
mod relay;
mod respond;

use super::{
    build::{LoadedBuild, LoadedHandler},
    context::ChildContext,
    metrics::DecisionKind,
    request::Request,
};
use protoplex_handler::{
    HandlerError,
    decision::{Decision, Relay},
};
use protoplex_http::{Answer, Head, Reply};
use std::sync::Arc;

/// A decision that its handler's grants allow: what is left to do.
#[expect(
    clippy::large_enum_variant,
    reason = "in a box, each relay would cost an allocation"
)]
enum Allowed {
    /// The reply is whole: it needs nobody else.
    Reply(Reply),
    Relay(Relay),
    /// Run the app handler at this index of the build.
    App(usize),
}

/// Checks a decision against the handler's grants, and makes the reply where that needs nobody else.
fn allowed(
    handler: &LoadedHandler,
    build: &LoadedBuild,
    head: &Head<'_>,
    decision: Decision,
) -> Result<Allowed, HandlerError> {
    Ok(match decision {
        Decision::Respond(response) => Allowed::Reply(respond::response(handler, response)?),
        Decision::Redirect(redirect) => Allowed::Reply(respond::redirect(&redirect)?),
        Decision::Asset(asset) => Allowed::Reply(asset::reply(handler, build, head, asset)?),
        Decision::Relay(relay) => Allowed::Relay(relay),
        Decision::App(name) => Allowed::App(app::granted(handler, build, &name)?),
    })
}

/// Does what a handler decided, and counts it.
///
/// # Errors
/// The decision is not allowed, or is malformed: the caller logs that, and answers the client.
pub(super) fn act(
    context: &Arc<ChildContext>,
    handler: &LoadedHandler,
    request: Request<'_>,
    decision: Decision,
) -> Result<Answer, HandlerError> {
    let kind = DecisionKind::of(&decision);
    let answer = match allowed(handler, request.build, request.head, decision)? {
        Allowed::Reply(reply) => Answer::Ready(reply),
        Allowed::Relay(decision) => relay::relay(context, handler, request, decision)?,
        Allowed::App(index) => app::run_here(context, index, request)?,
    };
    handler.metrics.count(kind);
    Ok(answer)
}
