//! Instances of an app handler: how they are made, what they accept, when they are thrown away.

use super::AppState;
use crate::{HandlerError, edge::instance::yield_within, error_of, outgoing::Outgoing};
use parking_lot::Mutex;
use protoplex_wire::manifest::{Isolation, Limits};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior},
};
use wasmtime::{Engine, Result, Store, StoreContextMut, component::GuestTaskId};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{
    WasiHttpView,
    handler::{
        HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
    },
};

/// An instance without requests is kept this long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// What a guest may do after its response has ended, such as logging.
const AFTER_RESPONSE_MAX: Duration = Duration::from_secs(30);
/// How often an instance looks whether it has expired.
const CHECK_PERIOD: Duration = Duration::from_millis(250);

/// Between an instance's death and the word of its worker lie microseconds.
const CAUSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the two sides of one request share. It lives until the response's body has ended.
#[derive(Debug, Default)]
pub(crate) struct RequestTrack {
    hit: Mutex<Option<String>>,
    /// Why the instance died, if it did before the request was over.
    cause: Mutex<Option<HandlerError>>,
    died: Notify,
}

impl RequestTrack {
    pub(super) fn take_hit(&self) -> Option<String> {
        self.hit.lock().take()
    }

    /// Why the instance died.
    pub(super) fn cause(&self) -> Option<HandlerError> {
        self.cause.lock().clone()
    }

    /// The same, when it is known that it died: its worker says so within moments.
    pub(super) async fn cause_of_death(&self) -> HandlerError {
        // `notify_one` keeps its permit, so it does not matter who comes first.
        let _ = tokio::time::timeout(CAUSE_WAIT_MAX, self.died.notified()).await;
        let unknown = || HandlerError::Trap("the instance died".into());
        self.cause().unwrap_or_else(unknown)
    }

    fn end(&self, cause: HandlerError) {
        *self.cause.lock() = Some(cause);
        self.died.notify_one();
    }

    pub(crate) fn report(&self, hit: &str) {
        *self.hit.lock() = Some(hit.to_owned());
    }
}

/// Makes instances.
pub(crate) struct Factory {
    pub(super) engine: Engine,
    pub(super) pre: ProxyPre<AppState>,
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) isolation: Isolation,
    pub(super) outgoing: Outgoing,
    pub(super) settings: Arc<WasiConfigVariables>,
}

type Tracks = Arc<Mutex<Vec<Weak<RequestTrack>>>>;

impl HandlerState for Factory {
    type StoreData = AppState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> Result<Instance<AppState, Expiration, Worker>> {
        let limits = self.limits;
        let mut store = Store::new(
            &self.engine,
            AppState::new(&self.name, &limits, &self.outgoing, &self.settings),
        );
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes_max).unwrap_or(usize::MAX));
        let budget = Duration::from_millis(limits.cpu_ms_max);
        store.epoch_deadline_callback(move |mut state| {
            yield_within(&mut state.data_mut().meter, budget)
        });
        store.set_epoch_deadline(1);
        let deadline = Duration::from_millis(limits.deadline_ms);
        let proxy = tokio::time::timeout(deadline, self.pre.instantiate_async(&mut store))
            .await
            .map_err(|_| {
                wasmtime::format_err!("the instance was not made within {} ms", limits.deadline_ms)
            })??;
        let tracks = Tracks::default();
        let mut checks = tokio::time::interval(CHECK_PERIOD);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Instance {
            store,
            proxy,
            view: AppState::http,
            expiration: Expiration {
                checks,
                deadline,
                tracks: Arc::clone(&tracks),
            },
            state: Worker {
                isolation: self.isolation,
                tracks,
                name: Arc::clone(&self.name),
                limits,
                deadline,
            },
        })
    }
}

/// When an instance is thrown away from outside, so that a busy or blocked guest cannot keep it.
pub(crate) struct Expiration {
    checks: Interval,
    deadline: Duration,
    tracks: Tracks,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        while self.checks.poll_tick(cx).is_ready() {}
        let age = start.elapsed();
        let expired = match status {
            WorkerStatus::Idle => age > IDLE_MAX,
            WorkerStatus::Requests => age > self.deadline + CHECK_PERIOD,
            WorkerStatus::PostReturn => {
                let mut tracks = self.tracks.lock();
                tracks.retain(|track| track.strong_count() > 0);
                tracks.is_empty() && age > AFTER_RESPONSE_MAX
            }
        };
        if expired {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// What an instance accepts.
pub(crate) struct Worker {
    isolation: Isolation,
    tracks: Tracks,
    name: Arc<str>,
    limits: Limits,
    deadline: Duration,
}

impl WorkerState for Worker {
    type StoreData = AppState;
    type RequestData = Arc<RequestTrack>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        let (concurrency, requests_max) = match self.isolation {
            Isolation::PerRequest => (1, 1),
            Isolation::Shared { requests_max } => (1, requests_max),
            Isolation::Concurrent {
                concurrency,
                requests_max,
            } => (concurrency as usize, requests_max),
        };
        if total as u64 >= requests_max {
            ShouldAccept::Never
        } else if concurrent < concurrency {
            ShouldAccept::Yes
        } else {
            ShouldAccept::No
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, AppState>,
        track: Arc<RequestTrack>,
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        let state = store.data_mut();
        state.meter.reset();
        state.limiter.report_to(&track);
        let mut tracks = self.tracks.lock();
        tracks.retain(|track| track.strong_count() > 0);
        tracks.push(Arc::downgrade(&track));
        Box::pin(tokio::time::sleep(self.deadline))
    }

    fn drop(&self, store: Store<AppState>, result: Result<(), wasmtime::Error>) {
        if let Err(error) = result {
            tracing::debug!(
                handler = &*self.name,
                error = format!("{error:#}"),
                "an instance was thrown away"
            );
            // Before the store goes: a response's body that ends with it must not look whole.
            for track in self.tracks.lock().iter().filter_map(Weak::upgrade) {
                track.end(error_of::call(&error, &self.limits, track.take_hit()));
            }
        }
        drop(store);
    }
}
