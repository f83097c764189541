//! Load of a group at a moment, for metrics.

use super::Group;
use std::{ops::AddAssign, time::Instant};

/// Connections, requests and servers of a group, as one child has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// HTTP/1.1 connections with a request on them, and tunnels.
    pub busy: usize,
    /// HTTP/1.1 connections that wait for a request.
    pub idle: usize,
    /// HTTP/2 connections, idle or not.
    pub multiplexed: usize,
    /// Requests in flight at servers.
    pub in_flight: usize,
    /// Requests that wait in the queue.
    pub waiting: usize,
    /// Servers that are not left out.
    pub healthy: usize,
    /// Servers that fail their health checks.
    pub unhealthy: usize,
    /// Servers that are ejected for failures in a row, and fail no health check.
    pub ejected: usize,
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.busy += other.busy;
        self.idle += other.idle;
        self.multiplexed += other.multiplexed;
        self.in_flight += other.in_flight;
        self.waiting += other.waiting;
        self.healthy += other.healthy;
        self.unhealthy += other.unhealthy;
        self.ejected += other.ejected;
    }
}

impl Group {
    /// Counts connections, requests and servers now.
    pub fn load(&self) -> Load {
        let now = Instant::now();
        let mut load = Load {
            multiplexed: self.multiplexed.iter().map(|all| all.len()).sum(),
            waiting: self.servers.waiting() as usize,
            ..Load::default()
        };
        for (index, pool) in self.pools.iter().enumerate() {
            // Read in this order, a connection that changes sides meanwhile makes no number negative.
            let idle = pool.len();
            load.idle += idle;
            load.busy += pool.open().saturating_sub(idle);
            let health = self.servers.health(index, now);
            load.in_flight += health.in_flight as usize;
            match health {
                health if health.is_unhealthy => load.unhealthy += 1,
                health if health.is_ejected => load.ejected += 1,
                _ => load.healthy += 1,
            }
        }
        load
    }
}
