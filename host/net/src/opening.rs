//! Opens an accepted connection: its PROXY header, its TLS handshake, and then its protocol.

use crate::{
    AcceptedConnection, ConnectionPermit, ConnectionStream, ConnectionTask, Connections, Entrance,
    Peer, Protocol, RefusalCause, Security, Socket, address_range::any_contains, proxy_protocol,
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// First byte of a TLS record that begins a connection (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Permit of a connection, where its address is limited.
pub(crate) type AddressPermit = Option<ConnectionPermit>;

/// What a connection that was just accepted gets of its listener.
pub(crate) struct Opening<P> {
    pub(crate) all: Connections,
    pub(crate) entrance: Entrance,
    pub(crate) leaving: CancellationToken,
    pub(crate) protocol: P,
}

/// A connection that left its protocol for another.
pub(crate) struct LeftProtocol {
    pub(crate) onward: ConnectionTask,
    pub(crate) of_address: AddressPermit,
}

/// Serves a connection from an address whose connections begin with a PROXY header.
pub(crate) async fn announced<P: Protocol>(
    opening: &Opening<P>,
    mut stream: TcpStream,
    balancer: SocketAddr,
) -> Option<LeftProtocol> {
    let all = &opening.all;
    let header = timeout(
        all.limits().proxy_header_timeout,
        proxy_protocol::read(&mut stream),
    );
    let header = tokio::select! {
        biased;
        read = header => read,
        () = all.leave(&opening.leaving) => return None,
    };
    let (address, of_address) = match header {
        Ok(Ok(Some(client))) => (canonical(client), all.admit_connection(client.ip())),
        // The balancer's own health check.
        Ok(Ok(None)) => (balancer, Ok(None)),
        Ok(Err(fault)) => {
            tracing::debug!(%balancer, %fault, "a connection is closed: its PROXY header is missing or malformed");
            all.counters().count(RefusalCause::ProxyHeader);
            return None;
        }
        Err(_) => {
            all.counters().count(RefusalCause::ProxyHeader);
            return None;
        }
    };
    match of_address {
        Ok(of_address) => serve(opening, stream, address, of_address).await,
        Err(cause) => {
            all.counters().count(cause);
            None
        }
    }
}

/// Serves a connection to its end, or until it goes on with another protocol.
pub(crate) async fn serve<P: Protocol>(
    opening: &Opening<P>,
    stream: TcpStream,
    address: SocketAddr,
    of_address: AddressPermit,
) -> Option<LeftProtocol> {
    let Opening {
        all,
        entrance,
        leaving,
        protocol,
    } = opening;
    let is_internal = entrance.is_internal;
    let peer = Peer {
        address: address.ip(),
        port: address.port(),
        is_internal,
        forwards: !is_internal && any_contains(&all.trust().forwarded_from, address.ip()),
        account: of_address
            .as_ref()
            .map(|permit| Arc::clone(permit.account())),
        leaving: leaving.clone(),
    };
    let stream = match &entrance.security {
        Security::Plain => ConnectionStream::Plain(stream.into()),
        Security::Either(handoff) => {
            if begins_with_tls(all, &stream, leaving).await? {
                let onward = handoff(stream);
                return Some(LeftProtocol { onward, of_address });
            }
            ConnectionStream::Plain(stream.into())
        }
        // On the heap: a connection without TLS does not carry what one with it needs.
        Security::Tls => {
            ConnectionStream::Tls(Box::pin(handshake(all, all.tls()?, stream, leaving)).await?)
        }
    };
    let onward = protocol.serve(AcceptedConnection { stream, peer }).await?;
    Some(LeftProtocol { onward, of_address })
}

/// Does the TLS handshake. `None` where the client breaks the protocol, takes too long, or has not begun and the
/// connection has to go. A handshake that has begun is finished, as a plain connection is served: its own timeout
/// bounds it, and the drain's.
async fn handshake(
    all: &Connections,
    tls: &TlsAcceptor,
    stream: TcpStream,
    leaving: &CancellationToken,
) -> Option<Box<TlsStream<Socket>>> {
    let since = Instant::now();
    let handshake = timeout(all.limits().handshake_timeout, async {
        let mut first = [0];
        tokio::select! {
            biased;
            begun = stream.peek(&mut first) => begun.ok()?,
            () = all.leave_unasked(leaving, since) => return None,
        };
        Some(tls.accept(Socket::from(stream)).await)
    });
    match handshake.await {
        Ok(Some(Ok(stream))) => Some(Box::new(stream)),
        Ok(None) => None,
        Ok(Some(Err(_))) | Err(_) => {
            all.counters().count(RefusalCause::Handshake);
            None
        }
    }
}

/// Whether the first byte is that of a TLS handshake; `None` where no byte comes in time.
async fn begins_with_tls(
    all: &Connections,
    stream: &TcpStream,
    leaving: &CancellationToken,
) -> Option<bool> {
    let (mut first, since) = ([0], Instant::now());
    let peeked = timeout(all.limits().first_byte_timeout, stream.peek(&mut first));
    let peeked = tokio::select! {
        biased;
        peeked = peeked => peeked,
        () = all.leave_unasked(leaving, since) => return None,
    };
    match peeked {
        Ok(Ok(1)) => Some(first == [TLS_HANDSHAKE]),
        Ok(_) => None,
        Err(_) => {
            all.counters().count(RefusalCause::Silent);
            None
        }
    }
}

/// Turns an IPv4 address in IPv6 into IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
