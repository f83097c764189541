//! The meta port: metrics, status, drain and the children's recent log, for members of the fleet.

use super::{logs::Logs, store::read_blob};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path as UrlPath, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use protoplex_wire::{BuildId, signature::Envelope};
use serde::Deserialize;
use std::{convert::Infallible, path::Path, sync::Arc};
use tokio::sync::{broadcast::error::RecvError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Lines that `/logs` shows where nobody says how many.
const LOG_LINES: usize = 100;

/// A question to the actor. Who asked may be gone when it is answered.
pub(super) enum Question {
    Metrics(oneshot::Sender<String>),
    Status(oneshot::Sender<serde_json::Value>),
    /// The envelope of a build that is held here.
    Envelope(BuildId, oneshot::Sender<Option<Envelope>>),
}

#[derive(Clone)]
struct MetaPort {
    questions: mpsc::Sender<Question>,
    logs: Arc<Logs>,
    /// The folder of the node's store.
    folder: Arc<Path>,
    shutdown: CancellationToken,
}

pub(super) fn router(
    questions: mpsc::Sender<Question>,
    logs: Arc<Logs>,
    folder: &Path,
    shutdown: CancellationToken,
) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/drain", post(drain))
        .route("/logs", get(show_logs))
        .route("/builds/{id}", get(envelope))
        .route("/blobs/{digest}", get(blob))
        .with_state(MetaPort {
            questions,
            logs,
            folder: folder.into(),
            shutdown,
        })
}

impl MetaPort {
    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, StatusCode> {
        let (sender, answer) = oneshot::channel();
        self.questions
            .send(question(sender))
            .await
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        answer.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}

async fn metrics(State(meta): State<MetaPort>) -> Result<Response, StatusCode> {
    let text = meta.ask(Question::Metrics).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn status(State(meta): State<MetaPort>) -> Result<Response, StatusCode> {
    Ok(Json(meta.ask(Question::Status).await?).into_response())
}

async fn drain(State(meta): State<MetaPort>) -> StatusCode {
    meta.shutdown.cancel();
    StatusCode::ACCEPTED
}

/// The signature of a build that this node holds, for a Seed that has lost it.
async fn envelope(
    State(meta): State<MetaPort>,
    UrlPath(id): UrlPath<String>,
) -> Result<Response, StatusCode> {
    let id = id.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let held = meta.ask(|answer| Question::Envelope(id, answer)).await?;
    held.map(|envelope| Json(envelope).into_response())
        .ok_or(StatusCode::NOT_FOUND)
}

/// A blob that this node holds, for a Seed that has lost it. Its digest is checked before it is said.
async fn blob(
    State(meta): State<MetaPort>,
    UrlPath(digest): UrlPath<String>,
) -> Result<Vec<u8>, StatusCode> {
    let digest = digest.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let read = tokio::task::spawn_blocking(move || read_blob(&meta.folder, &digest));
    let content = read.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    content.ok_or(StatusCode::NOT_FOUND)
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    follow: bool,
    lines: Option<usize>,
}

async fn show_logs(State(meta): State<MetaPort>, Query(query): Query<LogQuery>) -> Response {
    let (past, live) = meta.logs.read(query.lines.unwrap_or(LOG_LINES));
    let line = |line: Arc<str>| Ok::<_, Infallible>(format!("{line}\n"));
    let past = stream::iter(past).map(line);
    if !query.follow {
        return Body::from_stream(past).into_response();
    }
    let live = stream::unfold(live, async |mut live| match live.recv().await {
        Ok(line) => Some((Ok(format!("{line}\n")), live)),
        Err(RecvError::Lagged(lost)) => {
            Some((Ok(format!("… {lost} lines lost: too slow\n")), live))
        }
        Err(RecvError::Closed) => None,
    });
    Body::from_stream(past.chain(live)).into_response()
}
