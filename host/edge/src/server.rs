//! Accept loops, connections and their end.

use crate::{
    AccessLog, Limits, Service, Trust,
    addresses::{Address, Addresses, Seat, Turn},
    counters::{Cause, Counters},
    http1::{
        self,
        head::{Refusal, TOO_MANY_REQUESTS},
    },
    http2,
    guards::Held,
    io::Secured,
    pace::BodyRules,
    proxy_protocol,
    ranges::any_contains,
    shed,
    visitor::Peer,
};
use futures::FutureExt;
use protoplex_http::{Onward, Scheme};
use rustls::ServerConfig;
use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The first byte of a TLS record that begins a connection (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// After an accept that failed and left nothing to do about it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client that was just let in is no idle one for this long: a request takes a round trip to come, and those around
/// the world take a third of a second.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// Everything that connections share.
pub(crate) struct Shared<S> {
    pub(crate) service: Arc<S>,
    pub(crate) limits: Limits,
    pub(crate) body_rules: Arc<BodyRules>,
    pub(crate) trust: Trust,
    pub(crate) access_log: Option<Arc<dyn AccessLog>>,
    pub(crate) addresses: Addresses,
    pub(crate) counters: Counters,
    pub(crate) draining: CancellationToken,
    pub(crate) in_flight: Arc<AtomicUsize>,
    pub(crate) tasks: TaskTracker,
    pub(crate) tunnels: Arc<AtomicUsize>,
    pub(crate) window_budget: Arc<http2::WindowBudget>,
    tls: Option<TlsAcceptor>,
    connections: Arc<AtomicUsize>,
    permits: Arc<Semaphore>,
}

/// Settings of a server.
#[derive(Clone, Default)]
pub struct Settings {
    /// Limits on what clients may take.
    pub limits: Limits,
    /// Forwarders that are believed.
    pub trust: Trust,
    /// Without it, HTTPS listeners close every connection.
    pub tls: Option<Arc<ServerConfig>>,
    /// Hears what each request came to.
    pub access_log: Option<Arc<dyn AccessLog>>,
}

/// A set of listeners that call one service.
pub struct Server<S>(Arc<Shared<S>>);

/// Takes a connection that speaks TLS where HTTP is plain.
pub type Divert = Arc<dyn Fn(TcpStream) -> Onward + Send + Sync>;

/// Scheme and kind of a listener's connections.
#[derive(Clone)]
struct Door {
    scheme: Scheme,
    /// Nodes of the fleet connect here, by themselves: no balancer speaks for anybody.
    is_internal: bool,
    divert: Option<Divert>,
}

impl Door {
    fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            is_internal: false,
            divert: None,
        }
    }

    fn internal(divert: Option<Divert>) -> Self {
        Self {
            scheme: Scheme::Http,
            is_internal: true,
            divert,
        }
    }
}

/// An accept loop.
pub struct ListenHandle {
    accepting: CancellationToken,
    /// Cancelled by `retire`: connections accepted here close after their current response.
    leaving: CancellationToken,
}

impl ListenHandle {
    /// Stops accepting. The socket closes here, and stays open for others who hold it.
    pub fn stop(self) {
        self.accepting.cancel();
    }

    /// Stops accepting, and sends away the connections accepted here, as a drain does.
    pub fn retire(self) {
        self.accepting.cancel();
        self.leaving.cancel();
    }
}

impl<S: Service> Server<S> {
    /// Nothing is accepted yet.
    pub fn new(service: Arc<S>, settings: Settings) -> Self {
        let Settings {
            limits,
            trust,
            tls,
            access_log,
        } = settings;
        let connections = Arc::default();
        Self(Arc::new(Shared {
            service,
            body_rules: Arc::new(BodyRules::new(&limits, &connections)),
            addresses: Addresses::new(&limits),
            permits: Arc::new(Semaphore::new(limits.connections_max)),
            limits,
            trust,
            access_log,
            counters: Counters::default(),
            draining: CancellationToken::new(),
            in_flight: Arc::default(),
            tls: tls.map(TlsAcceptor::from),
            connections,
            tasks: TaskTracker::new(),
            tunnels: Arc::default(),
            window_budget: Arc::default(),
        }))
    }

    /// Accepts until it is told to stop, or the socket is shut; errors never end it.
    pub fn listen(&self, listener: TcpListener, scheme: Scheme) -> ListenHandle {
        self.listen_by(listener, Door::new(scheme))
    }

    /// Accepts plain HTTP of the fleet's nodes: the build that a request names is told to the service.
    pub fn listen_internal(&self, listener: TcpListener) -> ListenHandle {
        self.listen_by(listener, Door::internal(None))
    }

    /// Accepts as [`Self::listen_internal`] does; `divert` takes connections that begin with a TLS handshake.
    pub fn listen_beside(&self, listener: TcpListener, divert: Divert) -> ListenHandle {
        self.listen_by(listener, Door::internal(Some(divert)))
    }

    fn listen_by(&self, listener: TcpListener, door: Door) -> ListenHandle {
        let accepting = CancellationToken::new();
        let leaving = self.0.draining.child_token();
        let handle = ListenHandle {
            accepting: accepting.clone(),
            leaving: leaving.clone(),
        };
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = accepting.cancelled() => {}
                () = shared.draining.cancelled() => accept_rest(&shared, &listener, &door, &leaving),
                () = accept(&shared, &listener, &door, &leaving) => {}
            }
        });
        handle
    }

    /// Ends idle connections over a short while and others after the reply they are at.
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

    /// Connections and streams that were switched to something else and are not over.
    pub fn tunnels(&self) -> usize {
        self.0.tunnels.load(Relaxed)
    }

    /// Accept loops, connections, and streams of HTTP/2.
    pub fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// Counts of what was refused or cut.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Names the nodes of the fleet: their visitors were counted where they came in.
    pub fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        self.0.addresses.set_fleet(nodes);
    }

    /// Requests being answered.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Relaxed)
    }
}

async fn accept<S: Service>(
    shared: &Arc<Shared<S>>,
    listener: &TcpListener,
    door: &Door,
    leaving: &CancellationToken,
) {
    let mut spare = shed::Spare::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(shared, stream, canonical(peer), door, leaving),
            // The client's doing, and no reason to keep the next one waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // It was shut by somebody who shares it: nobody comes here any more.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                if spare.may_log() {
                    tracing::warn!(%error, "accept failed");
                }
                let shed = shed::is_exhaustion(&error) && spare.shed(listener);
                if shed {
                    shared.counters.count(Cause::Descriptors);
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Lets in the connections that wait already; they are told to go with the first answer.
fn accept_rest<S: Service>(
    shared: &Arc<Shared<S>>,
    listener: &TcpListener,
    door: &Door,
    leaving: &CancellationToken,
) {
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        admit(shared, stream, canonical(peer), door, leaving);
    }
}

/// Starts the task of a connection, if there is room for it.
fn admit<S: Service>(
    shared: &Arc<Shared<S>>,
    stream: TcpStream,
    address: SocketAddr,
    door: &Door,
    leaving: &CancellationToken,
) {
    let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
        shared.counters.count(Cause::ConnectionsMax);
        return shed::turn_away(stream, door.scheme);
    };
    // Whom a balancer speaks for is not known yet.
    let speaks_first =
        !door.is_internal && any_contains(&shared.trust.proxy_protocol_from, address.ip());
    let seat = if speaks_first {
        Ok(None)
    } else {
        shared.sit(address.ip())
    };
    let Ok(seat) = seat else {
        return shared.counters.count(Cause::AddressConnections);
    };
    // Not fatal: the connection is slower.
    let _ = stream.set_nodelay(true);
    let (shared_by_all, leaving, door) = (Arc::clone(shared), leaving.clone(), door.clone());
    shared.tasks.spawn(async move {
        let shared = shared_by_all;
        let counted = Held::new(&shared.connections);
        let onward = if speaks_first {
            Box::pin(announced(&shared, stream, address, &door, &leaving)).await
        } else {
            connection(&shared, stream, address, seat, &door, &leaving).await
        };
        if let Some((onward, seat)) = onward {
            // In a task of its own, which is as large as that needs, and not as a request does.
            shared.tasks.spawn(async move {
                onward.await;
                drop((permit, counted, seat));
            });
        }
    });
}

/// A connection from where a PROXY header must come first.
async fn announced<S: Service>(
    shared: &Arc<Shared<S>>,
    mut stream: TcpStream,
    balancer: SocketAddr,
    door: &Door,
    leaving: &CancellationToken,
) -> Option<(Onward, Option<Seat>)> {
    let header = timeout(
        shared.limits.proxy_header_timeout,
        proxy_protocol::read(&mut stream),
    );
    let header =
        tokio::select! { biased; read = header => read, () = shared.leave(leaving) => return None };
    let (address, seat) = match header {
        Ok(Ok(Some(visitor))) => (canonical(visitor), shared.sit(visitor.ip())),
        // The balancer itself, which looks whether we live.
        Ok(Ok(None)) => (balancer, Ok(None)),
        Ok(Err(fault)) => {
            tracing::debug!(%balancer, %fault, "a connection is closed");
            shared.counters.count(Cause::ProxyHeader);
            return None;
        }
        Err(_) => {
            shared.counters.count(Cause::ProxyHeader);
            return None;
        }
    };
    match seat {
        Ok(seat) => connection(shared, stream, address, seat, door, leaving).await,
        Err(cause) => {
            shared.counters.count(cause);
            None
        }
    }
}

/// Serves a connection to its end, or until it goes on with another protocol: that is given back.
async fn connection<S: Service>(
    shared: &Arc<Shared<S>>,
    stream: TcpStream,
    address: SocketAddr,
    seat: Option<Seat>,
    door: &Door,
    leaving: &CancellationToken,
) -> Option<(Onward, Option<Seat>)> {
    let peer = Peer {
        address: address.ip(),
        port: address.port(),
        is_internal: door.is_internal,
        forwards: !door.is_internal && any_contains(&shared.trust.forwarded_from, address.ip()),
        account: seat.as_ref().map(|seat| Arc::clone(seat.account())),
        leaving: leaving.clone(),
    };
    let scheme = door.scheme;
    if let Some(divert) = &door.divert
        && begins_with_tls(shared, &stream, leaving).await?
    {
        return Some((divert(stream), seat));
    }
    let onward = match (scheme, &shared.tls) {
        (Scheme::Http, _) => http1::serve(shared, stream, scheme, peer).await,
        // On the heap: a connection without TLS does not carry what one with it needs.
        (Scheme::Https, Some(tls)) => {
            let stream = Secured(Box::pin(handshake(shared, tls, stream, leaving)).await?);
            if stream.0.get_ref().1.alpn_protocol() == Some(b"h2") {
                Box::pin(http2::serve(shared, stream, scheme, peer)).await;
                None
            } else {
                Box::pin(http1::serve(shared, stream, scheme, peer)).await
            }
        }
        (Scheme::Https, None) => None,
    };
    Some((onward?, seat))
}

/// `None` where the client does not keep to TLS, takes too long, or has not begun and has to go. Who has begun is let
/// in, as by plain HTTP: what bounds it is its own time, and the drain's.
async fn handshake<S>(
    shared: &Shared<S>,
    tls: &TlsAcceptor,
    stream: TcpStream,
    leaving: &CancellationToken,
) -> Option<Box<TlsStream<TcpStream>>> {
    let since = Instant::now();
    let handshake = timeout(shared.limits.handshake_timeout, async {
        let mut first = [0];
        tokio::select! {
            biased;
            begun = stream.peek(&mut first) => begun.ok()?,
            () = shared.leave_unasked(leaving, since) => return None,
        };
        Some(tls.accept(stream).await)
    });
    match handshake.await {
        Ok(Some(Ok(stream))) => Some(Box::new(stream)),
        Ok(None) => None,
        Ok(Some(Err(_))) | Err(_) => {
            shared.counters.count(Cause::Handshake);
            None
        }
    }
}

/// Whether the first byte is that of a TLS handshake; `None` where none comes.
async fn begins_with_tls<S>(
    shared: &Shared<S>,
    stream: &TcpStream,
    leaving: &CancellationToken,
) -> Option<bool> {
    let (mut first, since) = ([0], Instant::now());
    let peeked = timeout(shared.limits.first_byte_timeout, stream.peek(&mut first));
    let peeked = tokio::select! { biased; peeked = peeked => peeked, () = shared.leave_unasked(leaving, since) => return None };
    match peeked {
        Ok(Ok(1)) => Some(first == [TLS_HANDSHAKE]),
        Ok(_) => None,
        Err(_) => {
            shared.counters.count(Cause::Silent);
            None
        }
    }
}

/// An IPv4 address as one, however the socket says it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl<S> Shared<S> {
    /// A place for a connection of an address. A forwarder has one without counting: its visitors are counted.
    fn sit(&self, address: IpAddr) -> Result<Option<Seat>, Cause> {
        if any_contains(&self.trust.forwarded_from, address) {
            return Ok(None);
        }
        self.addresses.sit(address)
    }

    /// Lets a request in, or says how long its client has to wait.
    pub(crate) fn turn(&self, peer: &Peer, client: IpAddr) -> Result<Turn, Duration> {
        match peer.forwards {
            true => self.turn_of(self.addresses.account(client).as_ref()),
            false => self.turn_of(peer.account.as_ref()),
        }
    }

    /// Lets in a request of that account; an error says how long to wait. Who has none is let in.
    pub(crate) fn turn_of(&self, account: Option<&Arc<Address>>) -> Result<Turn, Duration> {
        self.addresses.turn(account).map_err(|(cause, wait)| {
            self.counters.count(cause);
            wait
        })
    }

    /// Counts a request whose head is refused, against its client as well: it takes a turn. What the client is told: who
    /// is over its limits hears that.
    pub(crate) fn refuse(&self, peer: &Peer, client: IpAddr, refusal: Refusal) -> Refusal {
        if self.turn(peer, client).is_err() {
            return TOO_MANY_REQUESTS;
        }
        if let Some(cause) = refusal.cause() {
            self.counters.count(cause);
        }
        refusal
    }

    /// Returns when an idle connection has to go: some time after it was said to, so that not all of them come back
    /// to somebody else at once.
    pub(crate) async fn leave(&self, leaving: &CancellationToken) {
        leaving.cancelled().await;
        let connections = self.connections.load(Relaxed) as f64;
        let needed_s = connections / f64::from(self.limits.drain_closes_per_s.max(1));
        let window_s = needed_s.min(self.limits.drain_window.as_secs_f64());
        let wait = Duration::from_secs_f64(window_s * rand::random::<f64>());
        // On the heap: an idle connection does not carry a timer for the day of the drain.
        Box::pin(tokio::time::sleep(wait)).await;
    }

    /// Waits as `leave` does, then for the first request of a client that has not asked for anything `since` it was let
    /// in: it may be on its way.
    pub(crate) async fn leave_unasked(&self, leaving: &CancellationToken, since: Instant) {
        self.leave(leaving).await;
        Box::pin(tokio::time::sleep_until(since + FIRST_REQUEST_WAIT)).await;
    }

    /// [`Self::leave`], for who is not part of the connection's task.
    pub(crate) async fn leave_later(self: Arc<Self>, leaving: CancellationToken) {
        self.leave(&leaving).await;
    }
}
