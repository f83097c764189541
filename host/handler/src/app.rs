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
mod instance;
mod joint;
mod state;
mod track;
mod upload;

use crate::{
    BuildFault, HandlerError, Linkers, Runtime, error_of,
    outgoing::{Outgoing, Policy},
    places::{Place, Places},
};
use answer::Answer;
use background::Background;
pub use body::AppBody;
use body::DrivenBody;
use drive::Drive;
use http_body_util::BodyExt;
use instance::{Factory, Idle};
use joint::{Incoming, Joint};
use parking_lot::Mutex;
use protoplex_http::Body;
use protoplex_wire::{
    manifest::{Handler, Limits, defaults},
    release::Stage,
};
pub(crate) use state::{AppState, RESOURCES_MAX};
use std::{
    collections::HashMap,
    fs::File,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};
pub(crate) use track::RequestTrack;
use upload::Upload;
use wasmtime_wasi_http::Error;

/// Between two looks at a deadline while the guest waits for its client: a deadline may be late by this.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Guests that may work at once for clients that have their responses, or have left, for each place. As many as streams:
/// they mostly wait as well. More are ended.
const WORK_PER_PLACE: u32 = 4;

/// A compiled app handler and its instances.
pub struct AppHandler {
    shared: Arc<Shared>,
    places: Arc<Places>,
    limits: Limits,
}

/// State that drivers need: it must not hold them in turn.
struct Runner {
    factory: Factory,
    idle: Idle,
}

/// State that bodies need as well. Dropping it ends what runs in the background.
struct Shared {
    runner: Arc<Runner>,
    background: Background,
    /// Responses whose bodies are being sent.
    streams: Arc<Places>,
    /// Instances that others may join.
    apart: Mutex<Vec<Weak<Joint>>>,
    expires: AtomicBool,
}

impl AppHandler {
    /// Maps native code and links it; see [`crate::EdgeHandler::load`] for what `native` must be. The guest reads
    /// `settings` through `wasi:config`.
    ///
    /// # Errors
    /// Stage `compile` when the code is not of this host, `link` when it does not fit its world.
    pub fn load(
        runtime: &Runtime,
        linkers: &Linkers,
        native: &File,
        name: &str,
        handler: &Handler,
        settings: &HashMap<String, String>,
    ) -> Result<Self, BuildFault> {
        let pool = runtime.pool(handler.world);
        let component = crate::linkers::map_native(&pool.engine, native)?;
        let pre = linkers
            .app(&component, handler.world)
            .map_err(|error| BuildFault::new(Stage::Link, &error))?;
        let factory = Factory {
            pool,
            pre,
            name: name.into(),
            limits: handler.limits,
            isolation: handler.isolation,
            outgoing: Outgoing::new(
                Policy::new(&handler.grants.outgoing),
                handler.limits.outgoing_max,
            ),
            environment: handler.environment.clone().into_iter().collect(),
            settings: Arc::new(settings.clone().into_iter().collect()),
        };
        let runner = Runner {
            factory,
            idle: Idle::default(),
        };
        let limits = handler.limits;
        let streams_max = limits.streams_max;
        let streams_max = streams_max.unwrap_or_else(|| {
            limits
                .in_flight_max
                .saturating_mul(defaults::STREAMS_PER_PLACE)
        });
        Ok(Self {
            shared: Arc::new(Shared {
                runner: Arc::new(runner),
                background: Background::new(limits.in_flight_max.saturating_mul(WORK_PER_PLACE)),
                streams: Places::new(streams_max, 0),
                apart: Mutex::default(),
                expires: AtomicBool::new(false),
            }),
            places: Places::new(limits.in_flight_max, limits.queue_max),
            limits,
        })
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
        let (sender, answer) = oneshot::channel();
        let incoming = Incoming {
            request,
            track: Arc::clone(&track),
            answer: sender,
        };
        let mut head = Head {
            running: self.shared.begin(incoming),
            answer,
            answered: false,
            track: &track,
            place: Some(place),
            shared: &self.shared,
        };
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
        let instance = self.shared.runner.factory.instantiate();
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

/// Where a request runs.
enum Running {
    /// Here.
    Here(Drive),
    /// In a task; nobody else may tell what became of it.
    Apart(Arc<Joint>),
    /// Nowhere any more.
    Over,
}

impl Shared {
    /// An idle instance is better than one that others use, and that is better than a new one.
    fn begin(self: &Arc<Self>, incoming: Incoming) -> Running {
        if !self.expires.swap(true, Ordering::Relaxed) {
            let runner = Arc::downgrade(&self.runner);
            self.background.expire_idle(runner);
        }
        let idle = self.runner.idle.take();
        if idle.is_some() || !self.is_concurrent() {
            return Running::Here(Drive::new(&self.runner, idle, incoming));
        }
        match self.join(Box::new(incoming)) {
            Ok(joint) => Running::Apart(joint),
            Err(incoming) => Running::Here(Drive::new(&self.runner, None, *incoming)),
        }
    }

    fn join(&self, mut incoming: Box<Incoming>) -> Result<Arc<Joint>, Box<Incoming>> {
        let mut apart = self.apart.lock();
        apart.retain(|joint| joint.strong_count() > 0);
        for joint in apart.iter().filter_map(Weak::upgrade) {
            match joint.join(incoming) {
                Ok(()) => return Ok(joint),
                Err(refused) => incoming = refused,
            }
        }
        Err(incoming)
    }

    fn is_concurrent(&self) -> bool {
        self.runner.factory.concurrency() > 1
    }

    /// Lets a guest work on whose response is over or has nobody to take it, as far as the allowance goes.
    fn work_on(&self, drive: Drive, place: Option<Place>) {
        match place.and_then(|place| self.background.allow(place)) {
            Some(place) => self.hand_over(drive, Some(place)),
            None => self.background.note_ended(&self.runner.factory.name),
        }
    }

    /// Goes on in a task, where others may join if the handler allows it.
    fn hand_over(&self, drive: Drive, place: Option<Place>) {
        if self.is_concurrent() {
            self.apart.lock().push(Arc::downgrade(&drive.joint));
        }
        let deadline_ms = self.runner.factory.limits.deadline_ms;
        self.background.drive(drive, deadline_ms, place);
    }
}

type Response = http::Response<Answer>;

/// A request whose response has no head yet.
struct Head<'a> {
    running: Running,
    answer: oneshot::Receiver<Result<Response, HandlerError>>,
    /// The guest has answered, and the answer was taken.
    answered: bool,
    track: &'a RequestTrack,
    place: Option<Place>,
    shared: &'a Arc<Shared>,
}

impl Head<'_> {
    /// `None` when the instance died.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Response, HandlerError>>> {
        // It is taken out first: one that panics is gone, and not polled again.
        match std::mem::replace(&mut self.running, Running::Over) {
            Running::Here(mut drive) => {
                let polled = drive.poll(cx);
                let answer = self.answer.try_recv();
                if polled.is_pending() {
                    if answer.is_err() && self.shared.is_concurrent() {
                        // Others may use the instance while this one waits.
                        self.running = Running::Apart(Arc::clone(&drive.joint));
                        self.shared.hand_over(drive, None);
                        return self.poll_answer(cx);
                    }
                    self.running = Running::Here(drive);
                }
                match answer {
                    Ok(answer) => {
                        self.answered = true;
                        Poll::Ready(Some(answer))
                    }
                    Err(_) if polled.is_ready() => Poll::Ready(None),
                    Err(_) => Poll::Pending,
                }
            }
            elsewhere => {
                self.running = elsewhere;
                self.poll_answer(cx)
            }
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Response, HandlerError>>> {
        let polled = Pin::new(&mut self.answer).poll(cx).map(Result::ok);
        self.answered |= matches!(polled, Poll::Ready(Some(_)));
        polled
    }

    async fn respond(
        mut self,
        response: Response,
        has_body: bool,
    ) -> Result<http::Response<AppBody>, HandlerError> {
        let drive = match std::mem::replace(&mut self.running, Running::Over) {
            Running::Here(drive) => Some(drive),
            _ => None,
        };
        let has_body = has_body && response.status() != http::StatusCode::NOT_MODIFIED;
        let place = self.place.take();
        let (parts, answer) = response.into_parts();
        let body = DrivenBody::new(answer, drive, self.shared, place);
        let body = if has_body {
            body.gathered().await?
        } else {
            AppBody::Stream(body.boxed_unsync())
        };
        Ok(http::Response::from_parts(parts, body))
    }

    /// The deadline has passed. An instance that others use is left to them, and to no newcomer.
    fn give_up(&mut self) {
        if let Running::Apart(joint) = std::mem::replace(&mut self.running, Running::Over) {
            joint.leave(self.track, None);
        }
    }
}

/// The client has left, or was told of an error.
impl Drop for Head<'_> {
    fn drop(&mut self) {
        let running = std::mem::replace(&mut self.running, Running::Over);
        // A response that nobody takes ends here.
        let answered = self.answered || self.answer.try_recv().is_ok();
        match running {
            Running::Here(drive) if answered => self.shared.work_on(drive, self.place.take()),
            Running::Apart(joint) if !answered => {
                let place = self.place.take();
                let place = place.and_then(|place| self.shared.background.allow(place));
                joint.leave(self.track, place);
            }
            // What is being done for a client that has left is dropped.
            Running::Here(_) | Running::Apart(_) | Running::Over => {}
        }
    }
}
