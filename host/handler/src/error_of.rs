//! From wasmtime's errors to ours.

use crate::{HandlerError, limiter::RESOURCES_MAX, store::OutOfCpu};
use protoplex_wire::manifest::Limits;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace, component::ResourceTableError};

/// Innermost frames of a trap's backtrace, which tell most.
const TRAP_FRAMES_MAX: usize = 8;

/// A call ended badly; `hit` is the limit that the guest ran into before.
pub(crate) fn call(error: &wasmtime::Error, limits: &Limits, hit: Option<String>) -> HandlerError {
    if error.is::<OutOfCpu>() || error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return HandlerError::Cpu(limits.cpu_ms_max);
    }
    if let Some(hit) = hit {
        return HandlerError::Memory(hit);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return HandlerError::Memory(format!(
            "more than {RESOURCES_MAX} requests, responses, fields and streams held at once"
        ));
    }
    let text = format!("{error:#}");
    if text.contains("instance count too high") {
        let max = limits.instances_max;
        return HandlerError::Instantiate(format!(
            "more core instances than {max}; {max} is the most (instances_max)"
        ));
    }
    if text.contains("fuel allocated for hostcalls") {
        return HandlerError::HostcallBytes(limits.hostcall_bytes_max);
    }
    HandlerError::Trap(trap(error))
}

/// The cause and then the way to it, in one line.
fn trap(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    let cause = cause.strip_prefix("wasm trap: ").unwrap_or(&cause);
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return format!("{error:#}");
    };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("offset {:#x}", frame.module_offset().unwrap_or_default()),
    };
    let frames = backtrace.frames().iter().take(TRAP_FRAMES_MAX).map(name);
    format!("{cause}, in {}", frames.collect::<Vec<_>>().join(" < "))
}

/// No instance could be made, because the pool is exhausted or because the guest's start died.
pub(crate) fn instantiation(
    error: &wasmtime::Error,
    limits: &Limits,
    hit: Option<String>,
) -> HandlerError {
    if let Some(refused) = error.downcast_ref::<HandlerError>() {
        return refused.clone();
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return HandlerError::Instantiate(format!("{error:#}"));
    }
    match call(error, limits, hit) {
        HandlerError::Trap(text) if error.downcast_ref::<Trap>().is_none() => {
            HandlerError::Instantiate(text)
        }
        other => other,
    }
}
