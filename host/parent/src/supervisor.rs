//! The children of a node and their processes: they are started, watched, told things and killed here.
//!
//! Nothing here waits for a child. What children say comes as a [`ChildEvent`] to the actor, which passes it on to the
//! parts that it concerns.

mod adoption;
mod child_log;
mod child_record;
mod counts;
mod delivery;
mod given_builds;
mod process;
mod process_reader;
#[cfg(test)]
mod tests;

use crate::{child_files::FileKeeper, logs::Logs};
use adoption::{Adoption, adoptions};
use child_record::{ChildRecord, Silence, shorten_pauses};
#[cfg(test)]
pub(crate) use process::OutgoingMessage;
use process::ProcessOutputs;
pub(crate) use process_reader::{ChildEvent, ChildEventKind};
use protoplex_control::{
    awake::Awake,
    messages::{Beat, ChildConfig, ToChild},
};
use protoplex_net::TicketSecret;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Events that children may have waiting.
const EVENTS_MAX: usize = 1_024;

/// Owner of the children's records and processes.
pub(crate) struct Supervisor {
    children: Vec<ChildRecord>,
    /// What every child is started with; its index and files are put in.
    config: ChildConfig,
    /// Certificates and secrets that children are given.
    files: FileKeeper,
    /// Secret of the TLS sessions that resume at every child; `None` where the system has no randomness.
    tickets: Option<TicketSecret>,
    /// Clock by which silence is measured.
    awake: Awake,
    outputs: ProcessOutputs,
    /// Some child has come up since this process started.
    has_come_up: bool,
}

impl Supervisor {
    /// Has `config.children` children, of which none runs yet. Returns also where their events come out.
    pub(crate) fn new(
        config: ChildConfig,
        files: FileKeeper,
        logs: Arc<Logs>,
        tasks: TaskTracker,
    ) -> (Self, mpsc::Receiver<ChildEvent>) {
        let (events, from_children) = mpsc::channel(EVENTS_MAX);
        let now = Instant::now();
        let supervisor = Self {
            children: (0..config.children)
                .map(|_| ChildRecord::new(now))
                .collect(),
            config,
            files,
            tickets: TicketSecret::random(),
            awake: Awake::new(now),
            outputs: ProcessOutputs {
                logs,
                events,
                tasks,
            },
            has_come_up: false,
        };
        (supervisor, from_children)
    }

    // Time.

    /// Goes on to `now`, by the clock of time in which this process ran.
    pub(crate) fn advance_clock(&mut self, now: Instant) -> Duration {
        self.awake.advance(now)
    }

    /// Time in which this process ran, as of the last tick.
    pub(crate) fn awake(&self) -> Duration {
        self.awake.last()
    }

    /// Starts children that are due, and kills those that are stuck. Returns whether one has fallen silent just now: then
    /// a sibling has to accept on its sockets.
    pub(crate) fn watch(&mut self, now: Instant) -> bool {
        let awake = self.awake.last();
        let mut has_quiet = false;
        for child in 0..self.children.len() {
            if self.children[child].is_due(now) {
                self.start(child);
                continue;
            }
            match self.children[child].silence(awake) {
                Silence::Short => {}
                Silence::Quiet => has_quiet = true,
                Silence::Stuck => {
                    tracing::error!(child, "a child is stuck; it is killed");
                    self.kill(child);
                }
            }
        }
        has_quiet
    }

    fn start(&mut self, child: usize) {
        let generation = self.children[child].next_generation(self.awake.last());
        let config = ChildConfig {
            index: child,
            files_fd: self.files.raw_fd(),
            ..self.config.clone()
        };
        match process::start(config, generation, &self.outputs) {
            Ok(process) => self.children[child].launched(process),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(child, error, "a child cannot be started");
                self.children[child].died(error, Instant::now());
            }
        }
    }

    fn kill(&mut self, child: usize) {
        if let Some(process) = self.children[child].take_process() {
            process.kill();
        }
    }

    /// Kills all processes at once. This process ends next, so nobody else would.
    pub(crate) fn kill_all(&self) {
        for process in self.children.iter().filter_map(ChildRecord::process) {
            process.kill_now();
        }
    }

    // What children say.

    /// Whether an event is of the child's running process, and not of one before it.
    pub(crate) fn is_current(&self, child: usize, generation: u64) -> bool {
        self.children[child].is_generation(generation)
    }

    /// Notes a sign of life. Returns whether the child was quiet before: then it accepts on its own sockets again.
    pub(crate) fn heard(&mut self, child: usize) -> bool {
        let awake = self.awake.last();
        self.children[child].heard(awake)
    }

    /// Notes that a child's process is up and reads what it is told.
    pub(crate) fn started(&mut self, child: usize) {
        self.children[child].started();
        self.has_come_up = true;
    }

    /// Has a child that has no build to serve accept all the same: clients hear that nothing is served, instead of
    /// waiting.
    pub(crate) fn accept_without_build(&mut self, child: usize) {
        self.children[child].came_up();
        self.send(child, &ToChild::Adopt { index: child }, &[]);
    }

    /// Notes that a child answers requests by a build. Returns whether it did not before.
    pub(crate) fn activated(&mut self, child: usize) -> bool {
        let record = &mut self.children[child];
        let is_new = !record.serves();
        if is_new {
            record.serves_since(Instant::now());
        }
        is_new
    }

    pub(crate) fn set_beat(&mut self, child: usize, beat: Beat) {
        self.children[child].set_beat(beat);
    }

    /// Notes the version of the directory by which a child relays.
    pub(crate) fn set_directory(&mut self, child: usize, version: u64) {
        self.children[child].set_directory(version);
    }

    /// Notes that a child's process ended. It starts again after a pause, which is short where no other one lives.
    pub(crate) fn ended(&mut self, child: usize, status: String) {
        self.children[child].died(status, Instant::now());
        shorten_pauses(&mut self.children, Instant::now());
    }

    /// Has every socket accepted on: those of children that do not serve, or are quiet, by a sibling.
    pub(crate) fn share_sockets(&mut self) {
        for change in adoptions(&mut self.children) {
            match change {
                Adoption::Adopt { by, child } => {
                    self.send(by, &ToChild::Adopt { index: child }, &[]);
                }
                Adoption::Disown { by, child } => {
                    self.send(by, &ToChild::Disown { index: child }, &[]);
                }
            }
        }
    }

    /// Has a child run that has started and takes orders, as a process that does not exist. Returns what it is told.
    #[cfg(test)]
    pub(crate) fn fake_child(&mut self, child: usize) -> mpsc::Receiver<OutgoingMessage> {
        let (process, told) = process::Process::fake(crate::testing::QUEUE_MESSAGES);
        self.children[child].next_generation(self.awake.last());
        self.children[child].launched(process);
        self.started(child);
        told
    }
}
