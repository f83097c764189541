//! The client of the Seed's port, and of any mutual-TLS port of the fleet: used by node parents and the command line.
//!
//! HTTP/2 over mutual TLS; the peer must present a certificate of the fleet's authority for the host in the URL, and
//! it must be the Seed's, or that of the node that is meant. Nothing of the Seed itself is in it.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use protoplex_fleet::{Expected, FleetIdentity, MemberFiles, TlsSetupError, mutual_tls};
use protoplex_wire::{
    BuildId, Digest,
    link::Hello,
    signature::Envelope,
    status::{
        AdoptOrder, ApiError, BlobsMissing, BlobsWanted, BuildAccepted, BuildView, GcOrder,
        GcReport, NodeStatus, ReleaseOrder, ReleaseRecord, RollbackOrder, SeedStatus,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, sync::Arc, time::Duration};

mod link;
mod streams;
mod upload;

pub use link::{LinkReceiver, LinkSender};
pub use streams::{Events, Streaming};

/// Until a TCP connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Until the head of an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Until a submitted build is checked: compiling takes its time.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(600);
/// Until what is not kept is removed: a disk may have hundreds of thousands of files.
const GC_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two chunks of a body that is expected to flow.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// Until an idle connection is asked whether it lives, and until it must have answered.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A JSON answer above this is none of ours: a full history of a large fleet fits.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Flow control window of a stream: blobs should not wait for round trips.
const WINDOW_BYTES: u32 = 2 << 20;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a call did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there, or not in time, or not as a member of this fleet.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The Seed says no.
    #[error("{} ({})", .error.message, .error.code)]
    Api {
        /// The status of the answer.
        status: u16,
        /// The Seed's error.
        error: ApiError,
    },
    /// The answer is not what this version expects.
    #[error("an answer that cannot be understood: {0}")]
    Protocol(String),
    /// The content is not what its digest says.
    #[error("the content is {found}, not {expected}")]
    Digest {
        /// Digest that was asked for.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// The content is larger than the caller takes.
    #[error("the content has over {0} bytes")]
    TooLarge(u64),
    /// A line of the link that is no known message. After [`FrameError::UnknownType`] the link goes on.
    ///
    /// [`FrameError::UnknownType`]: protoplex_wire::link::FrameError::UnknownType
    #[error(transparent)]
    Frame(#[from] protoplex_wire::link::FrameError),
    /// The certificates or the key of this side.
    #[error(transparent)]
    Identity(#[from] TlsSetupError),
    /// The URL that this side was given.
    #[error("{0}")]
    Url(String),
}

/// A client of one Seed. A clone shares its connection.
#[derive(Clone)]
pub struct SeedClient {
    url: String,
    files: Arc<MemberFiles>,
    http: Client<HttpsConnector<HttpConnector>, Body>,
}

/// Connections, by the files that say who this side is and whom it believes, to whoever is `expected`.
fn http_client(
    files: &MemberFiles,
    expected: Expected,
) -> Result<Client<HttpsConnector<HttpConnector>, Body>, TlsSetupError> {
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

impl SeedClient {
    /// A client for the Seed at `url` (`https://host:port`). Connects when it is first used.
    ///
    /// # Errors
    /// [`ClientError::Identity`] when a file cannot be used, [`ClientError::Url`] when the URL is of another scheme.
    pub fn new(url: &str, identity: &FleetIdentity) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("https://") {
            return Err(ClientError::Url(format!(
                "`{url}` must start with https://"
            )));
        }
        let files = MemberFiles::read(identity)?;
        let (http, files) = (http_client(&files, Expected::Seed)?, Arc::new(files));
        Ok(Self { url, files, http })
    }

    /// A client, with the same certificate, of the meta port of the node of that name, and of nobody else's.
    ///
    /// # Errors
    /// [`ClientError::Identity`] when a file cannot be used.
    pub fn node(&self, name: &str) -> Result<NodeClient, ClientError> {
        let http = http_client(&self.files, Expected::NodeNamed(name.to_owned()))?;
        Ok(NodeClient(Self {
            http,
            ..self.clone()
        }))
    }

    /// The Seed's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A blob of at most `bytes_max`, verified.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Frame` and `Identity`.
    pub async fn get_blob(&self, digest: Digest, bytes_max: u64) -> Result<Bytes, ClientError> {
        let answer = self
            .call(Method::GET, &format!("/v1/blobs/{digest}"), empty())
            .await?;
        let content = Streaming::new(answer).collect(bytes_max).await?;
        let (content, found) = hash(content).await?;
        if found != digest {
            let expected = digest;
            return Err(ClientError::Digest { expected, found });
        }
        Ok(content)
    }

    /// Uploads a blob. `progress` hears the bytes sent so far.
    ///
    /// # Errors
    /// The Seed refuses it or is not there.
    pub async fn put_blob(
        &self,
        digest: Digest,
        content: Bytes,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<(), ClientError> {
        let body = upload::Upload::new(content, progress).boxed_unsync();
        let path = format!("/v1/blobs/{digest}");
        let request = request(Method::PUT, &self.at(&path), body, None)?;
        // An upload takes as long as it takes; the connection's keep-alive notices a peer that is gone.
        checked(self.send(request).await?).await?;
        Ok(())
    }

    /// Which of these the Seed does not have.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, ClientError> {
        let digests = digests.to_vec();
        let answer: BlobsMissing = self
            .post("/v1/blobs/missing", &BlobsWanted { digests }, HEAD_TIMEOUT)
            .await?;
        Ok(answer.missing)
    }

    /// Submits a build whose manifest and blobs were uploaded. The Seed checks all of it.
    ///
    /// # Errors
    /// [`ClientError::Api`] says what is wrong with the build.
    pub async fn submit(&self, envelope: &Envelope) -> Result<BuildAccepted, ClientError> {
        self.post("/v1/builds", envelope, SUBMIT_TIMEOUT).await
    }

    /// Orders a release and follows it. Dropping the events only stops following.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the order is refused.
    pub async fn release(&self, order: &ReleaseOrder) -> Result<Events, ClientError> {
        let answer = self.call(Method::POST, "/v1/releases", json(order)).await?;
        Ok(Events::new(Streaming::new(answer)))
    }

    /// Orders an earlier build again, and follows that.
    ///
    /// # Errors
    /// [`ClientError::Api`] when there is none, or the order is refused.
    pub async fn rollback(&self, to: Option<BuildId>) -> Result<Events, ClientError> {
        let order = json(&RollbackOrder { to });
        let answer = self.call(Method::POST, "/v1/rollback", order).await?;
        Ok(Events::new(Streaming::new(answer)))
    }

    /// Orders that what the nodes run becomes the fleet's build, and follows that.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the Seed does not hold, or the order is refused.
    pub async fn adopt(&self, build: BuildId) -> Result<Events, ClientError> {
        let order = json(&AdoptOrder { build });
        let answer = self.call(Method::POST, "/v1/adopt", order).await?;
        Ok(Events::new(Streaming::new(answer)))
    }

    /// Removes what the Seed's retention does not keep, or says what that is.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn gc(&self, order: GcOrder) -> Result<GcReport, ClientError> {
        self.post("/v1/gc", &order, GC_TIMEOUT).await
    }

    /// The history, newest first.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn releases(&self) -> Result<Vec<ReleaseRecord>, ClientError> {
        self.read("/v1/releases").await
    }

    /// All nodes that the Seed has seen.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, ClientError> {
        self.read("/v1/nodes").await
    }

    /// The Seed itself.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn status(&self) -> Result<SeedStatus, ClientError> {
        self.read("/v1/status").await
    }

    /// An accepted build.
    ///
    /// # Errors
    /// The Seed has none of that id, or is not there.
    pub async fn build(&self, build: BuildId) -> Result<BuildView, ClientError> {
        self.read(&format!("/v1/builds/{build}")).await
    }

    /// Opens a node's link. It has ended when the receiver says so; dropping both ends it too.
    ///
    /// # Errors
    /// The Seed refuses the node or is not there.
    pub async fn link(&self, hello: Hello) -> Result<(LinkSender, LinkReceiver), ClientError> {
        let (sender, body) = link::sender(hello);
        let answer = self
            .call(Method::POST, "/v1/link", body.boxed_unsync())
            .await?;
        Ok((sender, LinkReceiver::new(Streaming::new(answer))))
    }

    /// GET of any `https://` URL of the Seed, with a streamed body. Any status is an answer.
    ///
    /// # Errors
    /// The Seed is not there.
    pub async fn get(&self, url: &str) -> Result<Streaming, ClientError> {
        self.open(Method::GET, url).await
    }

    async fn open(&self, method: Method, url: &str) -> Result<Streaming, ClientError> {
        let request = request(method, url, empty(), None)?;
        let answer = timed(url, HEAD_TIMEOUT, self.send(request)).await?;
        Ok(Streaming::new(answer))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(self.call(Method::GET, path, empty()).await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let url = self.at(path);
        let request = request(Method::POST, &url, json(body), Some("application/json"))?;
        parse(checked(timed(&url, timeout, self.send(request)).await?).await?).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let url = self.at(path);
        let request = request(method, &url, body, Some("application/json"))?;
        checked(timed(&url, HEAD_TIMEOUT, self.send(request)).await?).await
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        let url = format!("{}", request.uri());
        self.http
            .request(request)
            .await
            .map_err(|error| ClientError::Unreachable {
                url,
                reason: causes(&error),
            })
    }
}

/// A client of one node's meta port.
#[derive(Clone)]
pub struct NodeClient(SeedClient);

impl NodeClient {
    /// GET of an `https://` URL of the node's, with a streamed body. Any status is an answer.
    ///
    /// # Errors
    /// That node does not answer there.
    pub async fn get(&self, url: &str) -> Result<Streaming, ClientError> {
        self.0.open(Method::GET, url).await
    }

    /// Like [`Self::get`], for any method without a body.
    ///
    /// # Errors
    /// That node does not answer there.
    pub async fn open(&self, method: Method, url: &str) -> Result<Streaming, ClientError> {
        self.0.open(method, url).await
    }
}

fn request(
    method: Method,
    url: &str,
    body: Body,
    content_type: Option<&str>,
) -> Result<Request<Body>, ClientError> {
    let mut builder = Request::builder().method(method).uri(url);
    if let Some(content_type) = content_type {
        builder = builder.header(http::header::CONTENT_TYPE, content_type);
    }
    builder
        .body(body)
        .map_err(|error| ClientError::Url(format!("`{url}`: {error}")))
}

async fn timed<T>(
    url: &str,
    timeout: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Unreachable {
            url: url.to_owned(),
            reason: format!("no answer within {} s", timeout.as_secs()),
        }),
    }
}

/// An answer of 2xx, or what the refusal says.
async fn checked(answer: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let text = Streaming::new(answer)
        .collect(ANSWER_BYTES_MAX)
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

async fn parse<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, ClientError> {
    let text = Streaming::new(answer).collect(ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&text).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// Large content is hashed away from the tasks that must answer.
async fn hash(content: Bytes) -> Result<(Bytes, Digest), ClientError> {
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

fn json(value: &impl Serialize) -> Body {
    let text = serde_json::to_vec(value).expect("all keys are strings");
    Full::new(Bytes::from(text)).boxed_unsync()
}

fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// An error with all that caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
