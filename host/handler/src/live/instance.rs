//! One instance of a live handler: a store, its limits, and the calls.

use super::{Outcome, Saved, host::LiveState, session::Session};
use crate::{
    HandlerError,
    bindings::{
        live, live_stateful,
        live_stateful::protoplex::live::types::{Ending, MessageParam, Opening, SavedParam},
    },
    edge::{EdgeContext, instance::continue_within},
    error_of,
};
use protoplex_wire::manifest::Limits;
use std::{sync::Arc, time::Duration};
use wasmtime::{Engine, Store};

/// Prepared instances of either world.
pub(super) enum Pre {
    Plain(live::LivePre<LiveState>),
    Stateful(live_stateful::LiveStatefulPre<LiveState>),
}

enum Exports {
    Plain(live::Live),
    Stateful(live_stateful::LiveStateful),
}

pub(super) struct Instance {
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

impl Instance {
    pub(super) fn new(engine: &Engine, pre: &Pre, limits: &Limits) -> Result<Self, HandlerError> {
        let mut store = Store::new(engine, LiveState::new(limits));
        store.limiter(|state| &mut state.edge.limiter);
        store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes_max).unwrap_or(usize::MAX));
        let budget = Duration::from_millis(limits.cpu_ms_max);
        store.epoch_deadline_callback(move |state| {
            continue_within(&state.data().edge.meter, budget)
        });
        store.set_epoch_deadline(1);
        let exports = match pre {
            Pre::Plain(pre) => pre.instantiate(&mut store).map(Exports::Plain),
            Pre::Stateful(pre) => pre.instantiate(&mut store).map(Exports::Stateful),
        };
        match exports {
            Ok(exports) => Ok(Self {
                store,
                exports,
                served: 0,
            }),
            Err(error) => {
                let hit = store.data_mut().edge.limiter.take_hit();
                Err(error_of::instantiation(&error, limits, hit))
            }
        }
    }

    /// Tells the guest. What it asked for is in the outcome; after an error the instance must not be used again.
    pub(super) fn tell(
        &mut self,
        session: &mut Session,
        event: Event<'_>,
        context: &Arc<EdgeContext>,
        limits: &Limits,
    ) -> Result<Outcome, HandlerError> {
        let id = session.id;
        let refused = self.call(session, context, limits, |exports, store| match event {
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
            None => Outcome::Effects(std::mem::take(&mut self.store.data_mut().effects)),
        })
    }

    pub(super) fn save(
        &mut self,
        session: &mut Session,
        context: &Arc<EdgeContext>,
        limits: &Limits,
    ) -> Result<Option<Saved>, HandlerError> {
        let id = session.id;
        self.call(session, context, limits, |exports, store| match exports {
            Exports::Plain(_) => Ok(None),
            Exports::Stateful(guest) => {
                let saved = guest.call_save(store, id)?;
                Ok(Some(Saved {
                    schema: saved.schema,
                    bytes: saved.bytes,
                }))
            }
        })
    }

    /// Whether the guest took it.
    pub(super) fn restore(
        &mut self,
        session: &mut Session,
        saved: &Saved,
        context: &Arc<EdgeContext>,
        limits: &Limits,
    ) -> Result<Result<(), String>, HandlerError> {
        let id = session.id;
        self.call(session, context, limits, |exports, store| match exports {
            Exports::Plain(_) => Ok(Ok(())),
            Exports::Stateful(guest) => guest.call_restore(
                store,
                id,
                SavedParam {
                    schema: saved.schema,
                    bytes: &saved.bytes,
                },
            ),
        })
    }

    fn call<T>(
        &mut self,
        session: &mut Session,
        context: &Arc<EdgeContext>,
        limits: &Limits,
        call: impl FnOnce(&Exports, &mut Store<LiveState>) -> wasmtime::Result<T>,
    ) -> Result<T, HandlerError> {
        self.served += 1;
        let state = self.store.data_mut();
        state.begin();
        state.edge.meter.reset();
        state.edge.last_words = None;
        let known = state.edge.context.as_ref();
        if !known.is_some_and(|known| Arc::ptr_eq(known, context)) {
            state.edge.context = Some(Arc::clone(context));
        }
        // Lent for the call: nothing is copied.
        std::mem::swap(&mut state.edge.request, &mut session.head);
        self.store.set_epoch_deadline(1);
        let answer = call(&self.exports, &mut self.store);
        let state = self.store.data_mut();
        std::mem::swap(&mut state.edge.request, &mut session.head);
        answer.map_err(|error| state.edge.ended(&error, limits))
    }
}
