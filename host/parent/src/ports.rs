//! All ports of a node, bound before anything serves.

use crate::{
    config::NodeConfig,
    sockets::{self, SeparatePorts, SharedPort},
    turn_away::NewcomerSockets,
};
use anyhow::Context;
use protoplex_control::messages::ChildConfig;
use protoplex_wire::status::Addresses;
use socket2::Socket;
use std::os::fd::{AsRawFd, RawFd};
use tokio::net::TcpListener;

/// Listening sockets of a node.
pub(crate) struct Ports {
    /// Plain HTTP of clients.
    http: SharedPort,
    /// HTTPS of clients.
    https: SharedPort,
    /// Where other nodes relay to this one.
    relay: SharedPort,
    /// Where other nodes reach each child, for roles that take keys.
    internal: SeparatePorts,
    addresses: Addresses,
}

/// Ports that the parent itself serves.
pub(crate) struct ParentPorts {
    pub(crate) health: TcpListener,
    pub(crate) meta: TcpListener,
}

impl Ports {
    /// Binds all ports of a node.
    ///
    /// # Errors
    /// Names the port or the address that cannot be had.
    pub(crate) async fn bind(config: &NodeConfig) -> anyhow::Result<(Self, ParentPorts)> {
        let public = config.public_bind.unwrap_or(config.bind);
        let http = sockets::shared_port(public, config.http_port, config.children)?;
        let https = sockets::shared_port(public, config.https_port, config.children)?;
        let relay = sockets::shared_port(config.bind, config.relay_port, config.children)?;
        let internal = match config.role.spec().takes_slots {
            true => sockets::separate_ports(config.bind, config.internal_port, config.children)?,
            false => SeparatePorts::default(),
        };
        let (health, health_address) =
            sockets::alone(public, config.health_port).context("the health port")?;
        let meta = TcpListener::bind((config.bind, config.meta_port))
            .await
            .context("the meta port")?;
        let reached = |address| sockets::reached(address, config.bind);
        let addresses = Addresses {
            http: format!("http://{}", reached(http.address)),
            https: format!("https://{}", reached(https.address)),
            health: format!("http://{}", reached(health_address)),
            meta: format!("https://{}", meta.local_addr()?),
            internal: format!("http://{}", relay.address),
        };
        let ports = Self {
            http,
            https,
            relay,
            internal,
            addresses,
        };
        Ok((ports, ParentPorts { health, meta }))
    }

    /// Where the node is reached.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where other nodes reach each child, for roles that take keys.
    pub(crate) fn child_addresses(&self) -> &[String] {
        &self.internal.addresses
    }

    /// What children are started with: they inherit all sockets, and `files_fd` beside them.
    pub(crate) fn child_config(&self, config: &NodeConfig, files_fd: RawFd) -> ChildConfig {
        ChildConfig {
            node: config.name.clone(),
            role: config.role,
            index: 0,
            children: config.children,
            threads: config.threads,
            control_fd: -1,
            http_fds: fds(&self.http.sockets),
            https_fds: fds(&self.https.sockets),
            relay_fds: fds(&self.relay.sockets),
            internal_fds: fds(&self.internal.sockets),
            region: config.region.clone(),
            files_fd,
            instances_max: config.instances_max,
            drain_timeout_ms: config.drain_timeout_ms,
            ingress: config.ingress.clone(),
        }
    }

    /// The sockets themselves, by what a newcomer can be told on them.
    pub(crate) fn into_sockets(self) -> NewcomerSockets {
        let others = [
            self.https.sockets,
            self.relay.sockets,
            self.internal.sockets,
        ];
        NewcomerSockets {
            plain: self.http.sockets,
            others: others.into_iter().flatten().collect(),
        }
    }
}

fn fds(sockets: &[Socket]) -> Vec<RawFd> {
    sockets.iter().map(AsRawFd::as_raw_fd).collect()
}
