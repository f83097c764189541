//! The PROXY protocol: servers are told who the client is, and a connection tells of one client only.

use crate::support::{get, group, read, send, soon, upstream};
use protoplex_wire::manifest::{ProxyProtocol, UpstreamProtocol};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn each_connection_begins_with_its_own_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut upstream = upstream(UpstreamProtocol::Http1, &[]);
    upstream.addresses = vec![listener.local_addr().unwrap().to_string()];
    upstream.proxy_protocol = Some(ProxyProtocol::V1);
    let group = group(&upstream);
    let serving = tokio::spawn(async move {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                text.push(io.read_u8().await.unwrap());
            }
            io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            heard.push((io, String::from_utf8(text).unwrap()));
        }
        heard
    });
    // One whose port is known, and one of whom a forwarder told the address: 0 is a port to the protocol.
    let clients = [("192.0.2.1", 4711), ("192.0.2.2", 0)];
    for (client, port) in clients {
        let mut request = get("/");
        request.client = SocketAddr::new(client.parse().unwrap(), port);
        let reply = send(&group, request).await.unwrap();
        assert_eq!(read(reply).await.unwrap(), "ok");
    }
    let heard = soon(serving).await.unwrap();
    for ((_, text), (client, port)) in heard.iter().zip(clients) {
        assert!(
            text.starts_with(&format!("PROXY TCP4 {client} 127.0.0.1 {port} ")),
            "{text}"
        );
        assert!(text.contains("\r\nGET / HTTP/1.1\r\n"), "{text}");
    }
}
