//! The processes of a fleet: `seed`, `node`, `child`, `compile`. Configuration in, one ready line out on stdout.

use crate::{check::CompileCheck, cli, exit::CommandExit, output, roles, signals};
use anyhow::{Context as _, Result, ensure};
use protoplex_parent::{self as parent, config::NodeConfig};
use protoplex_seed::config::SeedConfig;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{fs, future::Future, path::Path, process::ExitCode, time::Duration};

/// Threads of a Seed, whose work is small beside that of nodes, and beside the compiler it starts.
const SEED_THREADS: usize = 2;
/// Longest wait for work on the side when a process ends: a file that is being written is complete by then.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Threads of a node's parent, which answers no clients: one for the link, one for the rest.
const NODE_THREADS: usize = 2;

/// Runs `seed` until a signal says so.
///
/// # Errors
/// When the configuration is wrong or the Seed cannot start.
pub fn seed(args: &cli::SeedArgs) -> Result<CommandExit> {
    end_with(args.process.parent)?;
    let config: SeedConfig = read(&args.process.config)?;
    let native = args
        .native
        .clone()
        .unwrap_or_else(|| config.data.join("native"));
    let check = CompileCheck::new(&native, config.native_bytes_max)?;
    run(SEED_THREADS, async move {
        let signals = signals::listen()?;
        let stop = signals.stop;
        let serve = protoplex_seed::run(config, check, stop, |address| ready(&address.to_string()));
        tokio::select! {
            served = serve => served?,
            // What was acknowledged is on the disk.
            () = signals.stop_now.cancelled() => {}
        }
        Ok(CommandExit::Done)
    })
}

/// Runs `node` until a signal says so, then drains it.
///
/// # Errors
/// When the configuration is wrong or the node cannot start.
pub fn node(args: &cli::ProcessArgs) -> Result<CommandExit> {
    end_with(args.parent)?;
    // Heaps here are small and many: whole huge pages would be mostly empty. Children inherit it; a kernel that
    // knows no huge pages needs no order.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let config: NodeConfig = read(&args.config)?;
    run(NODE_THREADS, async move {
        let signals = signals::listen()?;
        let lifecycle = parent::Lifecycle {
            drain: signals.stop,
            stop_now: signals.stop_now,
            reload: signals.reload,
        };
        parent::run(config, lifecycle, roles::check_secrets, |addresses| {
            ready(&addresses)
        })
        .await?;
        Ok(CommandExit::Done)
    })
}

/// Runs `child` until its parent says so or is gone.
///
/// # Errors
/// When a parent did not start it.
pub fn child() -> Result<CommandExit> {
    protoplex_child::main(roles::start)?;
    Ok(CommandExit::Done)
}

/// Runs `compile` for one component. A failure is the last line of stderr, for the process that started this one.
pub fn compile(args: &cli::CompileArgs) -> CommandExit {
    match protoplex_native::compile_main(&args.input, &args.output, args.memory_bytes_max) {
        ExitCode::SUCCESS => CommandExit::Done,
        _ => CommandExit::Failed,
    }
}

/// Writes the ready line, for whoever started this process. Nothing else is ever written to stdout.
fn ready(addresses: &impl serde::Serialize) {
    if let Err(error) = output::announce(&json!({ "ready": addresses })) {
        tracing::warn!(%error, "the ready line cannot be written to stdout; the process serves");
    }
}

/// Asks the kernel for SIGTERM when the process that started this one is gone.
fn end_with(parent: Option<i32>) -> Result<()> {
    let Some(parent) = parent else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM)).context("asking for the death signal")?;
    // The parent may have died before that.
    let alive = getppid().is_some_and(|found| found.as_raw_nonzero().get() == parent);
    ensure!(alive, "process {parent}, which started this one, is gone");
    Ok(())
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no configuration", file.display()))
}

/// Runs a process to its end, as a task: the calling thread would have to be woken for each of its events. What it does on
/// the side, such as waiting for another process that compiles, does not hold that up.
fn run(
    threads: usize,
    process: impl Future<Output = Result<CommandExit>> + Send + 'static,
) -> Result<CommandExit> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(threads).enable_all().build()?;
    let process = runtime.spawn(process);
    let ended = runtime.block_on(process).context("the process's task")?;
    runtime.shutdown_timeout(END_TIMEOUT);
    ended
}
