//! One instance of a live handler: a store, its limits, and the calls.

use super::{
    connection::Connection,
    event::{Outcome, Saved},
    linked::LinkedLive,
};
use crate::{
    HandlerError,
    bindings::{
        live, live_stateful,
        live_stateful::protoplex::live::types::{Ending, MessageParam, Opening, SavedParam},
    },
    context::HandlerContext,
    error_of,
    state::LiveState,
    store::{self, OnTick},
    ticker::GuestRun,
};
use protoplex_wire::manifest::Limits;
use std::sync::Arc;
use wasmtime::{Engine, Store};

enum Exports {
    Plain(live::Live),
    Stateful(live_stateful::LiveStateful),
}

pub(super) struct LiveInstance {
    store: Store<LiveState>,
    exports: Exports,
    pub(super) served: u64,
}

/// An event on a connection.
pub(super) enum Event<'a> {
    Opened(Opening<'a>),
    Received(MessageParam<'a>),
    Closed(Ending<'a>),
}

impl LiveInstance {
    pub(super) fn new(
        engine: &Engine,
        linked: &LinkedLive,
        limits: &Limits,
    ) -> Result<Self, HandlerError> {
        let mut store = store::new(engine, LiveState::new(limits), limits, OnTick::Continue);
        let _running = GuestRun::begin();
        let exports = match linked {
            LinkedLive::Plain(pre) => pre.instantiate(&mut store).map(Exports::Plain),
            LinkedLive::Stateful(pre) => pre.instantiate(&mut store).map(Exports::Stateful),
        };
        match exports {
            Ok(exports) => Ok(Self {
                store,
                exports,
                served: 0,
            }),
            Err(error) => {
                let hit = store.data_mut().host.limiter.take_hit();
                Err(error_of::instantiation(&error, limits, hit))
            }
        }
    }

    /// Tells the guest. What it asked for is in the outcome; after an error the instance must not be used again.
    pub(super) fn tell(
        &mut self,
        connection: &mut Connection,
        event: Event<'_>,
        context: &Arc<HandlerContext>,
        limits: &Limits,
    ) -> Result<Outcome, HandlerError> {
        let id = connection.id;
        let refused = self.call(connection, context, limits, |exports, store| match event {
            Event::Opened(opening) => match exports {
                Exports::Plain(guest) => guest.call_opened(store, id, opening),
                Exports::Stateful(guest) => guest.call_opened(store, id, opening),
            }
            .map(Result::err),
            Event::Received(message) => match exports {
                Exports::Plain(guest) => guest.call_received(store, id, message),
                Exports::Stateful(guest) => guest.call_received(store, id, message),
            }
            .map(|()| None),
            Event::Closed(ending) => match exports {
                Exports::Plain(guest) => guest.call_closed(store, id, ending),
                Exports::Stateful(guest) => guest.call_closed(store, id, ending),
            }
            .map(|()| None),
        })?;
        Ok(match refused {
            Some(refusal) => Outcome::Refused {
                status: refusal.status,
                reason: refusal.reason,
            },
            None => Outcome::Effects(self.store.data_mut().effects.take()),
        })
    }

    pub(super) fn save(
        &mut self,
        connection: &mut Connection,
        context: &Arc<HandlerContext>,
        limits: &Limits,
    ) -> Result<Option<Saved>, HandlerError> {
        let id = connection.id;
        self.call(
            connection,
            context,
            limits,
            |exports, store| match exports {
                Exports::Plain(_) => Ok(None),
                Exports::Stateful(guest) => {
                    let saved = guest.call_save(store, id)?;
                    Ok(Some(Saved {
                        schema: saved.schema,
                        bytes: saved.bytes,
                    }))
                }
            },
        )
    }

    /// Whether the guest took it.
    pub(super) fn restore(
        &mut self,
        connection: &mut Connection,
        saved: &Saved,
        context: &Arc<HandlerContext>,
        limits: &Limits,
    ) -> Result<Result<(), String>, HandlerError> {
        let id = connection.id;
        self.call(
            connection,
            context,
            limits,
            |exports, store| match exports {
                Exports::Plain(_) => Ok(Ok(())),
                Exports::Stateful(guest) => guest.call_restore(
                    store,
                    id,
                    SavedParam {
                        schema: saved.schema,
                        bytes: &saved.bytes,
                    },
                ),
            },
        )
    }

    fn call<T>(
        &mut self,
        connection: &mut Connection,
        context: &Arc<HandlerContext>,
        limits: &Limits,
        call: impl FnOnce(&Exports, &mut Store<LiveState>) -> wasmtime::Result<T>,
    ) -> Result<T, HandlerError> {
        self.served += 1;
        let state = self.store.data_mut();
        state.begin(context);
        // Lent for the call: nothing is copied.
        std::mem::swap(&mut state.host.request, &mut connection.head);
        self.store.set_epoch_deadline(1);
        let running = GuestRun::begin();
        let answer = call(&self.exports, &mut self.store);
        drop(running);
        let state = self.store.data_mut();
        std::mem::swap(&mut state.host.request, &mut connection.head);
        answer.map_err(|error| state.host.ended(&error, limits))
    }
}
