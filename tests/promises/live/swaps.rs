//! A switch of builds closes no connection, and what a handler remembered goes on.

use super::LIVE;
use crate::deploys::{HOP_HEADER, active, hop, internal};
use protoplex_tests::{Fleet, Socket, repository};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Drain timeout of a build that was switched away from: longer than the end of a push and a question after it take on
/// a busy machine, and short enough to be waited for.
const DRAIN_S: &str = "5";

/// A build like [`LIVE`] with words replaced.
pub(super) struct Variant {
    _folder: TempDir,
    file: PathBuf,
}

impl Variant {
    pub(super) fn new(replace: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("live.toml");
        let out = repository().join("builds/out");
        let mut text = std::fs::read_to_string(repository().join(LIVE)).unwrap();
        text = text.replace("../../builds/out", out.to_str().unwrap());
        for (from, to) in replace {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(&file, text).unwrap();
        Self {
            _folder: folder,
            file,
        }
    }

    /// Another handler with the same code.
    fn other(name: &str, count: &str) -> Self {
        let name = format!("greeting = \"{name}\"");
        let count = format!("count = \"{count}\"");
        let memory = format!(
            "component = \"{}/count.wasm\"\nlimits.memory_bytes_max = {}",
            repository().join("builds/out").display(),
            16_777_216 - 65_536 * (name.len() + count.len())
        );
        let before = memory.lines().next().unwrap();
        Self::new(&[
            ("greeting = \"one\"", &name),
            ("count = \"\"", &count),
            (before, &memory),
        ])
    }

    pub(super) fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    pub(super) fn push(&self, fleet: &Fleet) {
        let pushed = fleet.push(self.path(), &[]).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
}

fn fleet() -> Fleet {
    let more = ["--nodes", "app=0,live=1", "--drain-timeout", DRAIN_S];
    Fleet::start_with(LIVE, &more).unwrap()
}

async fn opened(address: &str) -> Socket {
    let mut socket = Socket::open(address, "/count").await.unwrap();
    socket.text().await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_on_with_what_the_one_before_remembered() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(opened(&address).await);
    }
    let mut echo = Socket::open(&address, "/echo").await.unwrap();
    for (round, name) in ["two", "second three"].into_iter().enumerate() {
        for socket in &mut sockets {
            socket.ask("hello").await.unwrap();
        }
        Variant::other(name, "").push(&fleet);
        for socket in &mut sockets {
            let counted = socket.ask("count").await.unwrap();
            assert_eq!(counted, format!("{} {name}", 2 * round + 2));
        }
        assert_eq!(echo.ask(name).await.unwrap(), name);
    }
    let moved = fleet
        .metric("live", "protoplex_live_moved_total")
        .await
        .unwrap();
    assert!(moved >= 200.0, "{moved}");
}

/// The connection answers from the build before until that one's drain deadline, and is then opened again.
async fn stays(fleet: &Fleet, mut socket: Socket, count: u64, before: &str, after: &str) {
    assert_eq!(
        socket.ask("count").await.unwrap(),
        format!("{count} {before}")
    );
    let again = socket.text().await.unwrap();
    assert_eq!(again, format!("again not-restored websocket {after}"));
    assert_eq!(socket.ask("count").await.unwrap(), format!("1 {after}"));
    let not_moved = fleet
        .metric("live", "protoplex_live_not_moved_total")
        .await
        .unwrap();
    assert!(not_moved >= 1.0, "{not_moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_not_restored_stays_where_it_was_until_the_deadline() {
    for (count, why) in [
        ("restore-fails", "as asked"),
        ("restore-panics", "restore, as asked"),
    ] {
        let fleet = fleet();
        let socket = opened(&fleet.node("proxy").http).await;
        Variant::other("two", count).push(&fleet);
        stays(&fleet, socket, 1, "one", "two").await;
        assert!(fleet.logs().contains(why), "{count}: {}", fleet.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_be_remembered_stays_where_it_is() {
    let fleet = fleet();
    let mut socket = opened(&fleet.node("proxy").http).await;
    socket.send("large 65529").await.unwrap();
    let mut fits = opened(&fleet.node("proxy").http).await;
    fits.send("large 65528").await.unwrap();
    assert_eq!(fits.ask("count").await.unwrap(), "2 one");
    assert_eq!(socket.ask("count").await.unwrap(), "2 one");
    Variant::other("two", "").push(&fleet);
    assert_eq!(fits.ask("count").await.unwrap(), "3 two");
    stays(&fleet, socket, 3, "one", "two").await;
    fleet.wait_for_log("65536 is the most").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_while_it_is_saved_is_opened_again_and_nobody_is_closed() {
    let fleet = fleet();
    Variant::other("two", "save-panics").push(&fleet);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(opened(&fleet.node("proxy").http).await);
    }
    Variant::other("three", "").push(&fleet);
    for socket in &mut sockets {
        let again = socket.text().await.unwrap();
        assert!(again.starts_with("again "), "{again}");
        assert_eq!(socket.ask("count").await.unwrap(), "1 three");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_handler_is_gone_ends_at_the_deadline() {
    let fleet = fleet();
    let mut socket = opened(&fleet.node("proxy").http).await;
    Variant::new(&[("path = \"/count\"", "path = \"/other\"")]).push(&fleet);
    assert_eq!(socket.ask("count").await.unwrap(), "1 one");
    let closed = socket.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(closed.code), 1001, "{closed:?}");
}

/// A proxy that has not switched yet asks for the build before: it opens there, and does not stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_opened_on_the_build_before_goes_on_with_the_one_that_answers() {
    let fleet = fleet();
    let before = active(&fleet);
    Variant::other("two", "").push(&fleet);
    let hop = hop(&fleet, "live-1", &before);
    let headers = [(HOP_HEADER, hop.as_str())];
    let address = internal(&fleet, "live").await;
    let mut socket = Socket::open_with(&address, "/count", &headers)
        .await
        .unwrap();
    assert_eq!(socket.text().await.unwrap(), "opened websocket one");
    for n in 1..=3 {
        assert_eq!(socket.ask("count").await.unwrap(), format!("{n} two"));
    }
    let reopened = fleet.metric("live", "protoplex_live_reopened_total").await;
    assert_eq!(
        reopened.unwrap(),
        0.0,
        "it was moved, with what it remembers"
    );
}

/// Counts aloud, and is never wrong.
async fn counts(address: String, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let mut socket = Socket::open(&address, "/count").await?;
    socket.text().await?;
    let mut count = 0;
    while !stop.load(Relaxed) {
        count += 1;
        let counted = socket.ask("count").await?;
        let (number, _) = counted.split_once(' ').unwrap_or_default();
        anyhow::ensure!(number == count.to_string(), "{counted} instead of {count}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_or_forgotten_through_many_builds() {
    let fleet = fleet();
    let stop = Arc::new(AtomicBool::new(false));
    let mut all = JoinSet::new();
    for _ in 0..50 {
        all.spawn(counts(fleet.node("proxy").http, Arc::clone(&stop)));
    }
    for name in 0..20 {
        Variant::other(&"x".repeat(name + 1), "").push(&fleet);
    }
    stop.store(true, Relaxed);
    while let Some(counted) = all.join_next().await {
        let counted = counted.unwrap().unwrap();
        assert!(counted > 20, "{counted}");
    }
}
