//! Requests that app handlers send: only to hosts that their grants name, and to no private address that is not
//! named as such. The address is checked after DNS, at the moment of connecting.

mod policy;

use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
pub(crate) use policy::Policy;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Until connected, where the guest sets no other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the response's head, likewise.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections to one host that are kept.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// The client of one handler. Its pool is its own, since what it may reach is.
#[derive(Clone)]
pub(crate) struct Outgoing {
    policy: Arc<Policy>,
    client: Client<HttpsConnector<HttpConnector<CheckedResolver>>, WasiBody>,
}

type IoResult = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(http::Response<WasiBody>, IoResult), Error>;

impl Outgoing {
    pub(crate) fn new(policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let mut connector = HttpConnector::new_with_resolver(CheckedResolver(Arc::clone(&policy)));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::aws_lc_rs::default_provider())
            .expect("the provider has the default protocol versions");
        let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { policy, client }
    }

    async fn send(
        self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> SendResult {
        self.policy.check_request(request.uri())?;
        let first_byte = options
            .and_then(|options| options.first_byte_timeout)
            .unwrap_or(FIRST_BYTE_TIMEOUT);
        let response = tokio::time::timeout(first_byte, self.client.request(request)).await;
        let response = response
            .map_err(|_| Error::HttpResponseTimeout)?
            .map_err(|error| cause(&error))?;
        let done: IoResult = Box::new(std::future::ready(Ok(())));
        Ok((
            response.map(|body| body.map_err(Error::Hyper).boxed_unsync()),
            done,
        ))
    }
}

/// Whose fault a failed exchange was.
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
        Box::new(self.clone().send(request, options))
    }
}

/// DNS, then the policy: what is left may be connected to.
#[derive(Clone)]
struct CheckedResolver(Arc<Policy>);

impl tower_service::Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?
                .collect();
            let allowed: Vec<_> = found
                .into_iter()
                .filter(|a| policy.allows_address(name.as_str(), a.ip()))
                .collect();
            if allowed.is_empty() {
                let text = format!(
                    "{} has only addresses that the handler's grants do not name",
                    name.as_str()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Ok(allowed.into_iter())
        })
    }
}
