//! State that all requests of an app handler share: its instances, what runs in the background, and places for streams.

use super::{
    background::Background,
    drive::Drive,
    instance::Instances,
    joint::{Incoming, Joint},
};
use crate::places::{Place, Places};
use parking_lot::Mutex;
use protoplex_wire::manifest::defaults;
use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

/// Guests that may work at once for clients that have their responses, or have left, for each place. As many as streams:
/// they mostly wait as well. More are ended.
const WORK_PER_PLACE: u32 = 4;

/// Runs requests in instances. Dropping it ends what runs in the background.
pub(super) struct Runner {
    pub(super) instances: Arc<Instances>,
    pub(super) background: Background,
    /// Responses whose bodies are being sent.
    pub(super) streams: Arc<Places>,
    /// Instances that others may join.
    apart: Mutex<Vec<Weak<Joint>>>,
    expires: AtomicBool,
}

/// The task that drives a request.
pub(super) enum Running {
    /// Here.
    Here(Drive),
    /// In a task of its own, which alone reports the outcome.
    Apart(Arc<Joint>),
    /// Nowhere any more.
    Over,
}

impl Runner {
    pub(super) fn new(instances: Instances) -> Self {
        let limits = instances.factory.guest.limits;
        let streams_max = limits.streams_max.unwrap_or_else(|| {
            limits
                .in_flight_max
                .saturating_mul(defaults::STREAMS_PER_PLACE)
        });
        Self {
            instances: Arc::new(instances),
            background: Background::new(limits.in_flight_max.saturating_mul(WORK_PER_PLACE)),
            streams: Places::new(streams_max, 0),
            apart: Mutex::default(),
            expires: AtomicBool::new(false),
        }
    }

    /// An idle instance is better than one that others use, and that is better than a new one.
    pub(super) fn begin(&self, incoming: Incoming) -> Running {
        if !self.expires.swap(true, Ordering::Relaxed) {
            let instances = Arc::downgrade(&self.instances);
            self.background.expire_idle(instances);
        }
        let idle = self.instances.idle.take();
        if idle.is_some() || !self.is_concurrent() {
            return Running::Here(Drive::new(&self.instances, idle, incoming));
        }
        match self.join(Box::new(incoming)) {
            Ok(joint) => Running::Apart(joint),
            Err(incoming) => Running::Here(Drive::new(&self.instances, None, *incoming)),
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

    pub(super) fn is_concurrent(&self) -> bool {
        self.instances.factory.concurrency() > 1
    }

    /// Lets a guest work on whose response is over or has nobody to take it, as far as the allowance goes.
    pub(super) fn work_on(&self, drive: Drive, place: Option<Place>) {
        match place.and_then(|place| self.background.allow(place)) {
            Some(place) => self.hand_over(drive, Some(place)),
            None => self
                .background
                .note_ended(&self.instances.factory.guest.name),
        }
    }

    /// Goes on in a task, where others may join if the handler allows it.
    pub(super) fn hand_over(&self, drive: Drive, place: Option<Place>) {
        if self.is_concurrent() {
            self.apart.lock().push(Arc::downgrade(&drive.joint));
        }
        let deadline_ms = self.instances.factory.guest.limits.deadline_ms;
        self.background.drive(drive, deadline_ms, place);
    }
}
