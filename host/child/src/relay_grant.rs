//! Relays that a handler's grants allow, each with the place that it goes to: resolved once, when the build is loaded.

use super::{fleet::FleetTarget, metrics::Metrics, upstream::Upstreams};
use http::uri::Authority;
use protoplex_upstream::{Group, UpstreamCounters};
use protoplex_wire::{UpstreamRef, manifest::Role};
use std::sync::Arc;

/// One entry of `grants.relay`.
pub(super) struct RelayGrant {
    /// The entry, as the manifest and decisions have it.
    pub(super) name: String,
    pub(super) to: Destination,
    pub(super) counters: Arc<UpstreamCounters>,
}

/// The destination of a relay.
pub(super) enum Destination {
    /// The servers of an upstream of the build.
    Upstream(Arc<Group>),
    /// One server by its address.
    Server(Authority),
    /// Nodes of the fleet.
    Fleet(FleetTarget),
}

impl RelayGrant {
    /// The grant of that name, as a build with these upstreams has it.
    ///
    /// # Errors
    /// The grant leads nowhere, which a checked manifest does not allow.
    pub(super) fn new(
        name: &str,
        upstreams: &Upstreams,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let nowhere = || format!("grants.relay has `{name}`, which leads nowhere");
        let reference = name.parse::<UpstreamRef>().map_err(|_| nowhere())?;
        let to = match reference {
            UpstreamRef::Named(name) => {
                let group = upstreams.named(&name).ok_or_else(nowhere)?;
                Destination::Upstream(Arc::clone(group))
            }
            UpstreamRef::Server(address) => {
                Destination::Server(address.parse().map_err(|_| nowhere())?)
            }
            UpstreamRef::Role(role) => Destination::Fleet(FleetTarget::Role(role)),
            UpstreamRef::Live(namespace) => Destination::Fleet(FleetTarget::Live { namespace }),
        };
        Ok(Self {
            name: name.to_owned(),
            to,
            counters: metrics.upstreams.of(name.to_owned()),
        })
    }

    /// Whether the request stays in the fleet, whose nodes are told what it is.
    pub(super) fn is_to_fleet(&self) -> bool {
        matches!(self.to, Destination::Fleet(_))
    }

    /// Whether the relay goes to any node that runs apps.
    pub(super) fn is_to_apps(&self) -> bool {
        matches!(self.to, Destination::Fleet(FleetTarget::Role(Role::App)))
    }

    /// Whether a decision has to say by a key which node is meant.
    pub(super) fn needs_key(&self) -> bool {
        matches!(self.to, Destination::Fleet(FleetTarget::Live { .. }))
    }

    /// Whether the relay goes to that server, named by its address.
    pub(super) fn is_to_server(&self, server: &Authority) -> bool {
        matches!(&self.to, Destination::Server(own) if own == server)
    }
}
