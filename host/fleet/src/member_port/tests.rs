//! A port on loopback, and members who call there.

use super::*;
use crate::{Authority, Expected, MemberFiles, authority::IssuedCertificate, mutual_tls};
use axum::routing::get;
use protoplex_wire::manifest::Role;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

struct Port {
    dir: TempDir,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Port {
    /// A port of node `app-1`, for operators.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let issued = authority.issue_node("app-1", Role::App, &[]).unwrap();
        let files = MemberFiles::read(&authority.identity(&issued)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = MemberPort {
            name: "test",
            listener,
            tls: mutual_tls::server_config(&files).unwrap(),
            router: operators_only(Router::new().route("/", get(async || "here"))),
            connections_max: 8,
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(port.serve(TaskTracker::new(), shutdown.clone()));
        Self {
            dir,
            address,
            shutdown,
        }
    }

    fn authority(&self) -> Authority {
        Authority::open_or_create(self.dir.path()).unwrap()
    }

    /// The response to a request of the holder of `issued`, who means to speak to `expected`.
    async fn ask(&self, issued: &IssuedCertificate, expected: Expected) -> std::io::Result<String> {
        let files = MemberFiles::read(&self.authority().identity(issued)).unwrap();
        let tls = mutual_tls::client_config(&files, expected).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        let mut stream = TlsConnector::from(tls).connect(name, stream).await?;
        let request = b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok(response)
    }
}

fn app_1() -> Expected {
    Expected::NodeNamed("app-1".to_owned())
}

#[tokio::test]
async fn a_port_for_operators_refuses_nodes() {
    let port = Port::start().await;
    let authority = port.authority();
    let node = authority.issue_node("app-2", Role::App, &[]).unwrap();
    for (issued, status) in [
        (authority.issue_operator("me").unwrap(), 200),
        (authority.issue_seed(&[]).unwrap(), 200),
        (node, 403),
    ] {
        let response = port.ask(&issued, app_1()).await.unwrap();
        let head = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&head), "{response}");
    }
}

#[tokio::test]
async fn a_client_speaks_to_nobody_but_the_member_it_means() {
    let port = Port::start().await;
    let operator = port.authority().issue_operator("me").unwrap();
    let other = Expected::NodeNamed("app-2".to_owned());
    for expected in [Expected::Seed, other, Expected::NodeOf(Role::Live)] {
        let error = port.ask(&operator, expected).await.unwrap_err().to_string();
        assert!(error.contains("protoplex://node/app/app-1"), "{error}");
    }
    let right = Expected::NodeOf(Role::App);
    port.ask(&operator, right).await.unwrap();
}

#[tokio::test]
async fn a_member_of_another_fleet_gets_no_response() {
    let port = Port::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::open_or_create(elsewhere.path()).unwrap();
    let foreign = foreign.issue_operator("me").unwrap();
    let response = port.ask(&foreign, app_1()).await;
    assert!(response.is_err(), "{response:?}");
    port.shutdown.cancel();
}
