//! Plan of `up`: the folders, certificates, keys and configuration files of a Seed and its nodes.

use super::ports;
use crate::{
    cli,
    places::{create_private, write_whole},
    running::{RunningNode, RunningUp},
};
use anyhow::{Context as _, Result};
use protoplex_control::ingress::{Ingress, IngressLimits};
use protoplex_fleet::authority::{self, Authority};
use protoplex_parent::config::NodeConfig;
use protoplex_seed::{config::SeedConfig, store::Retention};
use protoplex_wire::role::{RoleSpec, Threads};
use serde::Serialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Address of all but the public ports: everything runs on one machine and is reached from it alone.
const BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Milliseconds to prepare a release: compiling a large interpreter takes tens of seconds on a small machine.
const PREPARE_TIMEOUT_MS: u64 = 45_000;
/// Milliseconds to activate a release: a switch is a pointer in every child; a child may be busy restarting.
const ACTIVATE_TIMEOUT_MS: u64 = 10_000;
/// Fewest children of a node: one must live to adopt the other's sockets.
const CHILDREN_MIN: usize = 2;

/// Plan of an `up`.
#[derive(Clone, Debug)]
pub struct UpPlan {
    /// The data folder, absolute.
    pub data: PathBuf,
    /// Configuration of the Seed, and where it is written.
    pub seed: (SeedConfig, PathBuf),
    /// Configurations of the nodes, and where each is written.
    pub nodes: Vec<(NodeConfig, PathBuf)>,
    /// Folder of native code, shared by all of this user.
    pub native: PathBuf,
    /// Facts that other commands need to know; pids are filled in later.
    pub running: RunningUp,
}

/// Makes what is missing, keeps what is there, and writes the configuration files.
///
/// # Errors
/// When the disk refuses, or the authority in the folder is damaged.
pub fn prepare(data: &Path, native: &Path, args: &cli::UpArgs, base: u16) -> Result<UpPlan> {
    let pki = data.join("pki");
    create_private(&pki)?;
    create_private(&data.join("logs"))?;
    create_private(native)?;
    let authority = Authority::open_or_create(&pki)?;
    let operator = authority.issue_operator("operator")?;
    let keys = data.join("keys");
    create_private(&keys)?;
    let release_key = authority::release_key(&keys)?;
    let release_keys = vec![hex::encode(release_key.verifying_key().as_bytes())];

    let secrets = live_secrets(&keys)?;
    let seed = seed_config(data, &authority, &release_keys, base)?;
    let seed_url = format!("https://{BIND}:{}", seed.port);
    let numbered = args.nodes_by_role()?.into_iter();
    let numbered = numbered.flat_map(|(role, count)| (1..=count).map(move |number| (role, number)));
    let ingress = match &args.ingress {
        Some(file) => read_ingress(file)?,
        None => Ingress::default(),
    };
    let is_named = !args.bind.is_unspecified();
    let names: Vec<_> = is_named
        .then(|| args.bind.to_string())
        .into_iter()
        .collect();
    let mut nodes = Vec::new();
    for (index, (role, number)) in (0..).zip(numbered) {
        let name = format!("{}-{number}", role.name);
        // Balancers stand before the nodes that face clients; limits hold at every door.
        let mut ingress = match role.faces_clients {
            true => ingress.clone(),
            false => Ingress {
                limits: IngressLimits {
                    // Proxies keep connections to these nodes for a minute, and must be the ones to close them.
                    idle_timeout_ms: None,
                    ..ingress.limits.clone()
                },
                ..Ingress::default()
            },
        };
        if args.access_log {
            let file = data.join("logs").join(format!("{name}.access.log"));
            ingress.access_log.get_or_insert(file);
        }
        let of_node = PlannedNode {
            name,
            ingress,
            role,
            ports: ports::node(base, index),
            public_bind: (role.faces_clients && args.bind != BIND).then_some(args.bind),
            internal_port: ports::internal(base, index),
            region: args.region.clone(),
            instances_max: args.instances_max,
            secrets: secrets.clone(),
            drain_timeout_ms: u64::from(args.drain_timeout) * 1_000,
            names: names.clone(),
        };
        let config = of_node.config(data, native, &authority, &seed_url, &release_keys)?;
        let file = config.data.with_file_name("node.json");
        write_config(&file, &config)?;
        nodes.push((config, file));
    }
    let running = RunningUp {
        seed: seed_url,
        nodes: nodes
            .iter()
            .map(|(config, _)| running_node(config))
            .collect(),
        ca: authority.ca(),
        cert: operator.cert,
        key: operator.key,
        data: data.to_owned(),
        release_key: keys.join("release.key"),
        pid: i32::try_from(std::process::id()).context("a pid is below 2^22")?,
        seed_pid: None,
        started_unix_ms: now_unix_ms(),
    };
    let file = seed.data.with_file_name("seed.json");
    write_config(&file, &seed)?;
    Ok(UpPlan {
        data: data.to_owned(),
        seed: (seed, file),
        nodes,
        native: native.to_owned(),
        running,
    })
}

/// Makes the file of keys of those who may publish by HTTP, and of subscription tokens; they are drawn once.
fn live_secrets(keys: &Path) -> Result<PathBuf> {
    let file = keys.join("live.json");
    if !file.exists() {
        let secret = || hex::encode(rand::random::<[u8; 32]>());
        let text = serde_json::json!({"api_token": secret(), "token_key": secret()});
        write_whole(&file, text.to_string().as_bytes())?;
    }
    Ok(file)
}

/// Reads the Seed's retention, where somebody has written that down.
fn retention(data: &Path) -> Result<Retention> {
    let file = data.join("retention.json");
    match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} is not right", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Retention::default()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// Reads the section `ingress`. One that is wrong is refused before anything starts.
fn read_ingress(file: &Path) -> Result<Ingress> {
    let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not right", file.display()))
}

fn seed_config(
    data: &Path,
    authority: &Authority,
    release_keys: &[String],
    base: u16,
) -> Result<SeedConfig> {
    let folder = data.join("seed/data");
    create_private(&folder)?;
    let issued = authority.issue_seed(&[])?;
    Ok(SeedConfig {
        data: folder,
        ca: authority.ca(),
        cert: issued.cert,
        key: issued.key,
        release_keys: release_keys.to_vec(),
        bind: BIND,
        port: ports::seed(base),
        prepare_timeout_ms: PREPARE_TIMEOUT_MS,
        activate_timeout_ms: ACTIVATE_TIMEOUT_MS,
        retention: retention(data)?,
        native_bytes_max: 0,
    })
}

struct PlannedNode {
    name: String,
    role: &'static RoleSpec,
    public_bind: Option<IpAddr>,
    ports: ports::NodePorts,
    internal_port: u16,
    region: String,
    instances_max: u32,
    secrets: PathBuf,
    drain_timeout_ms: u64,
    ingress: Ingress,
    /// Addresses beside this machine's own: in the development certificate, and in that of a node which says that it
    /// is reached by them.
    names: Vec<String>,
}

impl PlannedNode {
    fn config(
        self,
        data: &Path,
        native: &Path,
        authority: &Authority,
        seed: &str,
        release_keys: &[String],
    ) -> Result<NodeConfig> {
        let folder = data.join("nodes").join(&self.name).join("data");
        create_private(&folder)?;
        let reached: &[String] = match self.public_bind {
            Some(_) => &self.names,
            None => &[],
        };
        let issued = authority.issue_node(&self.name, self.role.role, reached)?;
        let public = authority.issue_public(&self.names)?;
        let cores = std::thread::available_parallelism().map_or(CHILDREN_MIN, usize::from);
        let children_max = match self.role.takes_slots {
            true => ports::CHILD_PORTS.into(),
            false => usize::MAX,
        };
        let (children, threads) = match self.role.threads {
            Threads::SharedCores => (CHILDREN_MIN, cores.div_ceil(CHILDREN_MIN)),
            Threads::OneEach => (cores.clamp(CHILDREN_MIN, children_max), 1),
        };
        Ok(NodeConfig {
            name: self.name,
            role: self.role.role,
            data: folder,
            native: native.to_owned(),
            seed: seed.to_owned(),
            ca: authority.ca(),
            cert: issued.cert,
            key: issued.key,
            tls_cert: public.cert,
            tls_key: public.key,
            release_keys: release_keys.to_vec(),
            bind: BIND,
            public_bind: self.public_bind,
            http_port: self.ports.http,
            https_port: self.ports.https,
            health_port: self.ports.health,
            meta_port: self.ports.meta,
            relay_port: self.ports.relay,
            internal_port: self.internal_port,
            region: self.region,
            capacity: 0,
            children,
            threads,
            instances_max: self.instances_max,
            native_bytes_max: 0,
            secrets: Some(self.secrets),
            drain_timeout_ms: self.drain_timeout_ms,
            ingress: self.ingress,
        })
    }
}

fn running_node(config: &NodeConfig) -> RunningNode {
    let public = config.public_bind.filter(|bind| !bind.is_unspecified());
    let public = |port| SocketAddr::new(public.unwrap_or(BIND), port);
    RunningNode {
        role: config.role,
        name: config.name.clone(),
        http: format!("http://{}", public(config.http_port)),
        https: format!("https://{}", public(config.https_port)),
        health: format!("http://{}", public(config.health_port)),
        meta: format!("https://{BIND}:{}", config.meta_port),
        pid: None,
    }
}

fn write_config(file: &Path, config: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(config)?;
    text.push(b'\n');
    write_whole(file, &text)
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
