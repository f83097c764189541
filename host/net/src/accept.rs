//! The accept loop: takes a permit for each connection, and spawns its task.

use crate::{
    Connections, Entrance, OwnedGaugeGuard, Protocol, RefusalCause, Security,
    address_range::any_contains,
    opening::{self, Opening, canonical},
    shed,
};
use futures::FutureExt;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Pause after an accept that failed and left nothing to do about it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket, and what each connection accepted on it gets.
pub(crate) struct OpenListener<P> {
    pub(crate) socket: TcpListener,
    pub(crate) entrance: Entrance,
    /// Cancelled when the connections accepted here have to go.
    pub(crate) leaving: CancellationToken,
    pub(crate) protocol: P,
}

/// Accepts on a socket until it is shut: no other error ends that. `each` gets every connection, and must not wait;
/// `shed` hears of each that was closed because there was no descriptor left for it.
pub async fn accept_all(
    socket: &TcpListener,
    mut each: impl FnMut(TcpStream, SocketAddr),
    mut shed: impl FnMut(),
) {
    let mut spare = shed::SpareDescriptor::new();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => each(stream, canonical(peer)),
            // The client broke the connection off: no reason to keep the next one waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // The socket was shut by a process that shares it: nobody comes here any more.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                if spare.may_log() {
                    let port = socket.local_addr().map_or(0, |address| address.port());
                    tracing::warn!(%error, port, "a connection could not be accepted; the listener goes on");
                }
                if shed::is_exhaustion(&error) && spare.shed(socket) {
                    shed();
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts and admits connections until the socket is shut.
pub(crate) async fn accept<P: Protocol>(all: &Connections, at: &OpenListener<P>) {
    let each = |stream, peer| admit(all, at, stream, peer);
    accept_all(&at.socket, each, || {
        all.counters().count(RefusalCause::Descriptors)
    })
    .await;
}

/// On drain: admits the connections that are in the kernel's backlog already. They are told to go with their first
/// response.
pub(crate) fn accept_rest<P: Protocol>(all: &Connections, at: &OpenListener<P>) {
    while let Some(Ok((stream, peer))) = at.socket.accept().now_or_never() {
        admit(all, at, stream, canonical(peer));
    }
}

/// Starts the task of a connection, if there is room for it; turns it away if not.
fn admit<P: Protocol>(
    all: &Connections,
    at: &OpenListener<P>,
    stream: TcpStream,
    address: SocketAddr,
) {
    let Ok(permit) = Arc::clone(all.permits()).try_acquire_owned() else {
        all.counters().count(RefusalCause::ConnectionsMax);
        let busy = match at.entrance.security {
            Security::Tls => &[],
            Security::Plain | Security::Either(_) => at.protocol.busy(),
        };
        return shed::turn_away(stream, busy);
    };
    // A balancer's connection is counted once its PROXY header has named the client.
    let is_announced =
        !at.entrance.is_internal && any_contains(&all.trust().proxy_protocol_from, address.ip());
    let of_address = if is_announced {
        Ok(None)
    } else {
        all.admit_connection(address.ip())
    };
    let Ok(of_address) = of_address else {
        return all.counters().count(RefusalCause::AddressConnections);
    };
    // Not fatal: the connection is slower.
    let _ = stream.set_nodelay(true);
    let opening = Opening {
        all: all.clone(),
        entrance: at.entrance.clone(),
        leaving: at.leaving.clone(),
        protocol: at.protocol.clone(),
    };
    let span = tracing::debug_span!(
        "connection",
        peer = %address,
        internal = opening.entrance.is_internal,
    );
    let open = async move {
        let opening = opening;
        let counted = OwnedGaugeGuard::new(opening.all.gauge());
        let left = if is_announced {
            Box::pin(opening::announced(&opening, stream, address)).await
        } else {
            opening::serve(&opening, stream, address, of_address).await
        };
        if let Some(opening::LeftProtocol { onward, of_address }) = left {
            // A task of its own, as large as the next protocol needs, and not as a request does.
            let onward = async move {
                onward.await;
                drop((permit, counted, of_address));
            };
            opening.all.tasks().spawn(onward.in_current_span());
        }
    };
    all.tasks().spawn(open.instrument(span));
}
