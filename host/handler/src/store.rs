//! Stores: the data, limits and CPU budget of one instance. They are made here for all worlds.

use crate::{cpu::CpuMeter, limiter::Limiter};
use protoplex_wire::manifest::Limits;
use std::time::Duration;
use wasmtime::{Engine, Store, UpdateDeadline};

/// Data of a store that is limited and metered.
pub(crate) trait StoreData: Send + 'static {
    fn limiter(&mut self) -> &mut Limiter;
    fn meter(&self) -> &CpuMeter;
}

/// What becomes of a guest that a tick finds running, within its budget.
#[derive(Clone, Copy)]
pub(crate) enum OnTick {
    /// The guest goes on: the call is synchronous.
    Continue,
    /// Others run first: the call is asynchronous.
    Yield,
}

/// The error that ends a guest which has used up its budget.
#[derive(Debug, thiserror::Error)]
#[error("out of CPU time")]
pub(crate) struct OutOfCpu;

/// A store for one instance.
pub(crate) fn new<T: StoreData>(
    engine: &Engine,
    data: T,
    limits: &Limits,
    on_tick: OnTick,
) -> Store<T> {
    let mut store = Store::new(engine, data);
    store.limiter(|data| data.limiter());
    store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes_max).unwrap_or(usize::MAX));
    let budget = Duration::from_millis(limits.cpu_ms_max);
    match on_tick {
        OnTick::Continue => store
            .epoch_deadline_callback(move |store| continue_within(store.data().meter(), budget)),
        OnTick::Yield => {
            store.epoch_deadline_callback(move |store| yield_within(store.data().meter(), budget))
        }
    }
    store.set_epoch_deadline(1);
    store
}

fn continue_within(meter: &CpuMeter, budget: Duration) -> wasmtime::Result<UpdateDeadline> {
    if meter.tick() > budget {
        Err(OutOfCpu.into())
    } else {
        Ok(UpdateDeadline::Continue(1))
    }
}

/// Lets others run, then goes on. The runtime's own yield would be polled again at once.
fn yield_within(meter: &CpuMeter, budget: Duration) -> wasmtime::Result<UpdateDeadline> {
    if meter.tick() > budget {
        return Err(OutOfCpu.into());
    }
    meter.interrupt();
    Ok(UpdateDeadline::YieldCustom(
        1,
        Box::pin(tokio::task::yield_now()),
    ))
}
