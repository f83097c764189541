//! One instance of an edge handler: a store, its limits, and the call.

use crate::{
    HandlerError,
    bindings::{edge, edge_async},
    context::HandlerContext,
    decision::{Decision, Method, RequestHead},
    error_of,
    request_copy::RequestCopy,
    state::{HostState, WasiState},
    store::{self, OnTick},
    ticker::GuestRun,
};
use protoplex_http::Head;
use protoplex_wire::manifest::Limits;
use std::sync::Arc;
use wasmtime::{
    AsContextMut, Engine, Store,
    component::{Instance, TypedFunc},
};

/// The export `decide`, by our own types of a decision.
type Decide = TypedFunc<(RequestHead<'static>,), (Decision,)>;

fn decide(instance: &Instance, store: impl AsContextMut) -> wasmtime::Result<Decide> {
    instance.get_typed_func(store, "decide")
}

/// An instance that is called synchronously.
pub(super) struct EdgeInstance {
    store: Store<HostState>,
    decide: Decide,
    pub(super) served: u64,
}

impl EdgeInstance {
    pub(super) fn new(
        engine: &Engine,
        pre: &edge::EdgePre<HostState>,
        limits: &Limits,
    ) -> Result<Self, HandlerError> {
        let mut store = store::new(engine, HostState::new(limits), limits, OnTick::Continue);
        let _running = GuestRun::begin();
        let instance = pre.instance_pre().instantiate(&mut store);
        match instance.and_then(|instance| decide(&instance, &mut store)) {
            Ok(decide) => Ok(Self {
                store,
                decide,
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
        context: &Arc<HandlerContext>,
        limits: &Limits,
    ) -> Result<Decision, HandlerError> {
        self.served += 1;
        let state = self.store.data_mut();
        state.begin(context);
        state.request.fill(head);
        self.store.set_epoch_deadline(1);
        let request = RequestHead {
            method: method(head.method),
            path: head.path,
        };
        let running = GuestRun::begin();
        let decision = self.decide.call(&mut self.store, (request,));
        drop(running);
        let decision = decision.map(|(decision,)| decision);
        decision.map_err(|error| self.store.data_mut().ended(&error, limits))
    }
}

/// An instance that is called asynchronously.
pub(super) struct AsyncEdgeInstance {
    store: Store<WasiState>,
    decide: Decide,
    pub(super) served: u64,
}

impl AsyncEdgeInstance {
    pub(super) async fn new(
        engine: &Engine,
        pre: &edge_async::EdgePre<WasiState>,
        limits: &Limits,
        environment: &[(String, String)],
    ) -> Result<Self, HandlerError> {
        let state = WasiState::new(limits, environment);
        let mut store = store::new(engine, state, limits, OnTick::Yield);
        let meter = store.data().host.meter.clone();
        let instance = pre.instance_pre().instantiate_async(&mut store);
        let instance = meter.measure(instance).await;
        match instance.and_then(|instance| decide(&instance, &mut store)) {
            Ok(decide) => Ok(Self {
                store,
                decide,
                served: 0,
            }),
            Err(error) => Err(error_of::instantiation(
                &error,
                limits,
                store.data_mut().host.limiter.take_hit(),
            )),
        }
    }

    pub(super) async fn decide(
        &mut self,
        request: RequestCopy,
        context: &Arc<HandlerContext>,
        limits: &Limits,
    ) -> Result<Decision, HandlerError> {
        self.served += 1;
        let (verb, path) = (request.method().to_owned(), request.path().to_owned());
        let state = &mut self.store.data_mut().host;
        state.begin(context);
        state.request = request;
        self.store.set_epoch_deadline(1);
        let head = RequestHead {
            method: method(&verb),
            path: &path,
        };
        let meter = self.store.data().host.meter.clone();
        let call = self.decide.call_async(&mut self.store, (head,));
        let decision = meter.measure(call).await;
        let decision = decision.map(|(decision,)| decision);
        decision.map_err(|error| self.store.data_mut().host.ended(&error, limits))
    }
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
