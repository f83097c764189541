//! App handlers: any component that exports `wasi:http`, 0.2 or 0.3, with bodies that stream both ways.
//!
//! A request runs in an idle instance or a new one, driven by the connection that asks: no task, no channel, no wake
//! lies between them. What cannot be driven there goes on in a task: a guest that works after its response, and one that
//! waits while others may use its instance. A client that leaves before there is a response ends its call. Around that
//! stand a bounded queue, a deadline outside the store, and places: a request has one until the head of its response is
//! out, one among the streams while its body is sent, and one in the allowance of the background for what is done after.

mod answer;
mod background;
mod body;
mod drive;
mod head;
mod instance;
mod joint;
mod linked;
mod runner;
mod state;
mod track;
mod upload;

use crate::{
    HandlerError,
    context::HandlerContext,
    error_of,
    interfaces::outgoing::{Outgoing, Policy},
    places::{Place, Places},
    pool::Pool,
};
pub use body::AppBody;
use head::AwaitedHead;
use http_body_util::BodyExt;
use instance::Instances;
pub(crate) use linked::AppLinker;
use protoplex_http::Body;
use protoplex_wire::manifest::{Handler, Limits};
use runner::Runner;
use state::{AppState, GuestConfig};
use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use track::RequestTrack;
use upload::Upload;
use wasmtime_wasi_http::{Error, handler::ProxyPre};

/// Between two looks at a deadline while the guest waits for its client: a deadline may be late by this.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// A compiled app handler and its instances.
pub struct AppHandler {
    runner: Arc<Runner>,
    places: Arc<Places>,
    limits: Limits,
}

impl AppHandler {
    /// The guest reads the context's settings through `wasi:config`.
    pub(crate) fn new(
        linked: ProxyPre<AppState>,
        pool: Pool,
        handler: &Handler,
        context: &HandlerContext,
    ) -> Self {
        let limits = handler.limits;
        let settings = context.settings.iter();
        let settings = settings.map(|(name, value)| (name.clone(), value.to_string()));
        let guest = GuestConfig {
            name: context.handler.as_str().into(),
            limits,
            outgoing: Outgoing::new(Policy::new(&handler.grants.outgoing), limits.outgoing_max),
            environment: handler.environment.clone().into_iter().collect(),
            settings: Arc::new(settings.collect()),
        };
        let instances = Instances::new(linked, pool, handler.isolation, guest);
        Self {
            runner: Arc::new(Runner::new(instances)),
            places: Places::new(limits.in_flight_max, limits.queue_max),
            limits,
        }
    }

    /// Answers a request of that client. The URI must be absolute. The place is held until the response's head is there;
    /// one among the streams, until its body has ended.
    ///
    /// # Errors
    /// Whatever kept the handler from answering; nothing of a response exists then.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call and gives its place back, unless the guest has returned its response: then what
    /// it still does goes on in the background. A call in an instance that others use goes on as long as they do, and
    /// holds no place of theirs.
    pub async fn handle(
        &self,
        request: http::Request<Body>,
        client: IpAddr,
    ) -> Result<http::Response<AppBody>, HandlerError> {
        let place = self.place(client).await?;
        // The answer to HEAD has the length of a body that is not there.
        let has_body = request.method() != http::Method::HEAD;
        let track = Arc::new(RequestTrack::default());
        let request = request.map(|body| match body.is_absent() {
            true => body.map_err(|_| Error::ConnectionTerminated).boxed_unsync(),
            false => Upload::new(body, &track).boxed_unsync(),
        });
        let mut head = AwaitedHead::begin(&self.runner, request, &track, place);
        let deadline = self.limits.deadline_ms;
        let waiting = poll_fn(|cx| head.poll(cx));
        match before(Duration::from_millis(deadline), &track, waiting).await {
            Ok(Some(Ok(response))) => head.respond(response, has_body).await,
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(track.cause_of_death().await),
            Err(Overdue) => {
                head.give_up();
                Err(HandlerError::Deadline(deadline))
            }
        }
    }

    /// Makes one instance and throws it away.
    ///
    /// # Errors
    /// Whatever keeps an instance from being made.
    pub async fn warm(&self) -> Result<(), HandlerError> {
        let deadline = self.limits.deadline_ms;
        let instance = self.runner.instances.factory.instantiate();
        let instance = tokio::time::timeout(Duration::from_millis(deadline), instance).await;
        match instance {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error_of::instantiation(&error, &self.limits, None)),
            Err(_) => Err(HandlerError::Deadline(deadline)),
        }
    }

    /// Waits for a place, in a queue of bounded length.
    async fn place(&self, client: IpAddr) -> Result<Place, HandlerError> {
        if let Some(place) = self.places.try_take(client) {
            return Ok(place);
        }
        let deadline = Duration::from_millis(self.limits.deadline_ms);
        let place = tokio::time::timeout(deadline, self.places.take(client));
        place.await.unwrap_or_else(|_| Err(self.places.busy()))
    }
}

/// The guest has had all its time.
struct Overdue;

/// Waits for no longer than `deadline`, without the time in which the guest waits for its client.
async fn before<T>(
    deadline: Duration,
    track: &RequestTrack,
    future: impl Future<Output = T>,
) -> Result<T, Overdue> {
    let started = Instant::now();
    let mut future = pin!(future);
    let mut until = started + deadline;
    loop {
        if let Ok(output) = tokio::time::timeout_at(until, future.as_mut()).await {
            return Ok(output);
        }
        let (client_time, awaits_client) = track.client_time();
        let now = Instant::now();
        until = started + deadline + client_time;
        if awaits_client {
            until = until.max(now + LOOK_PERIOD);
        } else if until <= now {
            return Err(Overdue);
        }
    }
}
