//! Probes of the kernel, by which it finds out that the machine at the other end is gone.

use rustix::net::sockopt;
use std::os::fd::AsFd;
use std::time::Duration;

/// Silence after which a peer is probed: well below the minutes for which middleboxes remember a connection.
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// Time between two probes without an answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer after which a peer counts as dead, so that one lost packet ends nothing.
const PROBES_MAX: u32 = 3;

/// Lets the kernel find out that the machine at the other end is gone, where nothing else would for a long time.
pub fn probe(socket: impl AsFd) {
    let socket = socket.as_fd();
    // Fails for a socket that does not know the option, which is watched by the limits alone.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, PROBE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(socket, PROBE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, PROBES_MAX);
}
