//! The public certificates, whose files are watched, and the secret of their sessions. Children read the files; the
//! parent says when.

use super::actor::Actor;
use crate::control::{ChildConfig, ToChild};
use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// A certificate lives for weeks; a look costs a few system calls.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What shows that a file is another one.
#[derive(PartialEq, Eq)]
struct Stamp(Option<(u64, i64, i64, u64)>);

/// Tells `changed` when files have changed and then stayed as they are from one look to the next, because a
/// certificate and its key are two files. Never returns.
pub(super) async fn watch(config: ChildConfig, changed: Arc<Notify>) {
    let named = config.ingress.certificates.into_iter();
    let named = named.flat_map(|files| [files.cert, files.key]);
    let files: Vec<PathBuf> = [config.tls_cert, config.tls_key]
        .into_iter()
        .chain(named)
        .collect();
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
    /// Children hold the certificates; what is wrong with new ones they say.
    pub(super) async fn reload_certificates(&mut self) {
        tracing::info!("the certificates are read again");
        for index in 0..self.seats.len() {
            self.send(index, &ToChild::Certificates, &[]);
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
