//! Means that groups need of the process that they are in.

use super::tls::NodeCertificate;
use protoplex_http2::WindowBudget;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One for all groups of a child.
#[derive(Default)]
pub struct Means {
    /// Children of the node, among whom limits are divided.
    pub children: usize,
    /// Where health checks and HTTP/2 connections run.
    pub tasks: TaskTracker,
    /// Ends the health checks. HTTP/2 connections end with their last request, once their group is dropped.
    pub stop: CancellationToken,
    /// Certificate of this node, for upstreams that want to know.
    pub node_certificate: Option<NodeCertificate>,
    /// Connections that are open.
    pub connected: Arc<Connected>,
}

/// Connections to servers, counted.
#[derive(Debug, Default)]
pub struct Connected {
    pub(super) open: Arc<AtomicUsize>,
    /// Bytes by which the windows of those of HTTP/2 have grown.
    pub(super) windows: Arc<WindowBudget>,
}

impl Connected {
    /// All of them, tunnels included.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}
