//! Description of a node: for the Seed, and for whoever asks its meta port.

use super::{actor::Actor, children::Phase};
use protoplex_control::messages::Beat;
use protoplex_wire::{
    BuildId,
    directory::DIRECTORY_FORMAT,
    link::{Heartbeat, Hello},
};

impl Actor {
    pub(super) fn hello(&self) -> Hello {
        let state = self.store.state();
        Hello {
            node: self.config.node.clone(),
            role: self.config.role,
            host_version: env!("CARGO_PKG_VERSION").into(),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            addresses: self.site.addresses.clone(),
            children: u32::try_from(self.seats.len()).unwrap_or(u32::MAX),
            held: state.held.iter().map(|envelope| envelope.build).collect(),
            active: self.active_id(),
            release: state.release,
            release_build: state.release_build,
            region: self.config.region.clone(),
            capacity: self.site.capacity,
            child_addresses: self.site.child_addresses.clone(),
            children_ready: Some(self.heartbeat().children_ready),
            directory_format: DIRECTORY_FORMAT,
            leaving: self.leaving.is_some(),
        }
    }

    pub(super) fn active_id(&self) -> Option<BuildId> {
        self.active.as_ref().map(|build| build.id)
    }

    fn sums(&self) -> Beat {
        self.seats
            .iter()
            .flat_map(|seat| [seat.beat, seat.past])
            .fold(Beat::default(), |sum, beat| Beat {
                requests: sum.requests + beat.requests,
                errors: sum.errors + beat.errors,
                traps: sum.traps + beat.traps,
                in_flight: sum.in_flight + beat.in_flight,
                connections: sum.connections + beat.connections,
            })
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        let sums = self.sums();
        let serving = self.seats.iter().filter(|seat| seat.serves()).count();
        Heartbeat {
            children_ready: u32::try_from(serving).unwrap_or(u32::MAX),
            requests: sums.requests,
            errors: sums.errors,
            traps: sums.traps,
            fault: self.fault(),
        }
    }

    /// How the last process of a child ended that does not serve.
    fn fault(&self) -> String {
        let down = self.seats.iter().filter(|seat| !seat.serves());
        let last = down.max_by_key(|seat| seat.restarts);
        let end = last.and_then(|seat| seat.last_end.clone());
        end.filter(|_| self.active.is_some() || self.futility().is_some())
            .unwrap_or_default()
    }

    pub(super) fn status(&self) -> serde_json::Value {
        let children: Vec<_> = self
            .seats
            .iter()
            .map(|seat| {
                let phase = match seat.phase {
                    Phase::Dead { .. } => "dead",
                    Phase::Starting => "starting",
                    Phase::Loading => "loading",
                    Phase::Serving { .. } => "serving",
                };
                let pid = seat.process.as_ref().map(|process| process.pid);
                serde_json::json!({
                    "pid": pid, "state": phase, "restarts": seat.restarts, "beat": seat.beat, "adopter": seat.adopter,
                    "last_end": seat.last_end,
                })
            })
            .collect();
        let state = self.store.state();
        serde_json::json!({
            "node": self.config.node, "role": self.config.role, "active": self.active_id(),
            "held": state.held.iter().map(|envelope| envelope.build).collect::<Vec<_>>(),
            "release": state.release, "seed_connected": self.seed.is_some(), "draining": self.draining,
            "leaving": self.leaving.is_some(), "region": self.config.region, "directory": self.kept.version(),
            "addresses": self.site.addresses, "child_addresses": self.site.child_addresses, "children": children,
            "turned_away": self.turned_away,
        })
    }
}
