//! What must hold for any first bytes of a connection from a balancer.

use super::{SIGNATURE, V2_BYTES_MAX, read};
use std::{
    net::{IpAddr, SocketAddr},
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    runtime::{Builder, Runtime},
};

/// The address of a header, and the bytes behind it; `None` where there is no header.
type Taken = Option<(Option<SocketAddr>, Vec<u8>)>;

/// Exactly the header is taken, and it says the same however it comes; an address that it names is read back from
/// headers of both versions that name it.
pub fn proxy_protocol(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let whole = taken(&[data]);
    let (first, second) = data.split_at(usize::from(cut) % (data.len() + 1));
    assert_eq!(
        taken(&[first, second]),
        whole,
        "it depends on how the bytes came"
    );
    let Some((said, rest)) = whole else { return };
    let header = data
        .strip_suffix(&rest[..])
        .expect("what is left is as it came");
    if header.starts_with(SIGNATURE) {
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        assert!(length <= V2_BYTES_MAX && header.len() == 16 + length);
    } else {
        let end = header.iter().position(|&byte| byte == b'\n');
        assert_eq!(end, Some(header.len() - 1), "a header is one line");
    }
    let Some(source) = said else { return };
    for sent in [version_1(source), version_2(source)] {
        let read = taken(&[&sent, b"GET"]);
        assert_eq!(read, Some((said, b"GET".to_vec())), "{sent:?}");
    }
}

/// A line that names an address, as both ends.
fn version_1(source: SocketAddr) -> Vec<u8> {
    let (ip, port) = (source.ip(), source.port());
    let family = if ip.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {ip} {ip} {port} {port}\r\n").into_bytes()
}

/// A header of bytes that names an address, as both ends.
fn version_2(source: SocketAddr) -> Vec<u8> {
    let (family, ip) = match source.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let length = 2 * ip.len() as u8 + 4;
    let port = source.port().to_be_bytes();
    let parts: [&[u8]; 6] = [
        SIGNATURE,
        &[0x21, family, 0, length],
        &ip,
        &ip,
        &port,
        &port,
    ];
    parts.concat()
}

/// What [`read`] takes of a stream that comes in these pieces and ends.
fn taken(pieces: &[&[u8]]) -> Taken {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    }
    let exchange = async {
        let (ours, theirs) = Pair::pair().expect("two sockets");
        for socket in [&ours, &theirs] {
            socket.set_nonblocking(true).expect("a socket");
        }
        // The kernel does not mind that it is no TCP.
        let mut stream = TcpStream::from_std(OwnedFd::from(ours).into()).expect("a socket");
        let mut peer = UnixStream::from_std(theirs).expect("a socket");
        let send = async move {
            for piece in pieces {
                peer.write_all(piece).await.ok();
                tokio::task::yield_now().await;
            }
        };
        let take = async move {
            let said = read(&mut stream).await.ok()?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok()?;
            Some((said, rest))
        };
        tokio::join!(send, take).1
    };
    RUNTIME.with(|runtime| runtime.block_on(exchange))
}
