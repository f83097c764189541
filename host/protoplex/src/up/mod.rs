//! `up`: a Seed and nodes on one machine, as real processes; watched, and stopped together.
//!
//! Nodes and Seed start side by side: a node serves its last good build from its disk, whether or not the Seed answers.

mod first_build;
mod lock;
mod log_file;
mod plan;
pub mod ports;
mod process;
mod readiness;

use crate::{
    cli,
    exit::CommandExit,
    output,
    places::{UserFolders, create_private},
    signals::{self, Signals},
};
use anyhow::{Context as _, Result};
use futures::future::{join_all, select_all};
use plan::UpPlan;
use process::{ProcessSpec, ProcessState};
use rustix::process::Signal;
use std::{
    cell::Cell,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Name of the file that remembers the port base.
const PORT_BASE_FILE: &str = "port-base";

/// Runs `up` until a signal says so. One thread: a child's death signal is bound to the thread that started it.
///
/// # Errors
/// When it cannot come up; everything that was started is stopped again.
pub async fn run(args: &cli::UpArgs) -> Result<CommandExit> {
    let places = UserFolders::from_env();
    let data = match &args.data {
        Some(data) => data.clone(),
        None => places.state()?.join("up"),
    };
    let data = std::path::absolute(data)?;
    create_private(&data)?;
    let _lock = lock::take(&data)?;
    let native = match &args.native {
        Some(native) => std::path::absolute(native)?,
        None => places.native_cache(&data),
    };
    let registry = places.running.as_deref();
    let by_role = args.nodes_by_role()?;
    let nodes = by_role
        .iter()
        .flat_map(|(role, count)| (0..*count).map(|_| role.takes_slots));
    let nodes: Vec<bool> = nodes.collect();
    let file = data.join(PORT_BASE_FILE);
    let reserved = ports::settle(args.port_base, &nodes, &file, ports::RELEASE_TIMEOUT).await?;
    let plan = plan::prepare(&data, &native, args, reserved.base())?;

    let signals = signals::listen()?;
    let mut fleet = LocalFleet::start(&plan);
    let served = serve(&plan, &mut fleet, args, registry, &signals).await;
    if served.is_ok() && !args.json && output::is_watched() {
        output::say("\nstopping: requests in flight are finished first (Ctrl-C again to cut them)");
    }
    tokio::select! {
        () = fleet.stop() => {}
        () = signals.stop_now.cancelled() => fleet.kill(),
    }
    plan.running.withdraw(registry);
    served.map(|()| CommandExit::Done)
}

async fn serve(
    plan: &UpPlan,
    fleet: &mut LocalFleet,
    args: &cli::UpArgs,
    registry: Option<&Path>,
    signals: &Signals,
) -> Result<()> {
    let stop = &signals.stop;
    tokio::select! {
        ready = fleet.ready(plan, args) => ready?,
        () = stop.cancelled() => return Ok(()),
    }
    fleet.publish(plan, registry)?;
    if args.json {
        if let Err(error) = output::announce(&fleet.running(plan)) {
            tracing::warn!(%error, "the line of JSON cannot be written to stdout; the fleet serves");
        }
    } else {
        greet(plan, args.bind);
    }
    let mut rotate = tokio::time::interval(log_file::ROTATE_INTERVAL);
    let mut is_published = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = rotate.tick() => {
                fleet.rotate_logs();
                if is_published {
                    continue;
                }
            }
            () = fleet.changed() => {}
            () = signals.reload.notified() => {
                fleet.signal_all(Signal::HUP);
                continue;
            }
            () = signals.reopen.notified() => {
                fleet.rotate_logs();
                fleet.signal_all(Signal::USR1);
                continue;
            }
        }
        // A full disk: other commands find the process of before, and the fleet serves.
        let published = fleet.publish(plan, registry);
        is_published = published.is_ok();
        if let Err(error) = published {
            tracing::warn!(
                error = format!("{error:#}"),
                "the list of processes cannot be written to the data folder; tried again"
            );
        }
    }
}

/// Processes of this `up`.
struct LocalFleet {
    tasks: JoinSet<Result<()>>,
    seed: CancellationToken,
    nodes: CancellationToken,
    /// States of the nodes, in the order of the plan.
    states: Vec<watch::Receiver<ProcessState>>,
    seed_state: Option<watch::Receiver<ProcessState>>,
    logs: Vec<PathBuf>,
}

impl LocalFleet {
    fn start(plan: &UpPlan) -> Self {
        let mut fleet = Self {
            tasks: JoinSet::new(),
            seed: CancellationToken::new(),
            nodes: CancellationToken::new(),
            states: Vec::new(),
            seed_state: None,
            logs: Vec::new(),
        };
        let native = plan.native.display().to_string();
        let args = ["seed", "--native", &native];
        let stop = fleet.seed.clone();
        let state = fleet.add(plan, "seed", &args, &plan.seed.1, Duration::ZERO, stop);
        fleet.seed_state = Some(state);
        for (config, file) in &plan.nodes {
            let drain = Duration::from_millis(config.drain_timeout_ms);
            let stop = fleet.nodes.clone();
            let state = fleet.add(plan, &config.name, &["node"], file, drain, stop);
            fleet.states.push(state);
        }
        fleet
    }

    fn add(
        &mut self,
        plan: &UpPlan,
        name: &str,
        args: &[&str],
        config: &Path,
        drain_timeout: Duration,
        stop: CancellationToken,
    ) -> watch::Receiver<ProcessState> {
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--config".to_owned(), config.display().to_string()]);
        let log = plan.data.join("logs").join(format!("{name}.log"));
        args.extend(["--log".to_owned(), log.display().to_string()]);
        self.logs.push(log.clone());
        let spec = ProcessSpec {
            name: name.to_owned(),
            args,
            log,
            drain_timeout,
        };
        let (sender, receiver) = watch::channel(ProcessState::Starting);
        self.tasks.spawn_local(process::keep(spec, sender, stop));
        receiver
    }

    /// Waits until every node answers that it is ready. If the Seed has no build, it gets one in between.
    async fn ready(&mut self, plan: &UpPlan, args: &cli::UpArgs) -> Result<()> {
        // A node answers clients a moment before its process is known to run.
        let mut states = self.states.clone();
        let mut ready = std::pin::pin!(async {
            let nodes = plan.running.nodes.iter();
            join_all(nodes.map(|node| readiness::wait(&node.health))).await;
            for state in &mut states {
                // One that is gone is what `tasks` tells of.
                let _ = state
                    .wait_for(|state| matches!(state, ProcessState::Ready { .. }))
                    .await;
            }
        });
        let pushing = Cell::new(false);
        let named = args.build.as_deref();
        let mut build = std::pin::pin!(first_build::ensure(plan, named, &pushing));
        // A node with a build on its disk is ready whether or not the Seed answers.
        let (mut are_ready, mut has_build) = (plan.nodes.is_empty(), false);
        while !are_ready || (pushing.get() && !has_build) {
            tokio::select! {
                _ = &mut ready, if !are_ready => are_ready = true,
                pushed = &mut build, if !has_build => {
                    pushed?;
                    has_build = true;
                }
                Some(ended) = self.tasks.join_next() => {
                    ended.context("watching a process")??;
                }
            }
        }
        Ok(())
    }

    /// Waits until a process died or came back.
    async fn changed(&mut self) {
        if self.states.is_empty() {
            return std::future::pending().await;
        }
        let states = self.states.iter_mut().chain(&mut self.seed_state);
        let changes = states.map(|state| Box::pin(state.changed()));
        // A task that ended says nothing more: that is the fleet's end, which `stop` sees to.
        if select_all(changes).await.0.is_err() {
            std::future::pending().await
        }
    }

    fn running(&self, plan: &UpPlan) -> crate::running::RunningUp {
        let mut running = plan.running.clone();
        let pid = |state: &watch::Receiver<ProcessState>| match *state.borrow() {
            ProcessState::Ready { pid } => Some(pid),
            ProcessState::Starting => None,
        };
        running.seed_pid = self.seed_state.as_ref().and_then(pid);
        for (node, state) in running.nodes.iter_mut().zip(&self.states) {
            node.pid = pid(state);
        }
        running
    }

    fn publish(&mut self, plan: &UpPlan, registry: Option<&Path>) -> Result<()> {
        for state in self.states.iter_mut().chain(&mut self.seed_state) {
            state.mark_unchanged();
        }
        self.running(plan).publish(registry)
    }

    fn rotate_logs(&self) {
        for log in &self.logs {
            log_file::rotate(log);
        }
    }

    /// Stops the fleet, nodes first: while they drain, the Seed still knows of them.
    async fn stop(&mut self) {
        self.nodes.cancel();
        while self.tasks.len() > 1 && self.tasks.join_next().await.is_some() {}
        self.seed.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Passes a signal on to the Seed and the nodes, which have process groups of their own.
    fn signal_all(&self, signal: Signal) {
        for state in self.states.iter().chain(&self.seed_state) {
            if let ProcessState::Ready { pid } = *state.borrow() {
                process::signal_process(pid, signal);
            }
        }
    }

    /// Kills every process now.
    fn kill(&mut self) {
        self.tasks.abort_all();
        for state in self.states.iter().chain(&self.seed_state) {
            if let ProcessState::Ready { pid } = *state.borrow() {
                process::signal_group(pid, Signal::KILL);
            }
        }
    }
}

fn greet(plan: &UpPlan, bind: IpAddr) {
    for node in &plan.running.nodes {
        output::say(format_args!(
            "{:<10} {}  {}",
            node.name, node.http, node.https
        ));
    }
    output::say(format_args!("{:<10} {}", "seed", plan.running.seed));
    output::say(format_args!(
        "{:<10} {}",
        "logs",
        plan.data.join("logs").display()
    ));
    output::say(match bind {
        bind if bind.is_loopback() => {
            "\nReached from this machine only; from others with --bind 0.0.0.0 (or [::], with IPv6).".to_owned()
        }
        bind if bind.is_unspecified() => {
            format!("\nThe proxies are reached by every address of this machine ({bind}).")
        }
        bind => format!("\nThe proxies are reached by {bind}."),
    });
    output::say(
        "\nEdit a guest, then: just build-guests sample && protoplex push builds/sample.toml",
    );
    output::say("Or let it happen on every save: just dev");
    output::say(
        "Look around: protoplex status | nodes | releases | logs -f.  Ctrl-C stops everything.",
    );
}
