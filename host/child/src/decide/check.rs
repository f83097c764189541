//! Checks a decision without acting on it, for probes.

use super::{
    Request, asset_reply, granted_app, granted_asset, granted_relay, outbound, redirect_reply,
    refused, respond,
};
use crate::build::{Code, LoadedBuild, Slot};
use http::StatusCode;
use protoplex_handler::{Decision, HandlerError};
use protoplex_http::{Body, Head};
use std::sync::Arc;

/// The status that the decision answers with; that of a relay or an app is not known before it has answered.
///
/// # Errors
/// Acting on it would fail whatever the request: it is outside the handler's grants, malformed, or names a file or an app
/// that the build does not have.
pub(crate) fn check(
    build: &Arc<LoadedBuild>,
    slot: &Slot,
    head: &Head<'_>,
    decision: Decision,
) -> Result<Option<StatusCode>, HandlerError> {
    let reply = match decision {
        Decision::Respond(response) => respond(slot, response)?,
        Decision::Redirect(redirect) => redirect_reply(&redirect)?,
        Decision::Asset(asset) => {
            if granted_asset(slot, build, &asset.path)?.is_none() {
                return refused(format!(
                    "the build has no asset `{}`; add the file, or probe another path",
                    asset.path
                ));
            }
            asset_reply(slot, build, head, asset)?
        }
        Decision::Relay(decision) => {
            let grant = granted_relay(slot, &decision)?;
            let request = Request {
                head,
                body: Body::empty(),
                build,
                from_our_node: false,
            };
            outbound(slot, &request, &decision, Arc::clone(&slot.relays[grant]))?;
            return Ok(None);
        }
        Decision::App(name) => {
            let index = granted_app(slot, build, &name)?;
            if !matches!(build.handlers[index].code, Code::App(_)) {
                return refused(format!("`{name}` is no app handler"));
            }
            let routes = &build.manifest.routes;
            let mut routed = routes.iter().filter(|route| route.handler == slot.name);
            if !routed.any(|route| route.role.spec().runs_apps) {
                return refused(
                    "`app` decisions are for routes of role app; relay to `role:app` instead",
                );
            }
            return Ok(None);
        }
    };
    Ok(Some(reply.status))
}
