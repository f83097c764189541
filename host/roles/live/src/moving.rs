//! From one build to the next, without the connection noticing.
//!
//! A switch of builds moves every connection between two of its messages: at its next event, or when the one that goes
//! through all of them comes by, whichever is first. What a handler remembered is taken from its old instance and given
//! to a new one. A connection that the new build cannot take over stays with the old one until its drain deadline.

use super::{
    Live, Out,
    client::{Client, ClientState},
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
    /// Moves all connections to the build that answers from here on, a few at a time; subscriptions that it refuses end.
    pub(super) fn switched(live: &Arc<Live>, build: &LoadedBuild) {
        let narrowed = live.set_rules(build.manifest.live.as_ref());
        live.generation.fetch_add(1, Relaxed);
        let clients = live.connections.all();
        if clients.is_empty() {
            return;
        }
        let (live, child) = (Arc::clone(live), Arc::clone(&live.child));
        child.background.spawn(async move {
            let mut since = Instant::now();
            for client in clients {
                if narrowed {
                    live.end_refused(&client);
                }
                live.follow_build(&client, &mut client.state.lock());
                if since.elapsed() > SLICE {
                    tokio::task::yield_now().await;
                    since = Instant::now();
                }
            }
        });
    }

    /// Opens connections that are still on a build whose drain deadline has passed again, with the one that answers now.
    pub(super) fn leave_build(live: &Arc<Live>, old: &LoadedBuild) {
        let clients = live.connections.all();
        for client in clients {
            let mut state = client.state.lock();
            if state.build.id != old.id {
                continue;
            }
            // Nobody may have come by since the switch: then what it remembers can still be taken along.
            live.follow_build(&client, &mut state);
            if state.build.id != old.id {
                continue;
            }
            let active = live.child.builds.now().active.clone();
            let to = active.and_then(|build| Some((destination(&build, &state)?, build)));
            let Some((index, build)) = to else {
                let reason = "nothing handles this connection any more".to_owned();
                live.queue(&client, Out::Close(close::GOING_AWAY, reason));
                continue;
            };
            (state.build, state.handler_index) = (build, index);
            if live
                .reopen(&client, &mut state, Again::NotRestored)
                .is_none()
            {
                live.queue(
                    &client,
                    Out::Close(close::FAILED, "its handler failed".to_owned()),
                );
            }
        }
    }

    /// Moves a client to the build that answers now, if there was a switch since this was last called.
    pub(super) fn follow_build(&self, client: &Client, state: &mut ClientState) {
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
        let Some(index) = destination(&active, state) else {
            return;
        };
        let Code::Live(new) = &active.handlers[index].code else {
            return;
        };
        let new = Arc::clone(new);
        let moved = match Arc::ptr_eq(&new, &state.live_handler()) {
            true => Moved::Whole,
            false => carry_over(&new, &active.handlers[index].context, state),
        };
        let (old, name) = (state.build.id.short(), state.handler().name.clone());
        let again = match moved {
            Moved::Not(error) => {
                self.counters.not_moved.fetch_add(1, Relaxed);
                let request = state.session.request_id();
                tracing::warn!(handler = name, build = active.id.short(), request, reason = %error, old, "the new build cannot take over a connection; it stays with the old build until the drain deadline");
                return;
            }
            Moved::Whole => None,
            Moved::Afresh(again) => Some(again),
        };
        self.counters.moved.fetch_add(1, Relaxed);
        (state.build, state.handler_index) = (active, index);
        if let Some(again) = again
            && self.reopen(client, state, again).is_none()
        {
            self.queue(
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
    context: &Arc<protoplex_handler::HandlerContext>,
    state: &mut ClientState,
) -> Moved {
    let old = state.live_handler();
    let own = Arc::clone(&state.handler().context);
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
fn destination(build: &LoadedBuild, state: &ClientState) -> Option<usize> {
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
            let handler = build.handlers.get(target.handler)?;
            matches!(handler.code, Code::Live(_)).then_some(target.handler)
        }
        _ => None,
    }
}
