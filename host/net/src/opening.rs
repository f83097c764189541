//! The opening of a connection: its PROXY header, its TLS handshake, and then its protocol.

use crate::{
    Cause, Connection, ConnectionPermit, Connections, Entrance, Onward, Peer, Protocol, Security,
    Stream, address_range::any_contains, proxy_protocol,
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// The first byte of a TLS record that begins a connection (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A permit of an address, where its connections are limited.
pub(crate) type OfAddress = Option<ConnectionPermit>;

/// What a connection that was just accepted has of its listener.
pub(crate) struct Opening<P> {
    pub(crate) all: Connections,
    pub(crate) entrance: Entrance,
    pub(crate) leaving: CancellationToken,
    pub(crate) protocol: P,
}

/// A connection that left its protocol.
pub(crate) struct Left {
    pub(crate) onward: Onward,
    pub(crate) of_address: OfAddress,
}

/// A connection from where a PROXY header must come first.
pub(crate) async fn announced<P: Protocol>(
    opening: &Opening<P>,
    mut stream: TcpStream,
    balancer: SocketAddr,
) -> Option<Left> {
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
        // The balancer itself, which looks whether we live.
        Ok(Ok(None)) => (balancer, Ok(None)),
        Ok(Err(fault)) => {
            tracing::debug!(%balancer, %fault, "a connection is closed");
            all.counters().count(Cause::ProxyHeader);
            return None;
        }
        Err(_) => {
            all.counters().count(Cause::ProxyHeader);
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
    of_address: OfAddress,
) -> Option<Left> {
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
        Security::Plain => Stream::Plain(stream),
        Security::Either(handoff) => {
            if begins_with_tls(all, &stream, leaving).await? {
                let onward = handoff(stream);
                return Some(Left { onward, of_address });
            }
            Stream::Plain(stream)
        }
        // On the heap: a connection without TLS does not carry what one with it needs.
        Security::Tls => Stream::Tls(Box::pin(handshake(all, all.tls()?, stream, leaving)).await?),
    };
    let onward = protocol.serve(Connection { stream, peer }).await?;
    Some(Left { onward, of_address })
}

/// `None` where the client does not keep to TLS, takes too long, or has not begun and has to go. Who has begun is let
/// in, as by a plain connection: what bounds it is its own time, and the drain's.
async fn handshake(
    all: &Connections,
    tls: &TlsAcceptor,
    stream: TcpStream,
    leaving: &CancellationToken,
) -> Option<Box<TlsStream<TcpStream>>> {
    let since = Instant::now();
    let handshake = timeout(all.limits().handshake_timeout, async {
        let mut first = [0];
        tokio::select! {
            biased;
            begun = stream.peek(&mut first) => begun.ok()?,
            () = all.leave_unasked(leaving, since) => return None,
        };
        Some(tls.accept(stream).await)
    });
    match handshake.await {
        Ok(Some(Ok(stream))) => Some(Box::new(stream)),
        Ok(None) => None,
        Ok(Some(Err(_))) | Err(_) => {
            all.counters().count(Cause::Handshake);
            None
        }
    }
}

/// Whether the first byte is that of a TLS handshake; `None` where none comes.
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
            all.counters().count(Cause::Silent);
            None
        }
    }
}

/// An IPv4 address as one, however the socket says it.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
