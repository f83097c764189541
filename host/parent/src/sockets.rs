//! Listening sockets. One of each kind for each child, on one port: the kernel balances. They stay open as long as
//! the parent lives, so a queue of connections never dies with a child.

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted, for each socket.
const BACKLOG: i32 = 4096;

/// Sockets that listen on one port, between which the kernel balances.
pub(super) struct SharedPort {
    pub(super) sockets: Vec<Socket>,
    pub(super) address: SocketAddr,
}

/// Binds `count` sockets to one port; 0 takes any free one.
///
/// # Errors
/// Names the address that cannot be had.
pub(super) fn shared_port(bind: IpAddr, port: u16, count: usize) -> anyhow::Result<SharedPort> {
    let mut address = SocketAddr::new(bind, port);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        address = listen(&socket, address)?;
        sockets.push(socket);
    }
    Ok(SharedPort { sockets, address })
}

/// Binds one socket that no other process shares; 0 takes any free port.
///
/// # Errors
/// Names the address that cannot be had.
pub(super) fn alone(bind: IpAddr, port: u16) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::new(bind, port);
    let socket = unbound(address)?;
    let address = listen(&socket, address)?;
    Ok((TcpListener::from_std(socket.into())?, address))
}

fn unbound(address: SocketAddr) -> anyhow::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // `::` is every address, whatever this machine's default is.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn listen(socket: &Socket, address: SocketAddr) -> anyhow::Result<SocketAddr> {
    socket
        .bind(&address.into())
        .with_context(|| format!("{address} cannot be bound"))?;
    socket
        .listen(BACKLOG)
        .with_context(|| format!("{address} cannot be listened on"))?;
    let address = socket.local_addr()?.as_socket();
    address.context("a TCP socket has an address")
}

/// Where other nodes reach what was bound to an address. They could not name "every address", and come by `otherwise`.
pub(super) fn reached(bound: SocketAddr, otherwise: IpAddr) -> SocketAddr {
    match bound.ip().is_unspecified() {
        true => SocketAddr::new(otherwise, bound.port()),
        false => bound,
    }
}

/// Sockets of which each has a port of its own.
#[derive(Default)]
pub(super) struct SeparatePorts {
    pub(super) sockets: Vec<Socket>,
    /// Where each socket is reached, `http://address:port`.
    pub(super) addresses: Vec<String>,
}

/// Binds one socket for each child, each to a port of its own, `port` and those after it; 0 takes any free ones.
///
/// # Errors
/// Names the address that cannot be had.
pub(super) fn separate_ports(
    bind: IpAddr,
    port: u16,
    children: usize,
) -> anyhow::Result<SeparatePorts> {
    let mut bound = SeparatePorts::default();
    for child in 0..children {
        let port = match port {
            0 => 0,
            first => u16::try_from(usize::from(first) + child)
                .context("the internal ports end above 65535")?,
        };
        let SharedPort { sockets, address } = shared_port(bind, port, 1)?;
        bound.sockets.extend(sockets);
        bound.addresses.push(format!("http://{address}"));
    }
    Ok(bound)
}
