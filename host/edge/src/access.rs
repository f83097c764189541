//! What each request came to, for an access log. Nothing of it is made where there is none.

use http::StatusCode;
use protoplex_http::{Head, Noted, Notes};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Takes what requests came to. Called in the connection's task: it must not wait.
pub trait AccessLog: Send + Sync + 'static {
    /// A request has ended, one way or the other.
    fn record(&self, access: Access);
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Access {
    /// When its head was there.
    pub at: SystemTime,
    /// 16 hexadecimal digits.
    pub request_id: String,
    /// The visitor.
    pub client: IpAddr,
    /// 10, 11 or 20.
    pub version: u8,
    /// As it asked.
    pub method: String,
    /// Host and port as the client named them.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// `None` where the client went away before the reply's head.
    pub status: Option<u16>,
    /// Of the reply; in HTTP/1 with its head.
    pub bytes: u64,
    /// Until the reply was handed to the kernel.
    pub duration: Duration,
    /// What the service said.
    pub noted: Noted,
}

/// A request on its way. It is recorded when this is dropped.
pub(crate) struct Entry {
    log: Arc<dyn AccessLog>,
    access: Access,
    notes: Notes,
    started: Instant,
}

impl Entry {
    pub(crate) fn new(log: &Arc<dyn AccessLog>, head: &Head<'_>, notes: &Notes) -> Self {
        let access = Access {
            at: SystemTime::now(),
            request_id: head.request_id.to_owned(),
            client: head.client,
            version: head.version,
            method: head.method.to_owned(),
            host: head.authority.to_owned(),
            path: head.path.to_owned(),
            status: None,
            bytes: 0,
            duration: Duration::ZERO,
            noted: Noted::default(),
        };
        Self {
            log: Arc::clone(log),
            access,
            notes: notes.clone(),
            started: Instant::now(),
        }
    }

    pub(crate) fn status(&mut self, status: StatusCode) {
        self.access.status = Some(status.as_u16());
    }

    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.access.bytes += bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut access = self.access.clone();
        access.duration = self.started.elapsed();
        access.noted = self.notes.take();
        self.log.record(access);
    }
}
