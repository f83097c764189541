//! From one build to the next, without the connection noticing.
//!
//! A switch of builds moves every connection between two of its messages: at its next event, or when the one that goes
//! through all of them comes by, whichever is first. What a handler remembered is taken from its old instance and given
//! to a new one. A connection that the new build cannot take over stays with the old one until its drain deadline.

use super::{
    Live, Out,
    client::{Client, State},
    close,
};
use protoplex_child::{
    build::{Code, LoadedBuild},
    route::Found,
};
use protoplex_handler::{Again, HandlerError, LiveError, LiveHandler};
use protoplex_http::{Head, Scheme};
use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Connections are moved for so long before others have their turn.
const SLICE: Duration = Duration::from_millis(1);

impl Live {
    /// Another build answers from here on. Its connections follow, a few at a time; subscriptions that it refuses end.
    pub(super) fn switched(live: &Arc<Live>, build: &LoadedBuild) {
        let narrowed = live.set_rules(build.manifest.live.as_ref());
        live.generation.fetch_add(1, Relaxed);
        let clients: Vec<_> = live.clients.lock().values().cloned().collect();
        if clients.is_empty() {
            return;
        }
        let live = Arc::clone(live);
        tokio::spawn(async move {
            let mut since = Instant::now();
            for client in clients {
                if narrowed {
                    live.end_refused(&client);
                }
                live.settle(&client, &mut client.state.lock());
                if since.elapsed() > SLICE {
                    tokio::task::yield_now().await;
                    since = Instant::now();
                }
            }
        });
    }

    /// The drain deadline of a build has passed: who is still with it is opened again with the one that answers now.
    pub(super) fn leave_build(live: &Arc<Live>, old: &LoadedBuild) {
        let clients: Vec<_> = live.clients.lock().values().cloned().collect();
        for client in clients {
            let mut state = client.state.lock();
            if state.build.id != old.id {
                continue;
            }
            // Nobody may have come by since the switch: then what it remembers can still be taken along.
            live.settle(&client, &mut state);
            if state.build.id != old.id {
                continue;
            }
            let active = live.child.builds.now().active.clone();
            let to = active.and_then(|build| Some((destination(&build, &state)?, build)));
            let Some((slot, build)) = to else {
                let reason = "nothing handles this connection any more".to_owned();
                live.say(&client, Out::Close(close::GOING_AWAY, reason));
                continue;
            };
            (state.build, state.slot) = (build, slot);
            if live
                .reopen(&client, &mut state, Again::NotRestored)
                .is_none()
            {
                live.say(
                    &client,
                    Out::Close(close::FAILED, "its handler failed".to_owned()),
                );
            }
        }
    }

    /// Goes to the build that answers now, if another did when this was last looked at.
    pub(super) fn settle(&self, client: &Client, state: &mut State) {
        let generation = self.generation.load(Relaxed);
        if state.generation == generation {
            return;
        }
        state.generation = generation;
        let Some(active) = self.child.builds.now().active.clone() else {
            return;
        };
        if Arc::ptr_eq(&active, &state.build) {
            return;
        }
        let Some(slot) = destination(&active, state) else {
            return;
        };
        let Code::Live(new) = &active.handlers[slot].code else {
            return;
        };
        let new = Arc::clone(new);
        let moved = match Arc::ptr_eq(&new, &state.handler()) {
            true => Moved::Whole,
            false => carry_over(&new, &active.handlers[slot].context, state),
        };
        let (old, name) = (state.build.id.short(), state.slot().name.clone());
        let again = match moved {
            Moved::Not(error) => {
                self.counters.not_moved.fetch_add(1, Relaxed);
                let request = state.session.request_id();
                tracing::warn!(handler = name, build = active.id.short(), request, reason = %error, "a connection stays with build {old} until its drain deadline");
                return;
            }
            Moved::Whole => None,
            Moved::Afresh(again) => Some(again),
        };
        self.counters.moved.fetch_add(1, Relaxed);
        (state.build, state.slot) = (active, slot);
        if let Some(again) = again
            && self.reopen(client, state, again).is_none()
        {
            self.say(
                client,
                Out::Close(close::FAILED, "its handler failed".to_owned()),
            );
        }
    }
}

/// The outcome for the state that was remembered.
enum Moved {
    /// The new handler knows it, or there is nothing to know.
    Whole,
    /// The state is lost; the new handler has to hear of the connection from the beginning.
    Afresh(Again),
    /// The state is where it was.
    Not(HandlerError),
}

fn carry_over(
    new: &LiveHandler,
    context: &Arc<protoplex_handler::EdgeContext>,
    state: &mut State,
) -> Moved {
    let old = state.handler();
    let own = Arc::clone(&state.slot().context);
    match old.save(&mut state.session, &own) {
        Ok(Some(saved)) if new.is_stateful() => {
            match new.restore(&mut state.session, &saved, context) {
                Ok(()) => Moved::Whole,
                Err(error) => Moved::Not(error),
            }
        }
        Ok(_) if new.is_stateful() => Moved::Afresh(Again::NotRestored),
        Ok(_) => {
            state.session.forget();
            Moved::Whole
        }
        Err(LiveError::Lost) => Moved::Afresh(Again::Lost),
        Err(LiveError::Handler(error @ HandlerError::Refused(_))) => Moved::Not(error),
        // It died of it, and what it remembered with it.
        Err(LiveError::Handler(_)) => Moved::Afresh(Again::NotRestored),
    }
}

/// The handler that a build has for a connection.
fn destination(build: &LoadedBuild, state: &State) -> Option<usize> {
    let head = Head {
        method: "GET",
        path: state.session.path(),
        authority: state.session.authority(),
        scheme: Scheme::Http,
        version: 11,
        headers: &[],
        client: Ipv4Addr::UNSPECIFIED.into(),
        client_port: 0,
        forwarder: None,
        notes: None,
        request_id: state.session.request_id(),
        hop: Default::default(),
    };
    match build.router.find(&head) {
        Found::Route(target) => {
            let slot = build.handlers.get(target.handler)?;
            matches!(slot.code, Code::Live(_)).then_some(target.handler)
        }
        _ => None,
    }
}
