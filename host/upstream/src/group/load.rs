//! Load of a group at a moment, for metrics.

use super::Group;
use std::{ops::AddAssign, time::Instant};

/// Connections, requests and servers of a group, as one child has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections of HTTP/1.1 with a request on them, and tunnels.
    pub busy: usize,
    /// Connections of HTTP/1.1 that wait for a request.
    pub idle: usize,
    /// Connections of HTTP/2, idle or not.
    pub multiplexed: usize,
    /// Requests at servers.
    pub in_flight: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Servers that take requests.
    pub well: usize,
    /// Servers that fail their health checks.
    pub unhealthy: usize,
    /// Servers that are left out for failures in a row, and fail no check.
    pub ejected: usize,
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.busy += other.busy;
        self.idle += other.idle;
        self.multiplexed += other.multiplexed;
        self.in_flight += other.in_flight;
        self.waiting += other.waiting;
        self.well += other.well;
        self.unhealthy += other.unhealthy;
        self.ejected += other.ejected;
    }
}

impl Group {
    /// The load at this moment.
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
            let standing = self.servers.standing(index, now);
            load.in_flight += standing.in_flight as usize;
            match standing {
                standing if standing.is_unhealthy => load.unhealthy += 1,
                standing if standing.is_ejected => load.ejected += 1,
                _ => load.well += 1,
            }
        }
        load
    }
}
