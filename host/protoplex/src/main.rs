//! The binary: command line and wiring. What a fleet does stands in the other crates.

mod check;
mod cli;
mod commands;
#[cfg(feature = "count-allocations")]
mod counting;
mod exit;
mod inspect;
mod logging;
mod output;
mod places;
mod progress;
mod roles;
mod running;
mod signals;
mod target;
mod up;

use clap::Parser as _;
use cli::{Cli, CliCommand};
use commands::{adopt, build, dev, gc, logs, new, processes, push, rollback, show};
use exit::CommandExit;
use std::{future::Future, process::ExitCode};

#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = run(cli.command);
    logging::end();
    match ended {
        Ok(code) => code.into(),
        Err(error) => {
            output::say(format_args!(
                "{} {error:#}",
                output::state("error:", false, output::OutputStream::Stderr)
            ));
            exit::code_of(&error).into()
        }
    }
}

fn run(command: CliCommand) -> anyhow::Result<CommandExit> {
    let reader = match command {
        CliCommand::Seed(_) | CliCommand::Node(_) | CliCommand::Child | CliCommand::Compile(_) => {
            logging::LogReader::Machine
        }
        _ => logging::LogReader::Person,
    };
    let log = match &command {
        CliCommand::Seed(args) => args.process.log.as_deref(),
        CliCommand::Node(args) => args.log.as_deref(),
        _ => None,
    };
    logging::start(reader, log);
    match command {
        CliCommand::Up(args) => wait(up::run(&args)),
        CliCommand::Push(args) => wait(push::run(&args)),
        CliCommand::Rollback(args) => wait(rollback::run(&args)),
        CliCommand::Adopt(args) => wait(adopt::run(&args)),
        CliCommand::Releases(args) => wait(show::releases(&args)),
        CliCommand::Nodes(args) => wait(show::nodes(&args)),
        CliCommand::Status(args) => wait(show::status(&args)),
        CliCommand::Logs(args) => wait(logs::run(&args)),
        CliCommand::Gc(args) => wait(gc::run(&args)),
        CliCommand::Build(args) => build::run(&args),
        CliCommand::New(args) => new::run(&args),
        CliCommand::Dev(args) => wait(dev::run(&args)),
        CliCommand::Seed(args) => processes::seed(&args),
        CliCommand::Node(args) => processes::node(&args),
        CliCommand::Child => processes::child(),
        CliCommand::Compile(args) => Ok(processes::compile(&args)),
    }
}

/// Runs a command of a person on one thread: commands wait more than they compute.
fn wait<F: Future<Output = anyhow::Result<CommandExit>>>(
    command: F,
) -> anyhow::Result<CommandExit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, command)
}
