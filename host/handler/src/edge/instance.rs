//! One instance of an edge handler: a store, its limits, and the call.

use super::{
    EdgeContext,
    host::{EdgeState, WasiEdgeState},
    request::RequestCopy,
};
use crate::{
    HandlerError,
    app::RESOURCES_MAX,
    bindings::{
        edge::{
            self,
            protoplex::edge::types::{Decision, Method, RequestHead},
        },
        edge_async,
    },
    cpu::CpuMeter,
    error_of,
};
use protoplex_http::Head;
use protoplex_wire::manifest::Limits;
use std::{sync::Arc, time::Duration};
use wasmtime::{Engine, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::WasiCtxBuilder;

/// An instance that is called synchronously.
pub(super) struct Instance {
    store: Store<EdgeState>,
    edge: edge::Edge,
    pub(super) served: u64,
}

impl Instance {
    pub(super) fn new(
        engine: &Engine,
        pre: &edge::EdgePre<EdgeState>,
        limits: &Limits,
    ) -> Result<Self, HandlerError> {
        let mut store = Store::new(engine, EdgeState::new(limits));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes_max).unwrap_or(usize::MAX));
        let budget = Duration::from_millis(limits.cpu_ms_max);
        store.epoch_deadline_callback(move |state| continue_within(&state.data().meter, budget));
        store.set_epoch_deadline(1);
        match pre.instantiate(&mut store) {
            Ok(edge) => Ok(Self {
                store,
                edge,
                served: 0,
            }),
            Err(error) => Err(error_of::instantiation(
                &error,
                limits,
                store.data_mut().limiter.take_hit(),
            )),
        }
    }

    pub(super) fn decide(
        &mut self,
        head: &Head<'_>,
        context: &Arc<EdgeContext>,
        limits: &Limits,
    ) -> Result<Decision, HandlerError> {
        self.served += 1;
        let state = self.store.data_mut();
        state.meter.reset();
        state.last_words = None;
        state.request.fill(head);
        if !state
            .context
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, context))
        {
            state.context = Some(Arc::clone(context));
        }
        self.store.set_epoch_deadline(1);
        let request = RequestHead {
            method: method(head.method),
            path: head.path,
        };
        let decision = self.edge.call_decide(&mut self.store, request);
        decision.map_err(|error| self.store.data_mut().ended(&error, limits))
    }
}

/// An instance that is called asynchronously.
pub(super) struct AsyncInstance {
    store: Store<WasiEdgeState>,
    edge: edge_async::Edge,
    pub(super) served: u64,
}

impl AsyncInstance {
    pub(super) async fn new(
        engine: &Engine,
        pre: &edge_async::EdgePre<WasiEdgeState>,
        limits: &Limits,
        environment: &[(String, String)],
    ) -> Result<Self, HandlerError> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let state = WasiEdgeState {
            edge: EdgeState::new(limits),
            table,
            wasi: WasiCtxBuilder::new().envs(environment).build(),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.edge.limiter);
        store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes_max).unwrap_or(usize::MAX));
        let budget = Duration::from_millis(limits.cpu_ms_max);
        store.epoch_deadline_callback(move |state| yield_within(&state.data().edge.meter, budget));
        store.set_epoch_deadline(1);
        let meter = store.data().edge.meter.clone();
        match meter.measure(pre.instantiate_async(&mut store)).await {
            Ok(edge) => Ok(Self {
                store,
                edge,
                served: 0,
            }),
            Err(error) => Err(error_of::instantiation(
                &error,
                limits,
                store.data_mut().edge.limiter.take_hit(),
            )),
        }
    }

    pub(super) async fn decide(
        &mut self,
        request: RequestCopy,
        context: Arc<EdgeContext>,
        limits: &Limits,
    ) -> Result<Decision, HandlerError> {
        self.served += 1;
        let (verb, path) = (request.method().to_owned(), request.path().to_owned());
        let state = &mut self.store.data_mut().edge;
        state.meter.reset();
        state.last_words = None;
        state.request = request;
        state.context = Some(context);
        self.store.set_epoch_deadline(1);
        let head = RequestHead {
            method: method(&verb),
            path: &path,
        };
        let meter = self.store.data().edge.meter.clone();
        let call = self.edge.call_decide(&mut self.store, head);
        let decision = meter.measure(call).await;
        decision.map_err(|error| self.store.data_mut().edge.ended(&error, limits))
    }
}

pub(crate) fn continue_within(
    meter: &CpuMeter,
    budget: Duration,
) -> wasmtime::Result<UpdateDeadline> {
    if meter.tick() > budget {
        Err(error_of::OutOfCpu.into())
    } else {
        Ok(UpdateDeadline::Continue(1))
    }
}

/// Lets others run, then goes on. The runtime's own yield would be polled again at once.
pub(crate) fn yield_within(meter: &CpuMeter, budget: Duration) -> wasmtime::Result<UpdateDeadline> {
    if meter.tick() > budget {
        return Err(error_of::OutOfCpu.into());
    }
    meter.interrupt();
    Ok(UpdateDeadline::YieldCustom(
        1,
        Box::pin(tokio::task::yield_now()),
    ))
}

fn method(name: &str) -> Method<'_> {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other),
    }
}
