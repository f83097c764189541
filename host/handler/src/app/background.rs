//! Instances that no connection drives: a client went away, a guest works on after its response, or several requests
//! share one. Their tasks end with the handler.

use super::{Runner, drive::Drive, instance::IDLE_MAX, track::RequestTrack};
use crate::{HandlerError, places::Place};
use parking_lot::Mutex;
use std::{
    future::{Future, poll_fn},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, task::JoinSet, time::MissedTickBehavior};

/// What a guest may do after its response has ended, such as logging.
const AFTER_RESPONSE_MAX: Duration = Duration::from_secs(30);
/// How often an instance looks whether it has expired.
const CHECK_PERIOD: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Default)]
pub(super) struct Background(Mutex<JoinSet<()>>);

impl Background {
    /// Drives it to its end, or until it is overdue. A place is held as long.
    pub(super) fn drive(&self, drive: Drive, deadline_ms: u64, place: Option<Place>) {
        drive.joint.go_apart();
        self.spawn(async move {
            watched(drive, deadline_ms).await;
            drop(place);
        });
    }

    /// Throws idle instances away in time.
    pub(super) fn expire_idle(&self, runner: Weak<Runner>) {
        self.spawn(async move {
            loop {
                tokio::time::sleep(IDLE_MAX / 4).await;
                match runner.upgrade() {
                    Some(runner) => runner.idle.expire(),
                    None => return,
                }
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime the process is on its way out.
        if Handle::try_current().is_ok() {
            let mut tasks = self.0.lock();
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
        () = overdue => joint.died(|_: &RequestTrack| HandlerError::Deadline(deadline_ms)),
    }
}
