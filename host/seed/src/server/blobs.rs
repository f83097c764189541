//! `/v1/blobs`: content in and out, verified both ways.

use super::{
    SeedContext,
    fault::ApiFault,
    peer::{MemberPeer, OperatorPeer},
};
use crate::store::{BLOB_BYTES_MAX, BlobError, BlobWriter};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{StatusCode, header};
use http_body::Body as _;
use protoplex_wire::{
    Digest,
    status::{ApiCode, BlobsMissing, BlobsWanted},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

/// Bytes that are read from disk at once.
const READ_BYTES: usize = 128 << 10;
/// Most chunks of an upload that may wait for the disk; the client waits beyond.
const UPLOAD_CHUNKS_MAX: usize = 16;
/// Time after which an upload that brings nothing is given up.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Most blobs of one question: a build may have fewer assets.
const WANTED_MAX: usize = 100_000;

/// Runs blocking work on a thread for that.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiFault>
where
    T: Send + 'static,
    E: Into<ApiFault> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(ApiFault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ApiCode::Internal,
            error.to_string(),
        )),
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, ApiFault> {
    text.parse()
        .map_err(|error: protoplex_wire::digest::DigestError| {
            ApiFault::bad_request(error.to_string())
        })
}

/// Handler of GET and HEAD for a blob.
pub(super) async fn get(
    State(shared): State<Arc<SeedContext>>,
    _: MemberPeer,
    Path(text): Path<String>,
) -> Result<Response, ApiFault> {
    let digest = digest(&text)?;
    let (file, bytes) = blocking(move || shared.store.blobs().file(digest)).await?;
    let content = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_BYTES);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((headers, Body::from_stream(content)).into_response())
}

/// Handler of PUT for a blob: hashed while it comes, and seen by nobody before it is whole and right.
pub(super) async fn put(
    State(shared): State<Arc<SeedContext>>,
    _: OperatorPeer,
    Path(text): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiFault> {
    let digest = digest(&text)?;
    // What says that it is too large need not be sent to be refused.
    if body.size_hint().lower() > BLOB_BYTES_MAX {
        return Err(BlobError::TooLarge(BLOB_BYTES_MAX).into());
    }
    let (chunks, queue) = mpsc::channel(UPLOAD_CHUNKS_MAX);
    let store = Arc::clone(&shared.store);
    let writing = tokio::task::spawn_blocking(move || {
        // The room that a rollback needs is no push's.
        store.reserve()?;
        let writer = store.blobs().writer(digest, BLOB_BYTES_MAX)?;
        write(writer, queue)
    });
    let received = receive(body, chunks).await;
    let written = writing.await;
    let written = written.map_err(|error| {
        ApiFault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ApiCode::Internal,
            error.to_string(),
        )
    })?;
    // A disk that refused is why receiving stopped, so it is told first.
    let writer = written.inspect_err(|error| make_room(&shared, error))?;
    received?;
    let store = Arc::clone(&shared);
    blocking(move || {
        writer
            .finish()
            .inspect_err(|error| make_room(&store, error))
    })
    .await?;
    Ok(StatusCode::CREATED)
}

/// Asks for a collection after a push found the disk full: there may be room the next time.
fn make_room(shared: &SeedContext, error: &BlobError) {
    if let BlobError::Store(error) = error
        && error.is_full()
    {
        shared.store.want_collection();
    }
}

fn write(
    mut writer: BlobWriter,
    mut queue: mpsc::Receiver<Bytes>,
) -> Result<BlobWriter, BlobError> {
    while let Some(chunk) = queue.blocking_recv() {
        writer.write(&chunk)?;
    }
    Ok(writer)
}

async fn receive(body: Body, chunks: mpsc::Sender<Bytes>) -> Result<(), ApiFault> {
    let mut body = body.into_data_stream();
    loop {
        let chunk = tokio::time::timeout(UPLOAD_TIMEOUT, body.next()).await;
        let chunk = chunk.map_err(|_| {
            ApiFault::new(
                StatusCode::REQUEST_TIMEOUT,
                ApiCode::Timeout,
                "the upload brought nothing more; send it again",
            )
        })?;
        let Some(chunk) = chunk else {
            return Ok(());
        };
        let chunk =
            chunk.map_err(|error| ApiFault::bad_request(format!("the upload broke: {error}")))?;
        if chunks.send(chunk).await.is_err() {
            return Ok(()); // The writer says why.
        }
    }
}

/// Handler of POST `missing`.
pub(super) async fn missing(
    State(shared): State<Arc<SeedContext>>,
    _: OperatorPeer,
    body: Body,
) -> Result<Json<BlobsMissing>, ApiFault> {
    let wanted: BlobsWanted = super::api::json(body).await?;
    if wanted.digests.len() > WANTED_MAX {
        return Err(ApiFault::bad_request(format!(
            "ask for at most {WANTED_MAX} blobs at once"
        )));
    }
    let missing = blocking(move || shared.store.blobs().missing(wanted.digests)).await?;
    Ok(Json(BlobsMissing { missing }))
}
