//! What all groups of a child share.

use super::tls::NodeCertificate;
use protoplex_http2::WindowBudget;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What all groups of a child share: its size, its tasks, its identity and its counts.
#[derive(Default)]
pub struct UpstreamContext {
    /// Number of children of the node, among which limits are divided.
    pub children: usize,
    /// Tracker of health checks and HTTP/2 connections.
    pub tasks: TaskTracker,
    /// Ends the health checks. HTTP/2 connections end with their last request, once their group is dropped.
    pub stop: CancellationToken,
    /// Certificate of this node, for upstreams that ask for one.
    pub node_certificate: Option<NodeCertificate>,
    /// Count of the connections that are open.
    pub connected: Arc<OpenConnections>,
}

/// Count of a child's connections to servers.
#[derive(Debug, Default)]
pub struct OpenConnections {
    pub(super) open: Arc<AtomicUsize>,
    /// Bytes by which the windows of HTTP/2 connections have grown.
    pub(super) windows: Arc<WindowBudget>,
}

impl OpenConnections {
    /// Open connections, tunnels included.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}
