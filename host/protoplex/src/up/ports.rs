//! Layout of ports, counted from one base.
//!
//! With the base 8080: HTTP 8080, 8081, … and HTTPS 8443, 8444, … (in the order of the table of roles: proxies first), the
//! Seed 9080, what nodes relay to each other 8580, 8581, …, health 9180, 9181, …, meta 9280, 9281, …, and from 9380 on 32
//! ports for each node, for its children where they take keys. Every block has room for all nodes, whatever their roles.

use crate::cli::NODES_MAX;
use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::{Duration, Instant},
};

const HTTPS: u16 = 363;
const RELAY: u16 = 500;
const SEED: u16 = 1_000;
const HEALTH: u16 = 1_100;
const META: u16 = 1_200;
const INTERNAL: u16 = 1_300;
/// Ports that a node has for its children, where they have some, and so the most children that such a node has here.
pub const CHILD_PORTS: u16 = 32;
/// Number of ports from the base on: all ports of an `up` lie in it.
pub const SPAN: u16 = INTERNAL + NODES_MAX * CHILD_PORTS;
/// First port where free ones are looked for, up to [`FREE_END`]: below the kernel's ephemeral ports, so that no
/// outgoing connection takes the port of a node while it restarts.
const FREE_START: u16 = 10_000;
const FREE_END: u16 = 31_000;
/// Most bases that are tried before giving up.
const ATTEMPTS_MAX: usize = 50;
/// Longest wait for a taken port: processes of an `up` that was killed may still be draining.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// The ports of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// Port of plain HTTP.
    pub http: u16,
    /// Port of HTTPS.
    pub https: u16,
    /// Port of liveness and readiness.
    pub health: u16,
    /// Meta port, by mutual TLS.
    pub meta: u16,
    /// Port of the internal listener: plain HTTP for other nodes.
    pub relay: u16,
}

impl NodePorts {
    fn all(self) -> [u16; 5] {
        [self.http, self.https, self.health, self.meta, self.relay]
    }
}

/// Ports of the node with this index.
pub fn node(base: u16, index: u16) -> NodePorts {
    NodePorts {
        http: base + index,
        https: base + HTTPS + index,
        health: base + HEALTH + index,
        meta: base + META + index,
        relay: base + RELAY + index,
    }
}

/// First port for the children of the node with this index.
pub fn internal(base: u16, index: u16) -> u16 {
    base + INTERNAL + index * CHILD_PORTS
}

/// The Seed's port.
pub fn seed(base: u16) -> u16 {
    base + SEED
}

/// Ports that no other `up` of this machine takes while this is held: those of a node are free for a moment whenever
/// it starts, and it shall find them again.
pub struct ReservedPorts {
    base: u16,
    _names: Vec<UnixDatagram>,
}

impl ReservedPorts {
    /// The base of the reserved ports.
    pub fn base(&self) -> u16 {
        self.base
    }
}

/// Settles the base: the one that was asked for, or (0) the one of the last start, or another that is free. It is
/// kept in `file` for the next start. A taken port is waited for until `wait_timeout` is over.
/// `nodes` says of each node whether its children have ports.
///
/// # Errors
/// When a port of the base that was asked for is taken; says which.
pub async fn settle(
    asked: u16,
    nodes: &[bool],
    file: &Path,
    wait_timeout: Duration,
) -> Result<ReservedPorts> {
    let saved = || fs::read_to_string(file).ok()?.trim().parse::<u16>().ok();
    let reserved = match (asked, saved()) {
        (0, Some(saved)) if (1..=u16::MAX - SPAN).contains(&saved) => {
            match wait_free(saved, nodes, wait_timeout).await {
                Ok(saved) => saved,
                Err(_) => free_base(nodes)?,
            }
        }
        (0, _) => free_base(nodes)?,
        (asked, _) => wait_free(asked, nodes, wait_timeout).await?,
    };
    crate::places::write_whole(file, format!("{}\n", reserved.base).as_bytes())?;
    Ok(reserved)
}

async fn wait_free(base: u16, nodes: &[bool], wait_timeout: Duration) -> Result<ReservedPorts> {
    let start = Instant::now();
    loop {
        let (port, error) = match reserve(base, nodes) {
            Ok(reserved) => return Ok(reserved),
            Err(taken) => taken,
        };
        if error.kind() != io::ErrorKind::AddrInUse || start.elapsed() > wait_timeout {
            bail!(port_error(port, &error));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Text that says why a port cannot be had, and what helps.
fn port_error(port: u16, error: &io::Error) -> String {
    let no_descriptors = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    let remedy = match error.raw_os_error() {
        Some(code) if no_descriptors.contains(&code) => {
            "raise the limit of open files, see `ulimit -n`"
        }
        _ => "stop what uses it, or choose others with --port-base N (0 takes free ones)",
    };
    format!("port {port} cannot be had ({error}); {remedy}")
}

fn free_base(nodes: &[bool]) -> Result<ReservedPorts> {
    for _ in 0..ATTEMPTS_MAX {
        let mut random = [0; 2];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        let base = FREE_START + u16::from_le_bytes(random) % (FREE_END - SPAN - FREE_START);
        match reserve(base, nodes) {
            Ok(reserved) => return Ok(reserved),
            Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse => {}
            // Other ports would not help.
            Err((port, error)) => bail!(port_error(port, &error)),
        }
    }
    None.with_context(|| format!("no free ports between {FREE_START} and {FREE_END}"))
}

/// Reserves every port against others like us, then binds each once, all at the same time, and lets them go.
fn reserve(base: u16, nodes: &[bool]) -> Result<ReservedPorts, (u16, io::Error)> {
    let of_nodes = (0..).zip(nodes).flat_map(|(index, has_children)| {
        let ports = node(base, index);
        let children = match has_children {
            true => CHILD_PORTS,
            false => 0,
        };
        let children = (0..children).map(move |child| internal(base, index) + child);
        ports.all().into_iter().chain(children)
    });
    let ports: Vec<u16> = of_nodes.chain([seed(base)]).collect();
    let names: Result<Vec<UnixDatagram>, _> = each(&ports, name_of);
    let bound: Result<Vec<TcpListener>, _> = each(&ports, |port| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
    });
    let (_names, _) = (names?, bound?);
    Ok(ReservedPorts { base, _names })
}

fn each<T>(ports: &[u16], take: impl Fn(u16) -> io::Result<T>) -> Result<Vec<T>, (u16, io::Error)> {
    let all = ports.iter();
    all.map(|port| take(*port).map_err(|error| (*port, error)))
        .collect()
}

/// Binds a name that only one process can have, as long as it lives: no file to be left behind, and gone with the
/// network namespace, as ports are.
fn name_of(port: u16) -> io::Result<UnixDatagram> {
    let name = format!("protoplex-up-{port}");
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_ports_are_the_same() {
        let mut seen: HashSet<u16> = [seed(1)].into();
        for index in 0..NODES_MAX {
            let children = (0..CHILD_PORTS).map(|child| internal(1, index) + child);
            for port in node(1, index).all().into_iter().chain(children) {
                assert!(seen.insert(port) && port < 1 + SPAN, "{port}");
            }
        }
    }

    #[test]
    fn the_documented_ports_are_these() {
        assert_eq!(
            node(8080, 1),
            NodePorts {
                http: 8081,
                https: 8444,
                health: 9181,
                meta: 9281,
                relay: 8581
            }
        );
        assert_eq!(seed(8080), 9080);
    }

    #[tokio::test]
    async fn free_ports_are_kept_for_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("port-base");
        let again = async |asked| settle(asked, &[false, false], &file, Duration::ZERO).await;
        let reserved = again(0).await.expect("free ports");
        let first = reserved.base();
        // No other may have them, though nobody listens yet.
        assert_ne!(again(0).await.expect("free ports").base(), first);
        assert!(again(first).await.is_err());
        drop(reserved);
        crate::places::write_whole(&file, first.to_string().as_bytes()).expect("it is ours");
        assert_eq!(again(0).await.expect("free ports").base(), first);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, node(first, 1).meta)).expect("free");
        assert_ne!(again(0).await.expect("free ports").base(), first);
        let error = again(first).await.err().expect("taken");
        let port = taken.local_addr().expect("bound").port();
        assert!(
            error
                .to_string()
                .starts_with(&format!("port {port} cannot be had")),
            "{error}"
        );
    }
}
