//! What the supervisor says to children: builds, orders, files, questions.

use super::{Supervisor, process::NotSent};
use crate::builds::ReadyBuild;
use protoplex_control::messages::ToChild;
use protoplex_wire::{BuildId, Digest, ReleaseId};
use std::{collections::HashSet, os::fd::OwnedFd};

/// Questions for metrics that a child may have open: one that answers none is not asked more.
const SCRAPES_OPEN_MAX: u32 = 4;

impl Supervisor {
    /// Leaves a message for a child. Never waits for it: one that does not read would stop the node.
    pub(crate) fn send(&mut self, child: usize, message: &ToChild, files: &[&OwnedFd]) {
        let Some(process) = self.children[child].process() else {
            return;
        };
        match process.send(message.clone(), files) {
            Ok(()) => {}
            Err(NotSent::Gone) => {
                tracing::debug!(child, "a message to a child that has ended is dropped")
            }
            // Nothing would bring the child later what it misses now.
            Err(error @ (NotSent::QueueFull | NotSent::Files(_))) => {
                tracing::error!(child, %error, "a message cannot be left for a child, which would miss it for good; the child is killed");
                self.kill(child);
            }
        }
    }

    /// Leaves a message for every child that has a process.
    pub(crate) fn send_all(&mut self, message: &ToChild) {
        for child in 0..self.children.len() {
            self.send(child, message, &[]);
        }
    }

    /// Whether there is a process that could be told something.
    pub(crate) fn has_process(&self, child: usize) -> bool {
        self.children[child].process().is_some()
    }

    // Builds.

    /// Sends a child what it lacks of a build, and the order to prepare it.
    pub(crate) fn prepare(&mut self, child: usize, build: &ReadyBuild, release: ReleaseId) {
        for (component, file) in &build.native {
            if self.children[child].given().add_native(*component) {
                let component = *component;
                self.send(child, &ToChild::Native { component }, &[file]);
            }
        }
        self.children[child].given().add_build(build.id);
        let order = ToChild::Prepare {
            release,
            build: build.id,
        };
        self.send(child, &order, &[&build.manifest_fd, &build.pack_fd]);
    }

    /// Orders a child to switch to a build, which it is given first where it lacks it.
    pub(crate) fn activate(&mut self, child: usize, build: &ReadyBuild, release: ReleaseId) {
        if !self.children[child].given().has(&build.id) {
            self.prepare(child, build, release);
        }
        let order = ToChild::Activate {
            release,
            build: build.id,
        };
        self.send(child, &order, &[]);
    }

    /// Has all children forget a build. They keep native code of `components` alone.
    pub(crate) fn abandon(
        &mut self,
        release: ReleaseId,
        build: BuildId,
        components: &HashSet<Digest>,
    ) {
        for child in 0..self.children.len() {
            let given = self.children[child].given();
            given.remove_build(&build);
            given.retain_native(components);
            self.send(child, &ToChild::Abandon { release, build }, &[]);
        }
    }

    /// Has all children forget the builds that are not to stay.
    pub(crate) fn abandon_others(&mut self, release: ReleaseId, stays: impl Fn(&BuildId) -> bool) {
        for child in 0..self.children.len() {
            for build in self.children[child].given().take_others(&stays) {
                self.send(child, &ToChild::Abandon { release, build }, &[]);
            }
        }
    }

    /// Notes that children keep native code of these components alone.
    pub(crate) fn retain_native(&mut self, components: &HashSet<Digest>) {
        for child in &mut self.children {
            child.given().retain_native(components);
        }
    }

    // Files and secrets.

    /// Reads certificates and secrets again. Children are given what is right; what is wrong is logged, and changes
    /// nothing.
    pub(crate) fn reload_files(&mut self) {
        tracing::info!("the certificates and the live secrets are read again");
        if !self.files.reload() {
            return;
        }
        let Ok(sealed) = self.files.sealed().try_clone() else {
            return tracing::error!("no descriptors are left to hand over the certificates");
        };
        for child in 0..self.children.len() {
            self.send(child, &ToChild::Certificates, &[&sealed]);
        }
    }

    /// Gives a child the secret of TLS sessions as it is today.
    pub(crate) fn give_tickets(&mut self, child: usize) {
        let Some(secret) = &mut self.tickets else {
            return;
        };
        secret.advance();
        let message = ToChild::Tickets {
            epoch: secret.epoch,
            secret: hex::encode(secret.secret),
        };
        self.send(child, &message, &[]);
    }

    // Metrics.

    /// Asks the children that serve for their metrics. Returns how many were asked.
    pub(crate) fn ask_metrics(&mut self) -> usize {
        let mut asked = 0;
        for child in 0..self.children.len() {
            if self.children[child].may_ask_metrics(SCRAPES_OPEN_MAX) {
                self.send(child, &ToChild::Metrics, &[]);
                asked += 1;
            }
        }
        asked
    }

    /// Notes a child's answer to a question for metrics. Returns whether the answer is to the last question, and not to
    /// one that was given up.
    pub(crate) fn answered_last_scrape(&mut self, child: usize) -> bool {
        self.children[child].answered_last_scrape()
    }
}
