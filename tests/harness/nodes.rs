//! Nodes that go and come back, are configured otherwise, or are looked at from outside.

use crate::{Connection, Fleet, Node, fleet::node_of, signal};
use anyhow::{Context, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketType, sockopt::socket_type},
    process::{
        Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, kill_process_group,
        pidfd_getfd, pidfd_open, prlimit,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Whatever is waited for has happened by then, or never will.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// Unit of `/proc/PID/stat`, on every Linux that Rust runs on.
const TICKS_PER_S: u64 = 100;

impl Fleet {
    /// A node as `up` says now; `None` while it has no process.
    pub fn now(&self, name: &str) -> Option<Node> {
        let text = fs::read(self.data().join("up.json")).ok()?;
        let info: Value = serde_json::from_slice(&text).ok()?;
        let mut nodes = info["nodes"].as_array()?.iter();
        node_of(nodes.find(|node| node["name"] == name)?)
    }

    /// Waits until another process of a node is ready.
    ///
    /// # Errors
    /// None ever is.
    pub async fn back(&self, gone: &Node) -> anyhow::Result<Node> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if let Some(node) = self.now(&gone.name).filter(|node| node.pid != gone.pid)
                && is_ready(&node).await
            {
                return Ok(node);
            }
            ensure!(Instant::now() < deadline, "{} is not back", gone.name);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Has a node drain as an init system does, and waits until its successor is ready.
    ///
    /// # Errors
    /// There never is one.
    pub async fn drain_and_restart(&self, name: &str) -> anyhow::Result<Node> {
        let node = self.now(name).context("the node runs")?;
        signal(node.pid, Signal::TERM)?;
        self.back(&node).await
    }

    /// Changes a node's configuration and restarts it.
    ///
    /// # Errors
    /// The disk refuses, or the node does not come back.
    pub async fn configure(
        &self,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> anyhow::Result<Node> {
        let file: PathBuf = self.data().join("nodes").join(name).join("node.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        change(&mut config);
        fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        self.drain_and_restart(name).await
    }
}

/// Kills a node's parent and all its children at once.
///
/// # Errors
/// It is gone already.
pub fn kill_node(node: &Node) -> anyhow::Result<()> {
    // `up` gives each node a group of its own.
    let group = Pid::from_raw(node.pid).context("a process id is positive")?;
    Ok(kill_process_group(group, Signal::KILL)?)
}

/// Whether a node says that it is ready.
pub async fn is_ready(node: &Node) -> bool {
    let answer = Connection::get_once(&node.health, "/readyz").await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

/// Descriptors of a process, counted by what they are.
///
/// # Errors
/// The process is gone.
pub fn descriptors(pid: i32) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut kinds = BTreeMap::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One may close meanwhile.
        let Ok(link) = fs::read_link(fd?.path()) else {
            continue;
        };
        let link = link.to_string_lossy();
        let kind = link.split([':', '(']).next().unwrap_or_default();
        *kinds.entry(kind.trim().to_owned()).or_default() += 1;
    }
    Ok(kinds)
}

/// Lets a process have so many descriptors more than it has.
///
/// # Errors
/// The process is gone, or not ours.
pub fn limit_descriptors(pid: i32, more: u64) -> anyhow::Result<()> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let numbers = open.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let taken: BTreeSet<u64> = numbers.collect();
    // The limit is on numbers, and a new descriptor takes the lowest that is free.
    let mut free = (0..).filter(|number| !taken.contains(number));
    let current = free.nth(usize::try_from(more)?);
    let pid = Pid::from_raw(pid).context("a process id is positive")?;
    let now = rustix::process::getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current,
        maximum: now.maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit)?;
    Ok(())
}

/// Whether a process has a socket for packets, as to a child, that is not writable: a quarter of its room or more is
/// taken, because the other end does not read (`unix_writable` of the kernel).
///
/// # Errors
/// The process is gone, or not ours.
pub fn has_unread_packets(pid: i32) -> anyhow::Result<bool> {
    let id = Pid::from_raw(pid).context("a process id is positive")?;
    let process = pidfd_open(id, PidfdFlags::empty())?;
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let number = fd?.file_name().to_string_lossy().parse()?;
        // One may close meanwhile.
        let Ok(fd) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        if socket_type(&fd) != Ok(SocketType::SEQPACKET) {
            continue;
        }
        let mut ready = [PollFd::new(&fd, PollFlags::OUT)];
        if poll(&mut ready, Some(&Timespec::default()))? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Processor time that a process has used.
///
/// # Errors
/// The process is gone.
pub fn cpu_time(pid: i32) -> anyhow::Result<Duration> {
    let fields = stat(pid).context("the process is gone")?;
    let ticks = |at: usize| fields[at].parse::<u64>().context("a number of ticks");
    // `utime` and `stime` (proc_pid_stat(5)), counted from the state.
    let ticks = ticks(11)? + ticks(12)?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_S))
}

/// The fields of `/proc/PID/stat` from the state on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
