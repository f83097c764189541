//! Instances of an app handler: how they are made, and those that wait for a request.

use super::AppState;
use crate::{
    edge::instance::yield_within,
    outgoing::Outgoing,
    pool::{Pool, Purpose},
};
use parking_lot::Mutex;
use protoplex_wire::manifest::{Isolation, Limits};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use wasmtime::{Result, Store};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};

/// An instance without requests is kept this long.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(10);

/// One instance and what it has done.
pub(super) struct Instance {
    pub(super) store: Store<AppState>,
    pub(super) proxy: Proxy,
    /// Requests that it took, so far.
    pub(super) served: u64,
}

/// Makes instances.
pub(super) struct Factory {
    pub(super) pool: Pool,
    pub(super) pre: ProxyPre<AppState>,
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) isolation: Isolation,
    pub(super) outgoing: Outgoing,
    pub(super) environment: Vec<(String, String)>,
    pub(super) settings: Arc<WasiConfigVariables>,
}

impl Factory {
    /// Cancel safe: what was made so far is dropped.
    pub(super) async fn instantiate(&self) -> Result<Instance> {
        self.pool.admit(Purpose::Request)?;
        let limits = &self.limits;
        let mut store = Store::new(&self.pool.engine, AppState::new(self));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes_max).unwrap_or(usize::MAX));
        let budget = Duration::from_millis(limits.cpu_ms_max);
        store.epoch_deadline_callback(move |state| yield_within(&state.data().meter, budget));
        store.set_epoch_deadline(1);
        let meter = store.data().meter.clone();
        let made = meter.measure(self.pre.instantiate_async(&mut store));
        let proxy = made.await?;
        Ok(Instance {
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
pub(super) struct Idle(Mutex<Vec<(Instance, Instant)>>);

impl Idle {
    /// The one that was used last: its memory is still in the processor's cache.
    pub(super) fn take(&self) -> Option<Instance> {
        self.0.lock().pop().map(|(instance, _)| instance)
    }

    pub(super) fn put(&self, instance: Instance) {
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
