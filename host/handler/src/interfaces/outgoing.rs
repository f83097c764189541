//! Requests that app handlers send: only to hosts that their grants name, and to no private address that is not
//! named as such. The address is checked after DNS, at the moment of connecting. How many are open at once is limited for
//! each handler and for each of its instances; each wait has a timeout, the guest's own or ours.

mod bodies;
mod kept;
mod permits;
mod policy;
mod resolver;

pub(crate) use bodies::Death;
use bodies::{Progress, Received, Sent};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kept::KeptConnector;
use permits::Permits;
pub(crate) use policy::Policy;
use protoplex_wire::manifest::defaults;
use resolver::CheckedResolver;
use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tracing::Instrument;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Until there is room for the request, and again until it is connected, where the guest sets no other time. Two lost SYN
/// are three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the last byte of the request to the response's head, where the guest sets no other: as the deadline of apps.
/// Time in which the guest has more to send, and does not, does not count.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pieces of a response's body that a guest waits for, where it sets no other: as of upstreams.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time that a guest may set. Streams that say something once an hour are known; less often, nobody tells
/// them from dead ones.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Largest share of one instance: a quarter, so that one request does not take what others need.
const INSTANCE_PART: usize = 4;
/// Idle connections to one host that are kept. Of all hosts together a handler keeps as many as it may have requests
/// open: a pattern such as `*.example.com` may name any number of hosts, and each connection takes a descriptor.
const IDLE_CONNECTIONS_MAX: usize = 32;
/// Idle connections are kept this long: no longer than servers keep them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The client of one handler, for one of its instances. Its pool is the handler's own, since what it may reach is.
#[derive(Clone)]
pub(crate) struct Outgoing {
    policy: Arc<Policy>,
    client: Client<HttpsConnector<KeptConnector>, WasiBody>,
    /// Open requests of all instances.
    open: Arc<Semaphore>,
    /// Open requests of this instance.
    own: Arc<Semaphore>,
    own_max: usize,
    death: Death,
}

type IoResult = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(http::Response<WasiBody>, IoResult), Error>;

impl Outgoing {
    /// `outgoing_max` is the manifest's, if it says so.
    pub(crate) fn new(policy: Policy, outgoing_max: Option<u32>) -> Self {
        let policy = Arc::new(policy);
        let mut connector = HttpConnector::new_with_resolver(CheckedResolver(Arc::clone(&policy)));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        // Each request has its own, which may be longer than ours.
        connector.set_connect_timeout(Some(TIMEOUT_MAX));
        let open = outgoing_max.unwrap_or(defaults::OUTGOING_MAX) as usize;
        let connector = KeptConnector::new(connector, open);
        let tls = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::aws_lc_rs::default_provider())
            .expect("the provider has the default protocol versions");
        let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        let own_max = open.div_ceil(INSTANCE_PART);
        Self {
            policy,
            client,
            open: Arc::new(Semaphore::new(open)),
            own: Arc::new(Semaphore::new(own_max)),
            own_max,
            death: Death::default(),
        }
    }

    /// A client for another instance, with the same policy and pool.
    pub(crate) fn for_instance(&self) -> Self {
        Self {
            own: Arc::new(Semaphore::new(self.own_max)),
            death: Death::default(),
            ..self.clone()
        }
    }

    /// Told when the instance dies.
    pub(crate) fn death(&self) -> &Death {
        &self.death
    }

    async fn send(
        self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> SendResult {
        self.policy.check_request(request.uri())?;
        let Timeouts {
            connect,
            first_byte,
            between_bytes,
        } = Timeouts::of(options);
        let permits = Permits::acquire(&self.own, &self.open, connect).await;
        let permits = permits.ok_or(Error::ConnectionLimitReached)?;
        let progress = Progress::new();
        let mut request = request.map(|inner| {
            let (progress, death) = (Arc::clone(&progress), self.death.clone());
            let sent = Sent {
                inner,
                progress,
                death,
            };
            sent.boxed_unsync()
        });
        let mut connected = capture_connection(&mut request);
        let connected = async move { drop(connected.wait_for_connection_metadata().await) };
        let response = self.client.request(request);
        let response = head(response, connected, connect, first_byte, &progress).await?;
        let done: IoResult = Box::new(std::future::ready(Ok(())));
        let response = response.map(|body| {
            let body = body.map_err(Error::Hyper).boxed_unsync();
            Received::new(body, between_bytes, permits).boxed_unsync()
        });
        Ok((response, done))
    }
}

/// How long one request waits for each thing.
#[derive(Debug, PartialEq, Eq)]
struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Timeouts {
    /// The guest's timeouts up to [`TIMEOUT_MAX`], and ours where it sets none.
    fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let within = |asked: Option<Duration>, ours| asked.unwrap_or(ours).min(TIMEOUT_MAX);
        Self {
            connect: within(options.connect_timeout, CONNECT_TIMEOUT),
            first_byte: within(options.first_byte_timeout, FIRST_BYTE_TIMEOUT),
            between_bytes: within(options.between_bytes_timeout, BETWEEN_BYTES_TIMEOUT),
        }
    }
}

/// Waits for the connection, and then for the response's head.
async fn head(
    response: hyper_util::client::legacy::ResponseFuture,
    connected: impl Future<Output = ()>,
    connect: Duration,
    first_byte: Duration,
    progress: &Progress,
) -> Result<http::Response<hyper::body::Incoming>, Error> {
    let mut response = pin!(response);
    tokio::select! {
        biased;
        response = &mut response => return response.map_err(|error| cause(&error)),
        connected = timeout(connect, connected) => {
            connected.map_err(|_| Error::ConnectionTimeout)?;
        }
    }
    progress.made();
    loop {
        // What is still being sent counts as well as an answer.
        match timeout_at(progress.deadline(first_byte), &mut response).await {
            Ok(response) => return response.map_err(|error| cause(&error)),
            Err(_) if progress.deadline(first_byte) > Instant::now() => {}
            Err(_) => return Err(Error::HttpResponseTimeout),
        }
    }
}

/// The error of a failed exchange, by whose fault it was.
fn cause(error: &hyper_util::client::legacy::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
                io::ErrorKind::NotFound => Error::DnsError {
                    rcode: None,
                    info_code: None,
                },
                io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                _ => Error::ConnectionTerminated,
            };
        }
        source = inner.source();
    }
    if error.is_connect() {
        Error::ConnectionRefused
    } else {
        Error::HttpProtocolError
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: IoResult,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let span =
            tracing::debug_span!("capability", capability = "outgoing", uri = %request.uri());
        Box::new(self.clone().send(request, options).instrument(span))
    }
}

#[cfg(test)]
mod tests;
