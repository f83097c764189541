//! The client of the Seed's port, and of any mutual-TLS port of the fleet: used by node parents and the command line.
//!
//! HTTP/2 over mutual TLS; the peer must present a certificate of the fleet's authority for the host in the URL, and
//! it must be the Seed's, or that of the node that is meant. Nothing of the Seed itself is in it.

use bytes::Bytes;
use exchange::{
    HttpClient, RequestBody, causes, checked, empty, hash, http_client, json, parse, request, timed,
};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protoplex_fleet::{Expected, FleetIdentity, MemberFiles};
use protoplex_wire::{
    BuildId, Digest,
    link::Hello,
    signature::Envelope,
    status::{
        AdoptOrder, BlobsMissing, BlobsWanted, BuildAccepted, BuildView, GcOrder, GcReport,
        NodeStatus, ReleaseOrder, ReleaseRecord, RollbackOrder, SeedStatus,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};

mod error;
mod exchange;
mod link;
mod streams;
mod upload;

pub use error::ClientError;
pub use link::{LinkReceiver, LinkSender};
pub use streams::{ReleaseEvents, StreamedResponse};

/// Longest time until the head of a response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time until a submitted build is checked: compiling takes its time.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest time until what is not kept is removed: a disk may have hundreds of thousands of files.
const GC_TIMEOUT: Duration = Duration::from_secs(300);

/// A client of one Seed. A clone shares its connection.
#[derive(Clone)]
pub struct SeedClient {
    url: String,
    files: Arc<MemberFiles>,
    http: HttpClient,
}

impl SeedClient {
    /// Makes a client for the Seed at `url` (`https://host:port`). Connects when it is first used.
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

    /// Makes a client, with the same certificate, for the meta port of the node `name`, and of nobody else's.
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

    /// Fetches a blob of at most `bytes_max` bytes, and verifies it.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Frame` and `Identity`.
    pub async fn get_blob(&self, digest: Digest, bytes_max: u64) -> Result<Bytes, ClientError> {
        let response = self
            .call(Method::GET, &format!("/v1/blobs/{digest}"), empty())
            .await?;
        let content = StreamedResponse::new(response).collect(bytes_max).await?;
        let (content, found) = hash(content).await?;
        if found != digest {
            let expected = digest;
            return Err(ClientError::Digest { expected, found });
        }
        Ok(content)
    }

    /// Uploads a blob. `progress` is called with the bytes sent so far.
    ///
    /// # Errors
    /// The Seed refuses it or is not there.
    pub async fn put_blob(
        &self,
        digest: Digest,
        content: Bytes,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<(), ClientError> {
        let body = upload::UploadBody::new(content, progress).boxed_unsync();
        let path = format!("/v1/blobs/{digest}");
        let request = request(Method::PUT, &self.at(&path), body, None)?;
        // An upload takes as long as it takes; the connection's keep-alive notices a peer that is gone.
        checked(self.send(request).await?).await?;
        Ok(())
    }

    /// Asks which of `digests` the Seed does not have.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, ClientError> {
        let digests = digests.to_vec();
        let response: BlobsMissing = self
            .post("/v1/blobs/missing", &BlobsWanted { digests }, HEAD_TIMEOUT)
            .await?;
        Ok(response.missing)
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
    pub async fn release(&self, order: &ReleaseOrder) -> Result<ReleaseEvents, ClientError> {
        let response = self.call(Method::POST, "/v1/releases", json(order)).await?;
        Ok(ReleaseEvents::new(StreamedResponse::new(response)))
    }

    /// Orders an earlier build again, and follows that release.
    ///
    /// # Errors
    /// [`ClientError::Api`] when there is none, or the order is refused.
    pub async fn rollback(&self, to: Option<BuildId>) -> Result<ReleaseEvents, ClientError> {
        let order = json(&RollbackOrder { to });
        let response = self.call(Method::POST, "/v1/rollback", order).await?;
        Ok(ReleaseEvents::new(StreamedResponse::new(response)))
    }

    /// Orders that what the nodes run becomes the fleet's build, and follows that release.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the Seed does not hold, or the order is refused.
    pub async fn adopt(&self, build: BuildId) -> Result<ReleaseEvents, ClientError> {
        let order = json(&AdoptOrder { build });
        let response = self.call(Method::POST, "/v1/adopt", order).await?;
        Ok(ReleaseEvents::new(StreamedResponse::new(response)))
    }

    /// Removes what the Seed's retention does not keep, or says what that is.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn gc(&self, order: GcOrder) -> Result<GcReport, ClientError> {
        self.post("/v1/gc", &order, GC_TIMEOUT).await
    }

    /// Fetches the history of releases, newest first.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn releases(&self) -> Result<Vec<ReleaseRecord>, ClientError> {
        self.read("/v1/releases").await
    }

    /// Fetches the status of all nodes that the Seed has seen.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, ClientError> {
        self.read("/v1/nodes").await
    }

    /// Fetches the status of the Seed itself.
    ///
    /// # Errors
    /// The Seed refuses or is not there.
    pub async fn status(&self) -> Result<SeedStatus, ClientError> {
        self.read("/v1/status").await
    }

    /// Fetches an accepted build.
    ///
    /// # Errors
    /// The Seed has none of that id, or is not there.
    pub async fn build(&self, build: BuildId) -> Result<BuildView, ClientError> {
        self.read(&format!("/v1/builds/{build}")).await
    }

    /// Opens a node's link. The receiver tells when it has ended; dropping both ends it too.
    ///
    /// # Errors
    /// The Seed refuses the node or is not there.
    pub async fn link(&self, hello: Hello) -> Result<(LinkSender, LinkReceiver), ClientError> {
        let (sender, body) = link::sender(hello);
        let response = self
            .call(Method::POST, "/v1/link", body.boxed_unsync())
            .await?;
        Ok((sender, LinkReceiver::new(StreamedResponse::new(response))))
    }

    /// Sends a GET for any `https://` URL of the Seed, for a response with a streamed body, whatever its status.
    ///
    /// # Errors
    /// The Seed is not there.
    pub async fn get(&self, url: &str) -> Result<StreamedResponse, ClientError> {
        self.open(Method::GET, url).await
    }

    async fn open(&self, method: Method, url: &str) -> Result<StreamedResponse, ClientError> {
        let request = request(method, url, empty(), None)?;
        let response = timed(url, HEAD_TIMEOUT, self.send(request)).await?;
        Ok(StreamedResponse::new(response))
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
        body: RequestBody,
    ) -> Result<Response<Incoming>, ClientError> {
        let url = self.at(path);
        let request = request(method, &url, body, Some("application/json"))?;
        checked(timed(&url, HEAD_TIMEOUT, self.send(request)).await?).await
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, ClientError> {
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
    /// Sends a GET for an `https://` URL of the node, for a response with a streamed body, whatever its status.
    ///
    /// # Errors
    /// That node does not answer there.
    pub async fn get(&self, url: &str) -> Result<StreamedResponse, ClientError> {
        self.0.open(Method::GET, url).await
    }

    /// Sends a request without a body, by any method, like [`Self::get`].
    ///
    /// # Errors
    /// That node does not answer there.
    pub async fn open(&self, method: Method, url: &str) -> Result<StreamedResponse, ClientError> {
        self.0.open(method, url).await
    }
}
