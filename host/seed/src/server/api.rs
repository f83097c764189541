//! Routes of the Seed's port, and those handlers of an operator's requests that need no module of their own.

use super::{
    SeedContext,
    actor::{CoreView, ReleaseFollower},
    blobs,
    fault::ApiFault,
    gc, link,
    peer::{MemberPeer, OperatorPeer},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::stream;
use http::{Method, StatusCode, Uri, header};
use protoplex_wire::{
    BuildId,
    signature::Envelope,
    status::{
        AdoptOrder, ApiCode, BuildAccepted, BuildView, NodeStatus, ReleaseOrder, ReleaseRecord,
        RollbackOrder, SeedStatus,
    },
};
use serde::de::DeserializeOwned;
use std::{convert::Infallible, sync::Arc};

/// Most bytes of a JSON body: a question about 60,000 blobs fits.
const BODY_BYTES_MAX: usize = 4 << 20;

type App = State<Arc<SeedContext>>;

pub(super) fn router(shared: Arc<SeedContext>) -> Router {
    Router::new()
        .route("/v1/link", post(link::link))
        .route("/v1/blobs/missing", post(blobs::missing))
        .route("/v1/blobs/{digest}", get(blobs::get).put(blobs::put))
        .route("/v1/builds", post(submit))
        .route("/v1/builds/{id}", get(build))
        .route("/v1/releases", get(releases).post(release))
        .route("/v1/rollback", post(rollback))
        .route("/v1/adopt", post(adopt))
        .route("/v1/gc", post(gc::gc))
        .route("/v1/nodes", get(nodes))
        .route("/v1/status", get(status))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(shared)
}

/// Reads a JSON body, whatever its content type is called.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiFault> {
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let bytes = bytes
        .map_err(|error| ApiFault::bad_request(format!("the body cannot be read: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiFault::bad_request(format!("the body is not right: {error}")))
}

async fn submit(
    State(shared): App,
    OperatorPeer(operator): OperatorPeer,
    body: Body,
) -> Result<Json<BuildAccepted>, ApiFault> {
    let envelope: Envelope = json(body).await?;
    tracing::info!(operator, build = %envelope.build, "an operator submitted a build");
    shared.builds.submit(envelope).await.map(Json)
}

async fn build(
    State(shared): App,
    _: MemberPeer,
    Path(id): Path<String>,
) -> Result<Json<BuildView>, ApiFault> {
    shared.builds.view(blobs::digest(&id)?).await.map(Json)
}

async fn release(
    State(shared): App,
    OperatorPeer(operator): OperatorPeer,
    body: Body,
) -> Result<Response, ApiFault> {
    let order: ReleaseOrder = json(body).await?;
    tracing::info!(operator, build = %order.build, "an operator ordered a release");
    follow(&shared, order.build, order.made_against).await
}

async fn rollback(
    State(shared): App,
    OperatorPeer(operator): OperatorPeer,
    body: Body,
) -> Result<Response, ApiFault> {
    let order: RollbackOrder = json(body).await?;
    let view = view(&shared).await?;
    let to = order.to.or(view.rollback_target).ok_or_else(|| {
        ApiFault::not_found(
            ApiCode::NoRollback,
            "no other build was ever promoted, so there is nothing to go back to",
        )
    })?;
    tracing::info!(operator, build = %to, "an operator ordered a rollback");
    follow(&shared, to, Some(view.status.active)).await
}

async fn adopt(
    State(shared): App,
    OperatorPeer(operator): OperatorPeer,
    body: Body,
) -> Result<Response, ApiFault> {
    let order: AdoptOrder = json(body).await?;
    tracing::info!(operator, build = %order.build, "an operator ordered to adopt the build that nodes run");
    let build = shared.builds.releasable(order.build).await?;
    let events = shared.seed.adopt(build).await;
    Ok(ndjson(events.ok_or_else(ApiFault::stopping)??))
}

/// Orders a release and answers with its events. A client that leaves only stops watching.
async fn follow(
    shared: &SeedContext,
    build: BuildId,
    made_against: Option<Option<BuildId>>,
) -> Result<Response, ApiFault> {
    let build = shared.builds.releasable(build).await?;
    let events = shared.seed.order(build, made_against).await;
    Ok(ndjson(events.ok_or_else(ApiFault::stopping)??))
}

fn ndjson(events: ReleaseFollower) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(lines(events))).into_response()
}

fn lines(mut events: ReleaseFollower) -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    let encode = |event| Ok(Bytes::from(protoplex_wire::link::encode(&event)));
    stream::poll_fn(move |cx| events.poll_recv(cx).map(|event| event.map(encode)))
}

async fn view(shared: &SeedContext) -> Result<CoreView, ApiFault> {
    shared.seed.view().await.ok_or_else(ApiFault::stopping)
}

async fn releases(
    State(shared): App,
    _: OperatorPeer,
) -> Result<Json<Vec<ReleaseRecord>>, ApiFault> {
    Ok(Json(view(&shared).await?.releases))
}

async fn nodes(State(shared): App, _: OperatorPeer) -> Result<Json<Vec<NodeStatus>>, ApiFault> {
    Ok(Json(view(&shared).await?.nodes))
}

async fn status(State(shared): App, _: MemberPeer) -> Result<Json<SeedStatus>, ApiFault> {
    Ok(Json(view(&shared).await?.status))
}

async fn no_such_path(uri: Uri) -> ApiFault {
    ApiFault::not_found(ApiCode::Path, format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> ApiFault {
    let message = format!("{} is not answered at {}", method, uri.path());
    ApiFault::new(StatusCode::METHOD_NOT_ALLOWED, ApiCode::Method, message)
}
