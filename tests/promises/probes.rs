//! Ports that load balancers, nodes and operators ask: connections that say nothing keep nobody out.

use protoplex_tests::{Connection, Fleet};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// More than any of these ports holds of clients that have not said who they are, from one address.
const SILENT: usize = 300;
/// Addresses that one attacker has. With as many connections as one of them may have, each, they are more than all
/// clients of the Seed together that have not said who they are.
const ADDRESSES: u8 = 9;
const ADDRESS_SILENT: usize = 128;
/// A balancer gives a probe some seconds.
const PROBE_MAX: Duration = Duration::from_secs(3);

fn host(url: &str) -> String {
    url.split_once("//").unwrap().1.to_owned()
}

async fn silent(address: &str) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..SILENT {
        // Where the backlog is full, one more waits in vain, which is the test's point.
        let opened = timeout(Duration::from_millis(500), TcpStream::connect(address)).await;
        all.extend(opened.ok().and_then(Result::ok));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_answered_beside_connections_that_say_nothing() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let health = fleet.node("proxy").health;
    let _silent = silent(&health).await;
    for path in ["/healthz", "/readyz", "/healthz", "/readyz"] {
        let asked = Instant::now();
        let answer = timeout(PROBE_MAX, Connection::get_once(&health, path)).await;
        let answer = answer.expect("it is answered in time").unwrap();
        assert_eq!(answer.status, 200, "{path} after {:?}", asked.elapsed());
    }
    // A balancer that keeps its connection may do so.
    let mut kept = Connection::open(&health).await.unwrap();
    for _ in 0..3 {
        assert_eq!(kept.get("/readyz").await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_the_fleet_are_answered_beside_connections_that_say_nothing() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let meta = host(&fleet.node("proxy").meta);
    let seed = host(fleet.info["seed"].as_str().unwrap());
    let _silent = (silent(&meta).await, silent(&seed).await);
    let asked = timeout(PROBE_MAX, fleet.meta("proxy", "/status")).await;
    assert!(asked.expect("it is answered in time").is_ok());
    let pushed = fleet.push("builds/sample.toml", &["greeting=two"]).unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
}

/// The newest connection is let in, whoever has all the room, and the oldest silent one makes room for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_many_addresses_keeps_no_node_and_no_operator_out() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let seed = host(fleet.info["seed"].as_str().unwrap());
    let meta = host(&fleet.node("proxy").meta);
    // More than a process has by default.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    for port in [&meta, &seed] {
        let address: SocketAddr = port.parse().unwrap();
        let mut silent = Vec::new();
        for last in 0..ADDRESSES {
            let from = SocketAddr::from((Ipv4Addr::new(127, 0, 9, last + 1), 0));
            for _ in 0..ADDRESS_SILENT {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(from).unwrap();
                silent.push(socket.connect(address).await.unwrap());
            }
        }
        // Before their time is over, and more than once: each takes the place of one of them.
        for _ in 0..5 {
            let asked = match port == &meta {
                true => {
                    let status = timeout(PROBE_MAX, fleet.meta("proxy", "/status")).await;
                    status.map(|status| drop(status.unwrap()))
                }
                false => {
                    let client = fleet.client().unwrap();
                    let nodes = timeout(PROBE_MAX, client.nodes()).await;
                    nodes.map(|nodes| assert_eq!(nodes.unwrap().len(), 2))
                }
            };
            asked.unwrap_or_else(|_| panic!("{port} does not answer"));
        }
        drop(silent);
    }
    // A node that was away comes back beside them.
    let app = fleet.node("app");
    let silent = silent(&seed).await;
    fleet.drain_and_restart(&app.name).await.unwrap();
    drop(silent);
}
