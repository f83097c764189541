//! Accept loops, connections and their end.

use crate::{Limits, Service, http1, http2};
use protoplex_http::Scheme;
use rustls::ServerConfig;
use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// After an accept that failed, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything that connections share.
pub(crate) struct Shared<S> {
    pub(crate) service: Arc<S>,
    pub(crate) limits: Limits,
    pub(crate) draining: CancellationToken,
    pub(crate) in_flight: Arc<AtomicUsize>,
    pub(crate) tasks: TaskTracker,
    tls: Option<TlsAcceptor>,
    connections: AtomicUsize,
    permits: Arc<Semaphore>,
}

/// A set of listeners that call one service.
pub struct Server<S>(Arc<Shared<S>>);

/// An accept loop.
pub struct ListenHandle(CancellationToken);

impl ListenHandle {
    /// Stops accepting. The socket closes here, and stays open for others who hold it.
    pub fn stop(self) {
        self.0.cancel();
    }
}

/// Counts while it lives.
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Counts while it lives, wherever it goes.
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }

    /// One more of the same.
    pub(crate) fn beside(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<S: Service> Server<S> {
    /// Nothing is accepted yet. Without `tls`, HTTPS listeners close every connection.
    pub fn new(service: Arc<S>, limits: Limits, tls: Option<Arc<ServerConfig>>) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections_max));
        Self(Arc::new(Shared {
            service,
            limits,
            draining: CancellationToken::new(),
            in_flight: Arc::default(),
            tls: tls.map(TlsAcceptor::from),
            connections: AtomicUsize::new(0),
            permits,
            tasks: TaskTracker::new(),
        }))
    }

    /// Accepts until it is told to stop; errors never end it.
    pub fn listen(&self, listener: TcpListener, scheme: Scheme) -> ListenHandle {
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&self.0), stop.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = shared.draining.cancelled() => {}
                () = accept(&shared, &listener, scheme) => {}
            }
        });
        ListenHandle(stop)
    }

    /// Ends idle connections now and others after the reply they are at.
    pub fn drain(&self) {
        self.0.draining.cancel();
        self.0.tasks.close();
    }

    /// Returns when no connection is left. Call [`Self::drain`] before.
    pub async fn drained(&self) {
        self.0.tasks.wait().await;
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Relaxed)
    }

    /// Requests being answered.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Relaxed)
    }
}

async fn accept<S: Service>(shared: &Arc<Shared<S>>, listener: &TcpListener, scheme: Scheme) {
    loop {
        let Ok(permit) = Arc::clone(&shared.permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Not fatal: the connection is slower.
                let _ = stream.set_nodelay(true);
                let connection = connection(Arc::clone(shared), stream, peer.ip(), scheme);
                shared.tasks.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // The client's doing, and no reason to keep the next one waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S: Service>(
    shared: Arc<Shared<S>>,
    stream: TcpStream,
    peer: IpAddr,
    scheme: Scheme,
) {
    let _counted = Counted::new(&shared.connections);
    let client = peer.to_canonical();
    match (scheme, &shared.tls) {
        (Scheme::Http, _) => http1::serve(&shared, stream, scheme, client).await,
        (Scheme::Https, Some(tls)) => {
            let handshake = timeout(shared.limits.handshake_timeout, tls.accept(stream));
            let handshake = tokio::select! { biased; done = handshake => done, () = shared.draining.cancelled() => return };
            let Ok(Ok(stream)) = handshake else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2::serve(&shared, stream, scheme, client).await;
            } else {
                http1::serve(&shared, stream, scheme, client).await;
            }
        }
        (Scheme::Https, None) => {}
    }
}
