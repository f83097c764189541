//! Instances of an app handler: how they are made, and those that wait for a request.

use super::state::{AppState, GuestConfig};
use crate::{
    pool::{Pool, Purpose},
    store::{self, OnTick},
};
use parking_lot::Mutex;
use protoplex_wire::manifest::Isolation;
use std::time::{Duration, Instant};
use wasmtime::{Result, Store};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};

/// An instance without requests is kept this long.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(10);

/// One instance and what it has done.
pub(super) struct AppInstance {
    pub(super) store: Store<AppState>,
    pub(super) proxy: Proxy,
    /// Requests that it took, so far.
    pub(super) served: u64,
}

/// The instances of one handler.
pub(super) struct Instances {
    pub(super) factory: Factory,
    pub(super) idle: Idle,
}

impl Instances {
    pub(super) fn new(
        linked: ProxyPre<AppState>,
        pool: Pool,
        isolation: Isolation,
        guest: GuestConfig,
    ) -> Self {
        let factory = Factory {
            guest,
            pool,
            linked,
            isolation,
        };
        let idle = Idle::default();
        Self { factory, idle }
    }
}

/// Makes instances.
pub(super) struct Factory {
    pub(super) guest: GuestConfig,
    pool: Pool,
    linked: ProxyPre<AppState>,
    isolation: Isolation,
}

impl Factory {
    /// Cancel safe: what was made so far is dropped.
    pub(super) async fn instantiate(&self) -> Result<AppInstance> {
        self.pool.admit(Purpose::Request)?;
        let state = AppState::new(&self.guest);
        let limits = &self.guest.limits;
        let mut store = store::new(&self.pool.engine, state, limits, OnTick::Yield);
        let meter = store.data().meter.clone();
        let made = meter.measure(self.linked.instantiate_async(&mut store));
        let proxy = made.await?;
        Ok(AppInstance {
            store,
            proxy,
            served: 0,
        })
    }

    /// Requests at once in one instance.
    pub(super) fn concurrency(&self) -> u32 {
        match self.isolation {
            Isolation::PerRequest | Isolation::Shared { .. } => 1,
            Isolation::Concurrent { concurrency, .. } => concurrency,
        }
    }

    /// Requests in all in one instance.
    pub(super) fn requests_max(&self) -> u64 {
        match self.isolation {
            Isolation::PerRequest => 1,
            Isolation::Shared { requests_max } | Isolation::Concurrent { requests_max, .. } => {
                requests_max
            }
        }
    }
}

/// Instances that wait for the next request. There are never more than requests were in flight at once.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<(AppInstance, Instant)>>);

impl Idle {
    /// The one that was used last: its memory is still in the processor's cache.
    pub(super) fn take(&self) -> Option<AppInstance> {
        self.0.lock().pop().map(|(instance, _)| instance)
    }

    pub(super) fn put(&self, instance: AppInstance) {
        self.0.lock().push((instance, Instant::now()));
    }

    /// Throws away those that have waited too long.
    pub(super) fn expire(&self) {
        let expired: Vec<_> = {
            let mut waiting = self.0.lock();
            // The oldest stand in front.
            let fresh = waiting.partition_point(|(_, since)| since.elapsed() > IDLE_MAX);
            waiting.drain(..fresh).collect()
        };
        drop(expired);
    }
}
