//! Listening sockets. One of each kind for each child, on one port: the kernel balances. They stay open as long as
//! the parent lives, so a queue of connections never dies with a child.

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted, for each socket.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to one port; 0 takes any free one.
///
/// # Errors
/// Names the address that cannot be had.
pub(super) fn reuse_port(
    bind: IpAddr,
    port: u16,
    count: usize,
) -> anyhow::Result<(Vec<Socket>, SocketAddr)> {
    let mut address = SocketAddr::new(bind, port);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        address = listen(&socket, address)?;
        sockets.push(socket);
    }
    Ok((sockets, address))
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

/// Where other nodes reach what was bound to an address: to every address is none that they could name.
pub(super) fn reached(bound: SocketAddr, otherwise: IpAddr) -> SocketAddr {
    match bound.ip().is_unspecified() {
        true => SocketAddr::new(otherwise, bound.port()),
        false => bound,
    }
}

/// Binds one socket for each child, each to a port of its own, `port` and those after it; 0 takes any free ones.
///
/// # Errors
/// Names the address that cannot be had.
pub(super) fn internal(
    bind: IpAddr,
    port: u16,
    children: usize,
) -> anyhow::Result<(Vec<Socket>, Vec<String>)> {
    let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
    for child in 0..children {
        let port = match port {
            0 => 0,
            first => u16::try_from(usize::from(first) + child)
                .context("the internal ports end above 65535")?,
        };
        let (socket, address) = reuse_port(bind, port, 1)?;
        sockets.extend(socket);
        addresses.push(format!("http://{address}"));
    }
    Ok((sockets, addresses))
}
