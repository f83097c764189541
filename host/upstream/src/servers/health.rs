//! Which servers are left out: ejection for failures in a row, and the findings of health checks.

use super::{Servers, server::UpstreamServer};
use http::StatusCode;
use std::{sync::atomic::Ordering::Relaxed, time::Instant};

/// How an attempt at a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A response's head came; 502, 503 and 504 count as failures.
    Answered(StatusCode),
    /// There was no connection, or no head.
    Failed,
}

/// Load and health of one server, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHealth {
    /// Requests of this child in flight at the server.
    pub in_flight: u32,
    /// The server fails its health checks.
    pub is_unhealthy: bool,
    /// The server is left out for failures in a row.
    pub is_ejected: bool,
}

impl AttemptOutcome {
    /// Whether the server is to blame.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::Failed => true,
            Self::Answered(status) => matches!(status.as_u16(), 502..=504),
        }
    }
}

impl Servers {
    /// Load and health of a server at `now`.
    ///
    /// # Panics
    /// When `index` is not below [`Self::len`].
    pub fn health(&self, index: usize, now: Instant) -> ServerHealth {
        let server = &self.servers[index];
        ServerHealth {
            in_flight: server.in_flight.load(Relaxed),
            is_unhealthy: server.is_unhealthy(),
            is_ejected: server.is_ejected(self.ms(now)),
        }
    }

    pub(super) fn report(&self, index: usize, outcome: AttemptOutcome, now: Instant) {
        if !outcome.is_failure() {
            return self.succeeded(index);
        }
        let server = &self.servers[index];
        let failures = server.failures.fetch_add(1, Relaxed).saturating_add(1);
        let ejection = &self.upstream.ejection;
        if ejection.failures != 0 && failures >= ejection.failures {
            self.eject(server, failures, self.ms(now));
        }
    }

    pub(super) fn succeeded(&self, index: usize) {
        let failures = &self.servers[index].failures;
        if failures.load(Relaxed) != 0 {
            failures.store(0, Relaxed);
        }
    }

    /// Ejects a server, unless it is out already, too many are, or no other is in.
    fn eject(&self, server: &UpstreamServer, failures: u32, now_ms: u64) {
        let _deciding = self.ejecting.lock();
        let count = self.servers.len();
        let share = count * self.upstream.ejection.servers_percent_max as usize / 100;
        let others = self.servers.iter().filter(|s| !std::ptr::eq(&***s, server));
        let ejected = others.clone().filter(|s| s.is_ejected(now_ms)).count();
        let one_stays = others.clone().any(|s| !s.is_out(now_ms));
        if server.is_out(now_ms) || !one_stays || ejected >= share.max(1) {
            return;
        }
        let for_ms = server.eject(now_ms, self.upstream.ejection.eject_ms);
        tracing::warn!(server = %server.authority, failures, for_ms, "a server is ejected for failures in a row");
    }

    /// Notes the result of a health check.
    pub fn probed(&self, index: usize, healthy: bool, now: Instant) {
        let Some(check) = &self.upstream.health else {
            return;
        };
        let server = &self.servers[index];
        let after = match healthy {
            true => check.healthy_after,
            false => check.unhealthy_after,
        };
        match server.probed(healthy, after, self.ms(now)) {
            Some(true) => {
                tracing::info!(server = %server.authority, "a server passes its health checks again and takes requests");
                self.queue.wake_all();
            }
            Some(false) => {
                tracing::warn!(server = %server.authority, "a server fails its health checks and takes no requests");
            }
            None => {}
        }
    }
}
