//! The meta port: metrics, status, drain and the children's recent log, for members of the fleet.

use super::{actor::Actor, logs::Logs};
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::{broadcast::error::RecvError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Lines that `/logs` shows where nobody says how many.
const LOG_LINES: usize = 100;

/// What it asks.
pub(super) enum Question {
    Metrics(oneshot::Sender<String>),
    Status(oneshot::Sender<serde_json::Value>),
}

#[derive(Clone)]
struct Meta {
    questions: mpsc::Sender<Question>,
    logs: Arc<Logs>,
    shutdown: CancellationToken,
}

pub(super) fn router(
    questions: mpsc::Sender<Question>,
    logs: Arc<Logs>,
    shutdown: CancellationToken,
) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/drain", post(drain))
        .route("/logs", get(show_logs))
        .with_state(Meta {
            questions,
            logs,
            shutdown,
        })
}

impl Actor {
    pub(super) async fn question(&mut self, question: Question) {
        match question {
            // Who asked may be gone.
            Question::Status(answer) => drop(answer.send(self.status())),
            Question::Metrics(answer) => self.scrape(answer).await,
        }
    }
}

impl Meta {
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

async fn metrics(State(meta): State<Meta>) -> Result<Response, StatusCode> {
    let text = meta.ask(Question::Metrics).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn status(State(meta): State<Meta>) -> Result<Response, StatusCode> {
    Ok(Json(meta.ask(Question::Status).await?).into_response())
}

async fn drain(State(meta): State<Meta>) -> StatusCode {
    meta.shutdown.cancel();
    StatusCode::ACCEPTED
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    follow: bool,
    lines: Option<usize>,
}

async fn show_logs(State(meta): State<Meta>, Query(query): Query<LogQuery>) -> Response {
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
