//! From wasmtime's errors to ours.

use crate::HandlerError;
use protoplex_wire::manifest::Limits;
use wasmtime::{PoolConcurrencyLimitError, Trap};

/// What the epoch callback ends a guest with.
#[derive(Debug, thiserror::Error)]
#[error("out of CPU time")]
pub(crate) struct OutOfCpu;

/// A call ended badly; `hit` is the limit that the guest ran into before.
pub(crate) fn call(error: &wasmtime::Error, limits: &Limits, hit: Option<String>) -> HandlerError {
    if error.is::<OutOfCpu>() || error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return HandlerError::Cpu(limits.cpu_ms_max);
    }
    if let Some(hit) = hit {
        return HandlerError::Memory(hit);
    }
    let text = format!("{error:#}");
    if text.contains("fuel allocated for hostcalls") {
        return HandlerError::HostcallBytes(limits.hostcall_bytes_max);
    }
    HandlerError::Trap(text)
}

/// No instance could be made, because the pool is exhausted or because the guest's start died.
pub(crate) fn instantiation(error: &wasmtime::Error, limits: &Limits, hit: Option<String>) -> HandlerError {
    if error.is::<PoolConcurrencyLimitError>() {
        return HandlerError::Instantiate(format!("{error:#}"));
    }
    match call(error, limits, hit) {
        HandlerError::Trap(text) if error.downcast_ref::<Trap>().is_none() => HandlerError::Instantiate(text),
        other => other,
    }
}
