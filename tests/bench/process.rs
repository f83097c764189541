//! Processes that are measured: started, asked for their CPU time, stopped.

use anyhow::{Context, bail};
use protoplex_tests::{Fleet, children, signal};
use protoplex_wire::role::{ROLES, Role};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    ops::{Add, Sub},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A server has to accept by then.
const START_MAX: Duration = Duration::from_secs(30);
/// A peer that is asked to stop has by then.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Of `utime` and `stime` in /proc, by Linux's ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// PEM files of a certificate and its key, for a peer that shall show the same.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The node of a fleet that is measured, and what makes `up` start it and little else.
pub struct Part {
    pub role: &'static str,
    /// Nodes by role; there is one proxy, and of a role that is not named there is none.
    pub nodes: &'static [(&'static str, u16)],
}

/// Something that answers on a port.
pub enum Server {
    /// The program itself: a whole `up`, of which one node is measured.
    Ours { fleet: Fleet, role: &'static str },
    /// A peer.
    Peer { process: Child, address: String },
}

impl Server {
    /// Starts `up` with a manifest and waits until it serves.
    pub fn ours(manifest: &str, role: &'static str) -> anyhow::Result<Self> {
        let fleet = Fleet::start(manifest)?;
        Ok(Self::Ours { fleet, role })
    }

    /// A fleet of one proxy and nothing else.
    pub fn proxy(manifest: &Path) -> anyhow::Result<Self> {
        let manifest = manifest.to_str().context("the manifest's path is text")?;
        let fleet = Fleet::start_with(manifest, &["--nodes", "app=0"])?;
        Ok(Self::Ours {
            fleet,
            role: "proxy",
        })
    }

    /// A fleet of so many live nodes, of which the first is measured; clients reach them without a proxy.
    pub fn live(manifest: &str, nodes: usize) -> anyhow::Result<Self> {
        let nodes = format!("app=0,live={nodes}");
        let fleet = Fleet::start_with(manifest, &["--nodes", &nodes])?;
        Ok(Self::Ours {
            fleet,
            role: "live",
        })
    }

    /// Starts a fleet of another version of the program, of which one node is measured.
    pub fn of(program: &Path, manifest: &str, part: &Part) -> anyhow::Result<Self> {
        let more = node_counts(program, part.nodes)?;
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let fleet = Fleet::start_of(program, manifest, &more)?;
        let role = part.role;
        Ok(Self::Ours { fleet, role })
    }

    /// Starts a peer that was told to listen on `address`, and waits until it accepts.
    pub fn peer(mut command: Command, address: &str) -> anyhow::Result<Self> {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = quiet
            .spawn()
            .with_context(|| format!("{command:?} cannot be started"))?;
        let mut server = Self::Peer {
            process,
            address: address.to_owned(),
        };
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(address).is_err() {
            if server.has_ended() || Instant::now() > deadline {
                bail!("{command:?} does not accept");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Self::Ours { .. } => false,
            Self::Peer { process, .. } => !matches!(process.try_wait(), Ok(None)),
        }
    }

    /// Ours.
    pub fn fleet(&self) -> Option<&Fleet> {
        match self {
            Self::Ours { fleet, .. } => Some(fleet),
            Self::Peer { .. } => None,
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        match self {
            Self::Ours { fleet, role } => fleet.node(role).http,
            Self::Peer { address, .. } => address.clone(),
        }
    }

    /// `host:port` where TLS is spoken; a peer speaks it on its only port or not at all.
    pub fn tls_address(&self) -> String {
        match self {
            Self::Ours { fleet, role } => fleet.node(role).https,
            Self::Peer { address, .. } => address.clone(),
        }
    }

    /// What ours shows on its HTTPS port.
    pub fn certificate(&self) -> anyhow::Result<Certificate> {
        let fleet = self.fleet().context("a peer is told its certificate")?;
        let file = fleet.data().join("nodes/proxy-1/node.json");
        let config: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
        let path = |key: &str| {
            let path = config[key].as_str().map(PathBuf::from);
            path.with_context(|| format!("`{key}` is a path"))
        };
        Ok(Certificate {
            cert: path("tls_cert")?,
            key: path("tls_key")?,
        })
    }

    /// CPU time that all of its processes have used.
    pub fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        let root = match self {
            Self::Ours { fleet, role } => fleet.node(role).pid,
            Self::Peer { process, .. } => i32::try_from(process.id())?,
        };
        let all = children(root)?.into_iter().chain([root]);
        all.map(cpu_time)
            .try_fold(CpuTime::default(), |sum, more| Ok(sum + more?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Peer { process, .. } = self {
            // Softly first: some take their workers along.
            if let Ok(pid) = i32::try_from(process.id()) {
                let _ = signal(pid, Signal::TERM);
            }
            let deadline = Instant::now() + STOP_MAX;
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// CPU time of processes, in seconds. The kernel tells the two parts apart by samples; their sum is exact.
#[derive(Clone, Copy, Default)]
pub struct CpuTime {
    pub user_s: f64,
    pub kernel_s: f64,
}

impl CpuTime {
    pub fn seconds(self) -> f64 {
        self.user_s + self.kernel_s
    }
}

impl Add for CpuTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user_s: self.user_s + other.user_s,
            kernel_s: self.kernel_s + other.kernel_s,
        }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            user_s: self.user_s - other.user_s,
            kernel_s: self.kernel_s - other.kernel_s,
        }
    }
}

fn cpu_time(pid: i32) -> anyhow::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("a stat line has a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let seconds = |at: usize| anyhow::Ok(fields[at].parse::<f64>()? / TICKS_PER_SECOND);
    Ok(CpuTime {
        user_s: seconds(11)?,
        kernel_s: seconds(12)?,
    })
}

/// Bytes that belong to one process alone.
pub fn private_bytes(pid: i32) -> anyhow::Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kib.sum::<f64>() * 1024.0)
}

/// A port that was free a moment ago.
pub fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The arguments by which that program starts so many nodes.
fn node_counts(program: &Path, nodes: &[(&str, u16)]) -> anyhow::Result<Vec<String>> {
    let help = Command::new(program).args(["up", "--help"]).output()?;
    let knows_roles = String::from_utf8_lossy(&help.stdout).contains("--nodes");
    let count = |role: &str| {
        let mut named = nodes.iter();
        named
            .find(|(name, _)| *name == role)
            .map_or(0, |(_, count)| *count)
    };
    if knows_roles {
        let others = ROLES.iter().filter(|row| row.role != Role::Proxy);
        let others: Vec<_> = others
            .map(|row| format!("{}={}", row.name, count(row.name)))
            .collect();
        return Ok(vec!["--nodes".to_owned(), others.join(",")]);
    }
    // As it was said until there was a table of roles.
    let flags = [("--apps", count("app")), ("--live", count("live"))];
    Ok(flags
        .into_iter()
        .flat_map(|(flag, count)| [flag.to_owned(), count.to_string()])
        .collect())
}
