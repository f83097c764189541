//! One request and its response: connections, bodies, timeouts, and what a refusal says.

use crate::{ClientError, StreamedResponse};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use protoplex_fleet::{Expected, MemberFiles, TlsSetupError, mutual_tls};
use protoplex_wire::{Digest, status::ApiError};
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// Longest time to establish a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle time after which a connection is pinged, and the time in which it must answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Most bytes of a JSON response: a full history of a large fleet fits.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;
/// Flow control window of a stream: blobs should not wait for round trips.
const WINDOW_BYTES: u32 = 2 << 20;

pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector>, RequestBody>;

/// Makes a client for connections to `expected`, by the files that say who this side is and whom it believes.
pub(crate) fn http_client(
    files: &MemberFiles,
    expected: Expected,
) -> Result<HttpClient, TlsSetupError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = Arc::unwrap_or_clone(mutual_tls::client_config(files, expected)?);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(WINDOW_BYTES)
        .http2_initial_connection_window_size(WINDOW_BYTES * 4)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build(connector))
}

pub(crate) fn request(
    method: Method,
    url: &str,
    body: RequestBody,
    content_type: Option<&str>,
) -> Result<Request<RequestBody>, ClientError> {
    let mut builder = Request::builder().method(method).uri(url);
    if let Some(content_type) = content_type {
        builder = builder.header(http::header::CONTENT_TYPE, content_type);
    }
    builder
        .body(body)
        .map_err(|error| ClientError::Url(format!("`{url}`: {error}")))
}

pub(crate) async fn timed<T>(
    url: &str,
    timeout: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(response) => response,
        Err(_) => Err(ClientError::Unreachable {
            url: url.to_owned(),
            reason: format!("no response within {} s", timeout.as_secs()),
        }),
    }
}

/// Passes a response of 2xx, and makes an error of any other.
pub(crate) async fn checked(
    response: Response<Incoming>,
) -> Result<Response<Incoming>, ClientError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let text = StreamedResponse::new(response)
        .collect(RESPONSE_BYTES_MAX)
        .await
        .unwrap_or_default();
    let error = serde_json::from_slice(&text).unwrap_or_else(|_| ApiError {
        code: status.as_str().to_owned(),
        message: plain(status, &text),
    });
    Err(ClientError::Api {
        status: status.as_u16(),
        error,
    })
}

fn plain(status: StatusCode, text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(200).collect();
    format!("{status} {text}").trim().to_owned()
}

pub(crate) async fn parse<T: DeserializeOwned>(
    response: Response<Incoming>,
) -> Result<T, ClientError> {
    let text = StreamedResponse::new(response)
        .collect(RESPONSE_BYTES_MAX)
        .await?;
    serde_json::from_slice(&text).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// Hashes content; large content on a blocking thread, away from the tasks that must answer.
pub(crate) async fn hash(content: Bytes) -> Result<(Bytes, Digest), ClientError> {
    const INLINE_BYTES_MAX: usize = 256 << 10;
    if content.len() <= INLINE_BYTES_MAX {
        let found = Digest::of(&content);
        return Ok((content, found));
    }
    let hashed = tokio::task::spawn_blocking(move || {
        let found = Digest::of(&content);
        (content, found)
    });
    hashed
        .await
        .map_err(|error| ClientError::Protocol(error.to_string()))
}

pub(crate) fn json(value: &impl Serialize) -> RequestBody {
    let text = serde_json::to_vec(value).expect("all keys are strings");
    Full::new(Bytes::from(text)).boxed_unsync()
}

pub(crate) fn empty() -> RequestBody {
    Empty::new().boxed_unsync()
}

/// Text of an error with all its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
