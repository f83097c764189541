//! Data of a store whose guest imports package `protoplex:host`: that package is implemented on it.

use crate::{
    HandlerError, context::HandlerContext, cpu::CpuMeter, error_of, limiter::Limiter,
    request_copy::RequestCopy, store::StoreData,
};
use protoplex_wire::manifest::Limits;
use std::sync::Arc;

pub(crate) struct HostState {
    pub(crate) limiter: Limiter,
    pub(crate) meter: CpuMeter,
    pub(crate) request: RequestCopy,
    pub(crate) context: Option<Arc<HandlerContext>>,
    /// The last error that the guest logged in this call: where a panic was, which a trap does not tell.
    pub(crate) last_error: Option<String>,
}

impl HostState {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limiter: Limiter::new(limits),
            meter: CpuMeter::default(),
            request: RequestCopy::default(),
            context: None,
            last_error: None,
        }
    }

    /// Before a call for that build.
    pub(crate) fn begin(&mut self, context: &Arc<HandlerContext>) {
        self.meter.reset();
        self.last_error = None;
        let known = self.context.as_ref();
        if !known.is_some_and(|known| Arc::ptr_eq(known, context)) {
            self.context = Some(Arc::clone(context));
        }
    }

    /// Why a call ended badly.
    pub(crate) fn ended(&mut self, error: &wasmtime::Error, limits: &Limits) -> HandlerError {
        match (
            error_of::call(error, limits, self.limiter.take_hit()),
            self.last_error.take(),
        ) {
            (HandlerError::Trap(trap), Some(said)) => HandlerError::Trap(format!("{said}; {trap}")),
            (error, _) => error,
        }
    }
}

impl StoreData for HostState {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }

    fn meter(&self) -> &CpuMeter {
        &self.meter
    }
}
