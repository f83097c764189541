//! To which children there are links, and what goes out.

use crate::{Child, Frame, frame::Body, limits::RETRY_MS};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Links that are up or wanted, and frames to send.
pub(crate) struct Links {
    up: HashSet<Child>,
    /// The numbers by which children know themselves.
    origins: HashMap<Child, u64>,
    wanted: HashMap<Child, u64>,
    pub send: Vec<(Child, Frame)>,
    pub connect: Vec<Child>,
}

impl Links {
    pub fn new() -> Self {
        Self {
            up: HashSet::new(),
            origins: HashMap::new(),
            wanted: HashMap::new(),
            send: Vec::new(),
            connect: Vec::new(),
        }
    }

    pub fn linked(&mut self, child: Child) {
        self.up.insert(child);
        self.wanted.remove(&child);
    }

    pub fn unlinked(&mut self, child: Child) {
        self.up.remove(&child);
    }

    /// Ends the link of a child. Returns the number by which it was known.
    pub fn gone(&mut self, child: Child) -> Option<u64> {
        self.up.remove(&child);
        self.wanted.remove(&child);
        self.origins.remove(&child)
    }

    pub fn set_origin(&mut self, child: Child, origin: u64) {
        self.origins.insert(child, origin);
    }

    /// Whether there is a link; the caller is asked for one where there is none.
    pub fn up(&mut self, now_ms: u64, child: Child) -> bool {
        if self.up.contains(&child) {
            return true;
        }
        let again = |at_ms: &u64| now_ms.saturating_sub(*at_ms) >= RETRY_MS;
        if self.wanted.get(&child).is_none_or(again) {
            self.wanted.insert(child, now_ms);
            self.connect.push(child);
        }
        false
    }

    pub fn is_up(&self, child: Child) -> bool {
        self.up.contains(&child)
    }

    /// Sends, where there is a link.
    pub fn send(
        &mut self,
        child: Child,
        (version, origin): (u64, u64),
        channel: &Arc<str>,
        body: Body,
    ) {
        if self.up.contains(&child) {
            let channel = Arc::clone(channel);
            let frame = Frame {
                version,
                origin,
                channel,
                body,
            };
            self.send.push((child, frame));
        }
    }

    /// Forgets the wish for links that nobody needs any more.
    pub fn trim(&mut self, now_ms: u64) {
        self.wanted
            .retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < RETRY_MS);
    }
}
