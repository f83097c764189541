//! One connection of a live handler, between its events.

use super::{connection::Connection, shared_instances::ConnectionPlace};
use crate::request_copy::RequestCopy;

/// One connection, as the host keeps it for its handler. Dropping it makes room in its instance.
pub struct Session {
    pub(super) connection: Connection,
    pub(super) place: Option<ConnectionPlace>,
}

impl Session {
    pub(super) fn new(id: u64, head: RequestCopy) -> Self {
        Self {
            connection: Connection { id, head },
            place: None,
        }
    }

    /// What was remembered of it is not needed any more.
    pub fn forget(&mut self) {
        self.place = None;
    }

    /// Path and query that it was opened with.
    pub fn path(&self) -> &str {
        self.connection.head.path()
    }

    /// Host and port that it was opened with.
    pub fn authority(&self) -> &str {
        self.connection.head.authority()
    }

    /// The id of the request that it was opened with.
    pub fn request_id(&self) -> &str {
        self.connection.head.request_id()
    }

    /// The value of a header that it was opened with, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.connection.head.headers();
        let found = headers.find(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}
