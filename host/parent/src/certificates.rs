//! Watches the files of the public certificates, so that new ones are used without a signal.

use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// Between two looks at the files of the public certificates. A certificate lives for weeks; a look costs a few system
/// calls.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Stamp by which a file shows that it is another one.
#[derive(PartialEq, Eq)]
struct Stamp(Option<(u64, i64, i64, u64)>);

/// Notifies `changed` when files have changed and then stayed as they are from one look to the next, because a
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

fn stamp(file: &PathBuf) -> Stamp {
    let found = std::fs::metadata(file).ok();
    Stamp(found.map(|found| (found.ino(), found.mtime(), found.mtime_nsec(), found.len())))
}
