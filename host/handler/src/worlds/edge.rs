//! Edge handlers: a typed call that reads a head and returns a decision.
//!
//! Without WASI imports the call is synchronous: no future, no fiber, no task. With them it is asynchronous, on a
//! linker and a store type of their own, because a store with one async import refuses synchronous calls.

mod instance;
mod linked;

use crate::{
    HandlerError,
    bindings::edge_async::EdgePre as AsyncEdgePre,
    context::HandlerContext,
    decision::Decision,
    places::Places,
    pool::{Pool, Purpose},
    request_copy::RequestCopy,
    state::WasiState,
};
use futures::future::BoxFuture;
use instance::{AsyncEdgeInstance, EdgeInstance};
pub(crate) use linked::{EdgeLinkers, LinkedEdge};
use parking_lot::Mutex;
use protoplex_http::Head;
use protoplex_wire::manifest::{Handler, Isolation, Limits};
use std::{sync::Arc, time::Duration};

/// Instances that wait for the next request, of one handler in one child. A single-threaded child needs one; more
/// are kept where threads overlap.
const IDLE_INSTANCES_MAX: usize = 64;

/// A compiled edge handler and its idle instances.
pub struct EdgeHandler {
    linked: LinkedEdge,
    limits: Limits,
    /// Environment variables of a handler that imports WASI.
    environment: Vec<(String, String)>,
    isolation: Isolation,
    pool: Pool,
    idle: Mutex<Vec<EdgeInstance>>,
    idle_async: Mutex<Vec<AsyncEdgeInstance>>,
    /// For calls that may wait; the others have the child's thread for themselves.
    places: Arc<Places>,
}

impl EdgeHandler {
    pub(crate) fn new(linked: LinkedEdge, pool: Pool, handler: &Handler) -> Self {
        Self {
            linked,
            limits: handler.limits,
            environment: handler.environment.clone().into_iter().collect(),
            isolation: handler.isolation,
            pool,
            idle: Mutex::default(),
            idle_async: Mutex::default(),
            places: Places::new(handler.limits.in_flight_max, handler.limits.queue_max),
        }
    }

    /// Whether [`Self::decide`] can be called; otherwise [`Self::decide_later`].
    pub fn is_sync(&self) -> bool {
        matches!(self.linked, LinkedEdge::Sync(_))
    }

    /// Decides, in this thread, within the CPU budget. A guest that dies in an instance which has served before is
    /// asked once more in a fresh one: nothing has reached the client, and a decision has no side effects.
    ///
    /// # Errors
    /// Whatever the last instance died of.
    pub fn decide(
        &self,
        head: &Head<'_>,
        context: &Arc<HandlerContext>,
    ) -> Result<Decision, HandlerError> {
        let LinkedEdge::Sync(pre) = &self.linked else {
            return Err(HandlerError::Instantiate(
                "this handler imports WASI and is called asynchronously".into(),
            ));
        };
        if let Some(mut instance) = self.take_idle() {
            match instance.decide(head, context, &self.limits) {
                Ok(decision) => {
                    self.put_back(instance);
                    return Ok(decision);
                }
                Err(error) if !matches!(error, HandlerError::Trap(_) | HandlerError::Memory(_)) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(handler = context.handler, %error, "a reused edge instance failed; the call is repeated on a fresh one")
                }
            }
        }
        self.pool.admit(Purpose::Request)?;
        let mut instance = EdgeInstance::new(&self.pool.engine, pre, &self.limits)?;
        let decision = instance.decide(head, context, &self.limits)?;
        self.put_back(instance);
        Ok(decision)
    }

    /// Decides for a handler that imports WASI and so may wait: in one of its places, which the request waits for in a
    /// queue of bounded length, until its deadline. The call has as long again; its deadline is outside the store.
    pub fn decide_later(
        self: &Arc<Self>,
        head: &Head<'_>,
        context: &Arc<HandlerContext>,
    ) -> BoxFuture<'static, Result<Decision, HandlerError>> {
        let mut request = RequestCopy::default();
        request.fill(head);
        let (handler, context) = (Arc::clone(self), Arc::clone(context));
        let client = head.client;
        Box::pin(async move {
            let deadline_ms = handler.limits.deadline_ms;
            let deadline = Duration::from_millis(deadline_ms);
            let place = tokio::time::timeout(deadline, handler.places.take(client)).await;
            // No instance died of the wait: that is no deadline of the guest's.
            let _place = place.unwrap_or_else(|_| Err(handler.places.busy()))?;
            tokio::time::timeout(deadline, handler.call_async(request, context))
                .await
                .unwrap_or(Err(HandlerError::Deadline(deadline_ms)))
        })
    }

    async fn call_async(
        &self,
        request: RequestCopy,
        context: Arc<HandlerContext>,
    ) -> Result<Decision, HandlerError> {
        let LinkedEdge::Async(pre) = &self.linked else {
            return Err(HandlerError::Instantiate(
                "this handler is called synchronously".into(),
            ));
        };
        let idle = self.idle_async.lock().pop();
        let mut instance = match idle {
            Some(instance) => instance,
            None => {
                self.pool.admit(Purpose::Request)?;
                self.make_async(pre).await?
            }
        };
        let decision = instance.decide(request, &context, &self.limits).await?;
        self.put_back_async(instance);
        Ok(decision)
    }

    async fn make_async(
        &self,
        pre: &AsyncEdgePre<WasiState>,
    ) -> Result<AsyncEdgeInstance, HandlerError> {
        AsyncEdgeInstance::new(&self.pool.engine, pre, &self.limits, &self.environment).await
    }

    /// Makes one instance, and keeps it where the isolation allows. A handler that was carried over with instances has
    /// been warmed up: it goes on with those it has.
    ///
    /// # Errors
    /// Whatever keeps an instance from being made.
    pub async fn warm(&self) -> Result<(), HandlerError> {
        match &self.linked {
            LinkedEdge::Sync(_) if !self.idle.lock().is_empty() => {}
            LinkedEdge::Async(_) if !self.idle_async.lock().is_empty() => {}
            LinkedEdge::Sync(pre) => {
                self.put_back(EdgeInstance::new(&self.pool.engine, pre, &self.limits)?)
            }
            LinkedEdge::Async(pre) => {
                self.put_back_async(self.make_async(pre).await?);
            }
        }
        Ok(())
    }

    /// Drops idle instances: the handler's build does not answer requests any more.
    pub fn trim_pool(&self) {
        self.idle.lock().clear();
        self.idle_async.lock().clear();
    }

    fn take_idle(&self) -> Option<EdgeInstance> {
        self.idle.lock().pop()
    }

    fn put_back(&self, instance: EdgeInstance) {
        if self.may_serve_again(instance.served) {
            keep(&self.idle, instance);
        }
    }

    fn put_back_async(&self, instance: AsyncEdgeInstance) {
        if self.may_serve_again(instance.served) {
            keep(&self.idle_async, instance);
        }
    }

    fn may_serve_again(&self, served: u64) -> bool {
        match self.isolation {
            Isolation::PerRequest => false,
            Isolation::Shared { requests_max } | Isolation::Concurrent { requests_max, .. } => {
                served < requests_max
            }
        }
    }
}

/// Keeps an instance for the next request, unless enough wait already.
fn keep<T>(idle: &Mutex<Vec<T>>, instance: T) {
    let mut idle = idle.lock();
    if idle.len() < IDLE_INSTANCES_MAX {
        idle.push(instance);
    }
}
