//! Counts the reply to a request: for its route, and 5xx for the child.

use super::{
    context::ChildContext,
    metrics::{Moment, RouteMetrics},
};
use protoplex_http::{Answer, Reply};
use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Counts the reply to one request, when it is there.
pub struct Tally<'a> {
    context: &'a Arc<ChildContext>,
    route: Cell<&'a Arc<RouteMetrics>>,
    started: Moment,
    /// Whether the reply's own future counts it.
    is_taken: Cell<bool>,
}

/// A [`Tally`] in the future that makes the reply: none is wrapped around it only to count. Empty where another future
/// counts.
#[derive(Default)]
pub(crate) struct OwnedTally(Option<(Arc<ChildContext>, Arc<RouteMetrics>, Moment)>);

impl<'a> Tally<'a> {
    /// Begins with a request that no route has taken yet.
    pub(crate) fn begin(context: &'a Arc<ChildContext>) -> Self {
        Self {
            context,
            route: Cell::new(&context.metrics.unrouted),
            started: Moment::now(),
            is_taken: Cell::new(false),
        }
    }

    /// The request is that route's.
    pub(crate) fn set_route(&self, route: &'a Arc<RouteMetrics>) {
        self.route.set(route);
    }

    /// The tally of a request whose reply is counted elsewhere.
    pub(crate) fn elsewhere(context: &'a Arc<ChildContext>) -> Self {
        let tally = Self::begin(context);
        tally.is_taken.set(true);
        tally
    }

    /// The caller's future makes the reply, and counts it.
    pub(crate) fn take(&self) -> OwnedTally {
        if self.is_taken.replace(true) {
            return OwnedTally::default();
        }
        let (context, route) = (Arc::clone(self.context), Arc::clone(self.route.get()));
        OwnedTally(Some((context, route, self.started)))
    }

    /// Counts an answer that does not count itself.
    pub(crate) fn counted(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Ready(reply) => {
                count(self.context, self.route.get(), self.started, &reply);
                Answer::Ready(reply)
            }
            Answer::Later(reply) if self.is_taken.get() => Answer::Later(reply),
            Answer::Later(reply) => {
                let tally = self.take();
                Answer::Later(Box::pin(async move { tally.counted(reply.await) }))
            }
        }
    }
}

impl OwnedTally {
    pub(crate) fn counted(&self, reply: Reply) -> Reply {
        if let Some((context, route, started)) = &self.0 {
            count(context, route, *started, &reply);
        }
        reply
    }
}

fn count(context: &ChildContext, route: &RouteMetrics, started: Moment, reply: &Reply) {
    route.count(reply.status, started);
    if reply.status.is_server_error() {
        context.metrics.errors.fetch_add(1, Relaxed);
    }
}
