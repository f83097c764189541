//! Instances that no connection drives: a guest works on after its response, or several requests share one. Their tasks
//! end with the handler. Work that no client waits for any more has places of its own (the allowance), and none of those
//! that requests and streams need.

use super::{
    drive::Drive,
    instance::{IDLE_MAX, Instances},
    track::RequestTrack,
};
use crate::{
    HandlerError,
    places::{Place, Places},
};
use parking_lot::Mutex;
use std::{
    future::{Future, poll_fn},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, task::JoinSet, time::MissedTickBehavior};

/// Time that a guest may go on for after its response has ended, to log for instance.
const AFTER_RESPONSE_MAX: Duration = Duration::from_secs(30);
/// Between two lines that tell of work that was ended: clients that leave may come by the thousand.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Between two looks whether an instance has expired.
const CHECK_PERIOD: Duration = Duration::from_millis(250);

/// Tasks of one handler that no connection drives, and the allowance for what no client waits for.
pub(super) struct Background {
    tasks: Mutex<JoinSet<()>>,
    allowance: Arc<Places>,
    ended: Mutex<Ended>,
}

/// Work that was ended because the allowance was used up.
#[derive(Default)]
struct Ended {
    /// Guests that were ended since the last log line.
    times: u64,
    logged_at: Option<Instant>,
}

impl Background {
    /// `work_max` is how much may go on at once that no client waits for.
    pub(super) fn new(work_max: u32) -> Self {
        Self {
            tasks: Mutex::default(),
            allowance: Places::new(work_max, 0),
            ended: Mutex::default(),
        }
    }

    /// Changes a request's place for one of the allowance; `None` where that is used up, or its client's share of it.
    pub(super) fn allow(&self, place: Place) -> Option<Place> {
        place.exchange(&self.allowance).ok()
    }

    /// Tells the operator, now and then, that guests work for longer than there is room for.
    pub(super) fn note_ended(&self, handler: &str) {
        let mut ended = self.ended.lock();
        ended.times += 1;
        if ended.logged_at.is_none_or(|at| at.elapsed() >= LOG_PERIOD) {
            let times = std::mem::take(&mut ended.times);
            ended.logged_at = Some(Instant::now());
            tracing::warn!(
                handler,
                times,
                "too many guests work on after their responses: some were ended"
            );
        }
    }

    /// Drives it to its end, until it is overdue, or until nobody waits for what it does. A place is held as long.
    pub(super) fn drive(&self, drive: Drive, deadline_ms: u64, place: Option<Place>) {
        drive.joint.go_apart();
        self.spawn(async move {
            watched(drive, deadline_ms).await;
            drop(place);
        });
    }

    /// Throws idle instances away in time.
    pub(super) fn expire_idle(&self, instances: Weak<Instances>) {
        self.spawn(async move {
            loop {
                tokio::time::sleep(IDLE_MAX / 4).await;
                match instances.upgrade() {
                    Some(instances) => instances.idle.expire(),
                    None => return,
                }
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime the process is on its way out.
        if Handle::try_current().is_ok() {
            let mut tasks = self.tasks.lock();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }
}

async fn watched(mut drive: Drive, deadline_ms: u64) {
    let joint = Arc::clone(&drive.joint);
    let answer_max = Duration::from_millis(deadline_ms) + CHECK_PERIOD;
    let mut checks = tokio::time::interval(CHECK_PERIOD);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let overdue = async {
        while !joint.is_overdue(answer_max, AFTER_RESPONSE_MAX) {
            checks.tick().await;
        }
    };
    let done = poll_fn(|cx| drive.poll(cx));
    tokio::select! {
        biased;
        () = done => {}
        // All clients have left before their responses began: the instance is thrown away with what it did for them.
        () = joint.deserted() => {}
        () = overdue => joint.died(|_: &RequestTrack| HandlerError::Deadline(deadline_ms)),
    }
}
