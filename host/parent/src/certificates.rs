//! The public certificates, whose files are watched, and the secret of their sessions. The parent reads the files, and
//! children are given what was right.

use super::actor::Actor;
use protoplex_control::messages::ToChild;
use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// A certificate lives for weeks; a look costs a few system calls.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Stamp by which a file shows that it is another one.
#[derive(PartialEq, Eq)]
struct Stamp(Option<(u64, i64, i64, u64)>);

/// Tells `changed` when files have changed and then stayed as they are from one look to the next, because a
/// certificate and its key are two files. Never returns.
pub(super) async fn watch(files: Vec<PathBuf>, changed: Arc<Notify>) {
    let look = || files.iter().map(stamp).collect::<Vec<_>>();
    let mut used = look();
    let mut last = look();
    let mut ticks = tokio::time::interval(LOOK_PERIOD);
    loop {
        ticks.tick().await;
        let now = look();
        if now == last && now != used {
            used = look();
            changed.notify_one();
        }
        last = now;
    }
}

impl Actor {
    /// Children take what is right; what is wrong is logged, and changes nothing.
    pub(super) fn reload_files(&mut self) {
        tracing::info!("the certificates and the live secrets are read again");
        if !self.files.reload() {
            return;
        }
        let Ok(sealed) = self.files.sealed().try_clone() else {
            return tracing::error!("no descriptors are left to hand over the certificates");
        };
        for index in 0..self.seats.len() {
            self.send(index, &ToChild::Certificates, &[&sealed]);
        }
    }

    /// The secret as it is today.
    pub(super) fn tickets_message(&mut self) -> Option<ToChild> {
        let secret = self.tickets.as_mut()?;
        secret.advance();
        Some(ToChild::Tickets {
            epoch: secret.epoch,
            secret: hex::encode(secret.secret),
        })
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    let found = std::fs::metadata(file).ok();
    Stamp(found.map(|found| (found.ino(), found.mtime(), found.mtime_nsec(), found.len())))
}
