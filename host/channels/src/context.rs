//! State that all channels of a child share. Knows no channel.

use crate::{
    Answer, Child, connections::Connections, directory::Directory, frame::Body, links::Links,
    rules::Namespaces,
};
use std::sync::Arc;

/// State of the child that all its channels share.
pub(crate) struct MeshContext<T, R> {
    /// Number by which this child is known to others.
    pub id: u64,
    pub rules: Namespaces,
    pub epochs: Box<dyn FnMut() -> u64 + Send>,
    pub connections: Connections<R>,
    pub directory: Directory,
    pub links: Links,
    pub answers: Vec<(T, Answer)>,
    /// Channels in which somebody may be answered at the end of this call.
    pub ready: Vec<Arc<str>>,
    /// The last number of a request to another child.
    pub numbers: u64,
    /// Bytes of all publications that wait for owners.
    pub publishes_bytes: usize,
    /// Bytes of all frames that wait for channels to be taken over.
    pub pulled_bytes: usize,
}

impl<T, R> MeshContext<T, R> {
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn send(&mut self, child: Child, channel: &Arc<str>, body: Body) {
        let from = (self.directory.version, self.id);
        self.links.send(child, from, channel, body);
    }
}
