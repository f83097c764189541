//! Memory, table and instance limits of one store, and which of them was hit.

use protoplex_wire::manifest::Limits;
use std::sync::{Arc, Weak};
use wasmtime::ResourceLimiter;

/// Resources that one store may hold: requests, responses, fields, streams.
pub(crate) const RESOURCES_MAX: usize = 10_000;
/// Memories of one component instance; large toolchains make a handful.
const MEMORIES_MAX: usize = 32;
/// Tables of one component instance; large toolchains make a handful.
const TABLES_MAX: usize = 64;

/// Hears of limits that a guest hits: the side of a request that has no access to the store.
pub(crate) trait LimitObserver: Send + Sync {
    /// Says which limit, for people.
    fn report(&self, hit: &str);
}

/// Counts all memories of a store together.
pub(crate) struct Limiter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    instances_max: usize,
    memory_bytes: usize,
    hit: Option<String>,
    observer: Option<Weak<dyn LimitObserver>>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX),
            table_elements_max: usize::try_from(limits.table_elements_max).unwrap_or(usize::MAX),
            instances_max: limits.instances_max as usize,
            memory_bytes: 0,
            hit: None,
            observer: None,
        }
    }

    /// Tells this one from now on of limits that are hit.
    pub(crate) fn report_to<T: LimitObserver + 'static>(&mut self, observer: &Arc<T>) {
        let observer = Arc::downgrade(observer);
        self.observer = Some(observer);
    }

    fn refuse(&mut self, hit: String) -> bool {
        if let Some(observer) = self.observer.as_ref().and_then(Weak::upgrade) {
            observer.report(&hit);
        }
        self.hit = Some(hit);
        false
    }

    /// The limit that was hit last, for the log; a guest usually traps soon after.
    pub(crate) fn take_hit(&mut self) -> Option<String> {
        self.hit.take()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes - current.min(self.memory_bytes) + desired;
        if total > self.memory_bytes_max {
            let max = self.memory_bytes_max;
            return Ok(self.refuse(format!(
                "{total} bytes of memory asked for; {max} is the most (memory_bytes_max)"
            )));
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let max = self.table_elements_max;
        if desired > max {
            return Ok(self.refuse(format!(
                "a table of {desired} elements asked for; {max} is the most (table_elements_max)"
            )));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
