//! Admission to a pool of instances: requests never take the last ones, so that a build can always be warmed up.
//!
//! Nothing is held for a permit: the pool counts its own slots, and a look at them is a few loads.

use crate::HandlerError;
use std::future::Future;
use wasmtime::Engine;

/// Slots for tables beside each slot for an instance.
pub(crate) const TABLES_PER_INSTANCE: u32 = 2;
/// Slots for core instances beside each: the module, and what adapts it to the component model.
pub(crate) const CORES_PER_INSTANCE: u32 = 4;
/// One slot in so many is kept for warm-ups: a push makes one instance of every handler beside those that serve.
const RESERVE_PARTS: u32 = 8;
/// Least reserve of a small pool: builds have some handlers.
const RESERVE_MIN: u32 = 16;
/// Long-lived connections fill at most one slot in so many: a switch of builds makes a second instance for each of
/// theirs before the first is gone.
const CONNECTIONS_PARTS: u32 = 2;

tokio::task_local! {
    static WARMING_UP: ();
}

/// Runs what warms a build up: its instances may come from the reserve.
pub async fn warming_up<T>(warm_up: impl Future<Output = T>) -> T {
    WARMING_UP.scope((), warm_up).await
}

/// The use that an instance is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A request, or a connection that is here already.
    Request,
    /// A connection that has just come, and may stay for days.
    Connection,
}

/// A pool of instances, and its size.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) engine: Engine,
    instances_max: u32,
}

impl Pool {
    pub(crate) fn new(engine: Engine, instances_max: u32) -> Self {
        Self {
            engine,
            instances_max,
        }
    }

    /// Instances that long-lived connections may fill.
    pub(crate) fn connection_instances_max(&self) -> u32 {
        of(Purpose::Connection, self.instances_max)
    }

    /// Admits one more instance, unless the pool has no slot for that purpose.
    ///
    /// # Errors
    /// The instances that are left are not for that. A warm-up is never refused here, only by the pool itself.
    pub(crate) fn admit(&self, purpose: Purpose) -> Result<(), HandlerError> {
        let Some(pool) = self.engine.pooling_allocator_metrics() else {
            return Ok(());
        };
        let most = of(purpose, self.instances_max);
        // Each kind of slot runs out by itself: a component may have several modules, memories and tables.
        let taken = pool
            .component_instances()
            .max(pool.core_instances() / u64::from(CORES_PER_INSTANCE))
            .max(pool.memories() as u64)
            .max(pool.tables() as u64 / u64::from(TABLES_PER_INSTANCE));
        if taken < u64::from(most) || WARMING_UP.try_with(|()| ()).is_ok() {
            return Ok(());
        }
        Err(HandlerError::Instantiate(format!(
            "{taken} of {} instances are taken, and {most} is the most for {} (instances_max)",
            self.instances_max,
            match purpose {
                Purpose::Request => "requests: the rest is for new builds",
                Purpose::Connection => "connections: the rest is for requests and new builds",
            }
        )))
    }
}

/// Slots of `instances_max` that a purpose may fill.
fn of(purpose: Purpose, instances_max: u32) -> u32 {
    // Half of a very small pool is for requests all the same.
    let reserve = (instances_max / RESERVE_PARTS)
        .max(RESERVE_MIN)
        .min(instances_max / 2);
    let requests = instances_max - reserve;
    match purpose {
        Purpose::Request => requests,
        Purpose::Connection => requests.min(instances_max.div_ceil(CONNECTIONS_PARTS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_leave_slots_to_warm_ups_in_pools_of_every_size() {
        for (max, requests, connections) in [
            (1, 1, 1),
            (2, 1, 1),
            (8, 4, 4),
            (20, 10, 10),
            (40, 24, 20),
            (1_000, 875, 500),
        ] {
            assert_eq!(of(Purpose::Request, max), requests, "{max}");
            assert_eq!(of(Purpose::Connection, max), connections, "{max}");
        }
    }
}
