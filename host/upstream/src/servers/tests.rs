//! The policy, with the time passed in.

mod balance;
mod ejection;
mod limits;

use super::*;
use http::StatusCode;
use protoplex_wire::manifest::{HealthCheck, Retries};

fn upstream(servers: usize) -> Upstream {
    Upstream {
        addresses: (0..servers).map(|at| format!("10.0.0.{at}:80")).collect(),
        ..Upstream::default()
    }
}

fn with(servers: usize, change: impl FnOnce(&mut Upstream)) -> Arc<Servers> {
    let mut upstream = upstream(servers);
    change(&mut upstream);
    Servers::new(&upstream, 1)
}

fn after(servers: &Servers, ms: u64) -> Instant {
    servers.epoch + Duration::from_millis(ms)
}

fn health(upstream: &mut Upstream) {
    upstream.health = Some(HealthCheck {
        path: "/".into(),
        host: None,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        unhealthy_after: 2,
        healthy_after: 3,
    });
}

/// Where `count` requests go that never overlap.
fn one_by_one(servers: &Arc<Servers>, count: usize, now: Instant) -> Vec<usize> {
    let mut taken = vec![0; servers.len()];
    for _ in 0..count {
        taken[servers.pick(None, 0, now).unwrap().index()] += 1;
    }
    taken
}

/// A failure of one server, as a request tells it.
fn fail(servers: &Arc<Servers>, index: usize, times: usize, now: Instant) {
    for _ in 0..times {
        servers.report(index, AttemptOutcome::Failed, now);
    }
}

fn ejected(servers: &Servers, now: Instant) -> Vec<usize> {
    (0..servers.len())
        .filter(|&index| servers.health(index, now).is_ejected)
        .collect()
}
