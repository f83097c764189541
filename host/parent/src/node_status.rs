//! Description of a node: for the Seed, and for whoever asks its meta port.

use crate::{
    config::NodeConfig, directory_keeper::DirectoryKeeper, leaving::Leaving, ports::Ports,
    releases::Releases, seed_voice::SeedVoice, supervisor::Supervisor, turn_away::Newcomers,
};
use protoplex_wire::{
    BuildId, Role,
    link::{Heartbeat, Hello},
    status::Addresses,
};

/// What a node is from its start to its end.
pub(crate) struct NodeProfile {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Where the node stands; empty is nowhere in particular.
    pub(crate) region: String,
    pub(crate) addresses: Addresses,
    /// Where other nodes reach each child, for roles that take keys.
    pub(crate) child_addresses: Vec<String>,
    /// The node's share of the keys, against that of other nodes; 0 is one for each child.
    pub(crate) capacity: u32,
}

impl NodeProfile {
    pub(crate) fn new(config: &NodeConfig, ports: &Ports) -> Self {
        Self {
            name: config.name.clone(),
            role: config.role,
            region: config.region.clone(),
            addresses: ports.addresses().clone(),
            child_addresses: ports.child_addresses().to_vec(),
            capacity: config.capacity,
        }
    }
}

/// The parts of a node that its description is made of.
pub(crate) struct NodeView<'a> {
    pub(crate) profile: &'a NodeProfile,
    pub(crate) supervisor: &'a Supervisor,
    pub(crate) releases: &'a Releases,
    pub(crate) directory: &'a DirectoryKeeper,
    pub(crate) leaving: &'a Leaving,
    pub(crate) seed: &'a SeedVoice,
    pub(crate) newcomers: &'a Newcomers,
}

impl NodeView<'_> {
    /// The first line of a link to the Seed.
    pub(crate) fn hello(&self) -> Hello {
        let state = self.releases.state();
        Hello {
            node: self.profile.name.clone(),
            role: self.profile.role,
            host_version: env!("CARGO_PKG_VERSION").into(),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            addresses: self.profile.addresses.clone(),
            children: count(self.supervisor.children()),
            held: self.held(),
            active: self.releases.active(),
            release: state.release,
            release_build: state.release_build,
            region: self.profile.region.clone(),
            capacity: self.profile.capacity,
            child_addresses: self.profile.child_addresses.clone(),
            children_ready: count(self.supervisor.serving()),
            leaving: self.leaving.has_begun(),
        }
    }

    fn held(&self) -> Vec<BuildId> {
        let held = &self.releases.state().held;
        held.iter().map(|envelope| envelope.build).collect()
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        let totals = self.supervisor.totals();
        Heartbeat {
            children_ready: count(self.supervisor.serving()),
            requests: totals.requests,
            errors: totals.errors,
            traps: totals.traps,
            fault: self.fault(),
        }
    }

    /// How the last process of a child ended that does not serve; empty where that is no fault of the node.
    fn fault(&self) -> String {
        let is_fault = self.releases.active().is_some() || self.supervisor.futility().is_some();
        let end = self.supervisor.last_end().filter(|_| is_fault);
        end.unwrap_or_default().to_owned()
    }

    /// The node as its meta port shows it.
    pub(crate) fn status(&self) -> serde_json::Value {
        let profile = self.profile;
        serde_json::json!({
            "node": profile.name, "role": profile.role, "active": self.releases.active(), "held": self.held(),
            "release": self.releases.state().release, "seed_connected": self.seed.is_connected(),
            "draining": self.leaving.is_draining(), "leaving": self.leaving.has_begun(), "region": profile.region,
            "directory": self.directory.version(), "addresses": profile.addresses,
            "child_addresses": profile.child_addresses, "children": self.supervisor.status(),
            "turned_away": self.newcomers.turned_away(),
        })
    }
}

fn count(children: usize) -> u32 {
    u32::try_from(children).unwrap_or(u32::MAX)
}
