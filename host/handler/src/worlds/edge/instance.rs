//! One instance of an edge handler: a store, its limits, and the call.

use crate::{
    HandlerError,
    bindings::{
        edge::{
            self,
            protoplex::edge::types::{Decision, Method, RequestHead},
        },
        edge_async,
    },
    context::HandlerContext,
    error_of,
    request_copy::RequestCopy,
    state::{HostState, WasiState},
    store::{self, OnTick},
};
use protoplex_http::Head;
use protoplex_wire::manifest::Limits;
use std::sync::Arc;
use wasmtime::{Engine, Store};

/// An instance that is called synchronously.
pub(super) struct EdgeInstance {
    store: Store<HostState>,
    edge: edge::Edge,
    pub(super) served: u64,
}

impl EdgeInstance {
    pub(super) fn new(
        engine: &Engine,
        pre: &edge::EdgePre<HostState>,
        limits: &Limits,
    ) -> Result<Self, HandlerError> {
        let mut store = store::new(engine, HostState::new(limits), limits, OnTick::Continue);
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
        let decision = self.edge.call_decide(&mut self.store, request);
        decision.map_err(|error| self.store.data_mut().ended(&error, limits))
    }
}

/// An instance that is called asynchronously.
pub(super) struct AsyncEdgeInstance {
    store: Store<WasiState>,
    edge: edge_async::Edge,
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
        match meter.measure(pre.instantiate_async(&mut store)).await {
            Ok(edge) => Ok(Self {
                store,
                edge,
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
        let call = self.edge.call_decide(&mut self.store, head);
        let decision = meter.measure(call).await;
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
