//! The binary: command line and wiring. What a fleet does stands in the other crates.

mod check;
mod cli;
mod commands;
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
use cli::{Cli, Command};
use commands::{adopt, build, dev, gc, logs, new, processes, push, rollback, show};
use exit::Code;
use std::{future::Future, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = run(cli.command);
    logging::end();
    match ended {
        Ok(code) => code.into(),
        Err(error) => {
            output::say(format_args!(
                "{} {error:#}",
                output::state("error:", false, output::To::Stderr)
            ));
            exit::code_of(&error).into()
        }
    }
}

fn run(command: Command) -> anyhow::Result<Code> {
    let reader = match command {
        Command::Seed(_) | Command::Node(_) | Command::Child | Command::Compile(_) => {
            logging::Reader::Machine
        }
        _ => logging::Reader::Person,
    };
    let log = match &command {
        Command::Seed(args) => args.process.log.as_deref(),
        Command::Node(args) => args.log.as_deref(),
        _ => None,
    };
    logging::start(reader, log);
    match command {
        Command::Up(args) => wait(up::run(&args)),
        Command::Push(args) => wait(push::run(&args)),
        Command::Rollback(args) => wait(rollback::run(&args)),
        Command::Adopt(args) => wait(adopt::run(&args)),
        Command::Releases(args) => wait(show::releases(&args)),
        Command::Nodes(args) => wait(show::nodes(&args)),
        Command::Status(args) => wait(show::status(&args)),
        Command::Logs(args) => wait(logs::run(&args)),
        Command::Gc(args) => wait(gc::run(&args)),
        Command::Build(args) => build::run(&args),
        Command::New(args) => new::run(&args),
        Command::Dev(args) => wait(dev::run(&args)),
        Command::Seed(args) => processes::seed(&args),
        Command::Node(args) => processes::node(&args),
        Command::Child => processes::child(),
        Command::Compile(args) => Ok(processes::compile(&args)),
    }
}

/// Commands of people wait more than they compute: one thread, and tasks that stay on it.
fn wait<F: Future<Output = anyhow::Result<Code>>>(command: F) -> anyhow::Result<Code> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, command)
}
