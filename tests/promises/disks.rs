//! Disks that fill while a fleet runs, and have room again: a small real file system for what is written there.

use protoplex_tests::{Connection, Fleet, Load, Response, SmallDisk, repository, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

const SAMPLE: &str = "builds/sample.toml";
/// Its handler writes a line to the log.
const LOGS: &str = "/whoami";
/// No answer takes so long, unless it waits for a log: two cores compile, drain and serve meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// What is waited for happens by then.
const STEP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + STEP_MAX;
    while !happened().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(POLL).await;
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Logs fill this in a second of load.
const LOG_DISK_BYTES: u64 = 1 << 20;
/// What a neighbour has of it, and gives back.
const NEIGHBOUR_BYTES: u64 = 512 << 10;

fn is_200(answer: &Response) -> Result<String, String> {
    match answer.status {
        200 => Ok("200".to_owned()),
        other => Err(format!("{other}: {}", answer.text())),
    }
}

#[test]
fn a_log_disk_that_fills_under_load_fails_no_request() {
    let test = "disks::a_log_disk_that_fills_under_load_fails_no_request";
    SmallDisk::run(test, LOG_DISK_BYTES, logs_fill_their_disk).unwrap();
}

async fn logs_fill_their_disk(disk: &SmallDisk) {
    disk.take(NEIGHBOUR_BYTES).unwrap();
    let more = ["--nodes", "app=2,live=1", "--access-log"];
    let logs = |data: &Path| symlink(disk.path(), data.join("logs"));
    let fleet = Fleet::start_prepared(SAMPLE, &more, logs).unwrap();
    let proxy = fleet.node("proxy");
    let loads = [LOGS, "/api/hello"].map(|path| Load::start(&proxy.http, path, 3, is_200));
    for lost in ["protoplex_log_lines_lost", "protoplex_access_log_dropped"] {
        fleet
            .wait_for_metric("proxy", lost, |lines| lines > 0.0)
            .await;
    }
    // Processes that end, start and take a release while there is no room for what they log.
    for node in ["app-1", "live-1"] {
        fleet.drain_and_restart(node).await.unwrap();
    }
    let seed = fleet.seed_pid().unwrap();
    signal(seed, Signal::KILL).unwrap();
    until("another Seed", async || {
        seed_now(&fleet).is_some_and(|now| now != seed)
    })
    .await;
    until("a push", async || {
        let pushed =
            tokio::task::block_in_place(|| fleet.push(SAMPLE, &["greeting=full"])).unwrap();
        // The Seed may not listen yet.
        pushed.code == 0
    })
    .await;
    for load in loads {
        let report = load.finish().await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert!(report.slowest < WAIT_MAX, "{:?}", report.slowest);
        assert!(report.total() > 100, "{}", report.total());
    }
    // With the proxy itself it is the same.
    let proxy = fleet.drain_and_restart("proxy-1").await.unwrap();
    for path in [LOGS, "/api/hello"] {
        let answer = Connection::get_once(&proxy.http, path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    fill_by_logging(&fleet, &proxy.http).await;
    disk.free().unwrap();
    // New lines are there, and what was lost is told: by the process, and by each child for the access log.
    let (log, access) = ("proxy-1.log", "proxy-1.access.log");
    let (log, access) = (disk.path().join(log), disk.path().join(access));
    until("the loss is told", async || {
        let answer = Connection::get_once(&proxy.http, LOGS).await.unwrap();
        assert_eq!(answer.status, 200);
        let text = read(&log);
        let told = text.rsplit_once("\"log lines were lost");
        text.contains("the access log is written again")
            && told.is_some_and(|(_, after)| after.contains("somebody asked"))
    })
    .await;
    until("a line of a new request", async || {
        Connection::get_once(&proxy.http, "/after").await.unwrap();
        read(&access).contains("\"path\":\"/after\"")
    })
    .await;
    no_line_took_another_along(disk.path());
}

/// Asks for what is logged until lines are lost, as they are where the disk is full.
async fn fill_by_logging(fleet: &Fleet, proxy: &str) {
    for lost in ["protoplex_log_lines_lost", "protoplex_access_log_dropped"] {
        until(lost, async || {
            for _ in 0..200 {
                let answer = Connection::get_once(proxy, LOGS).await.unwrap();
                assert_eq!(answer.status, 200);
            }
            let node = fleet.now("proxy-1").unwrap();
            fleet.metric_of(&node, lost, "").await.unwrap() > 0.0
        })
        .await;
    }
}

/// A line that was cut is the loss that was counted: what came behind it stands on a line of its own.
fn no_line_took_another_along(logs: &Path) {
    for entry in fs::read_dir(logs).unwrap() {
        let path = entry.unwrap().path();
        let text = read(&path);
        for line in text.lines() {
            let starts = ["{\"timestamp\":", "{\"time_unix_ms\":"];
            let starts = starts.map(|start| line.matches(start).count());
            let starts: usize = starts.iter().sum();
            assert!(starts <= 1, "{}: {line}", path.display());
        }
    }
}

/// The process id of the Seed as `up` says now.
fn seed_now(fleet: &Fleet) -> Option<i32> {
    let text = fs::read(fleet.data().join("up.json")).ok()?;
    let up: Value = serde_json::from_slice(&text).ok()?;
    i32::try_from(up["seed_pid"].as_i64()?).ok()
}

/// Four of it are what the Seed keeps for a rollback.
const SEED_DISK_BYTES: u64 = 16 << 20;
const RESERVE_BYTES: u64 = 4 << 20;
const ASSET_BYTES: usize = 1 << 20;

/// A manifest with an asset that nothing else is like, and that does not compress. It greets by `name`.
fn site(folder: &Path, name: &str, bytes: usize) -> String {
    fs::create_dir_all(folder.join("site")).unwrap();
    let mut content = vec![0; bytes];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut content).unwrap();
    fs::write(folder.join("site/big.bin"), content).unwrap();
    let component = repository().join("builds/out/hello.wasm");
    let manifest = format!(
        "name = \"site\"\n[settings]\ngreeting = \"{name}\"\n[handlers.hello]\ncomponent = \"{}\"\n\
         grants.settings = [\"greeting\"]\n[[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"hello\"\n\
         [assets]\ndirectory = \"site\"\n",
        component.display()
    );
    let file = folder.join("site.toml");
    fs::write(&file, manifest).unwrap();
    file.to_str().unwrap().to_owned()
}

async fn serves(fleet: &Fleet, greeting: &str) {
    let answer = Connection::get_once(&fleet.node("proxy").http, "/").await;
    assert_eq!(answer.unwrap().text().trim(), greeting);
}

#[test]
fn a_seed_with_a_full_disk_rolls_back_and_takes_pushes_after_gc() {
    let test = "disks::a_seed_with_a_full_disk_rolls_back_and_takes_pushes_after_gc";
    SmallDisk::run(test, SEED_DISK_BYTES, a_seed_fills_its_disk).unwrap();
}

async fn a_seed_fills_its_disk(disk: &SmallDisk) {
    let seed_data = |data: &Path| -> io::Result<()> {
        fs::create_dir(data.join("seed"))?;
        symlink(disk.path(), data.join("seed/data"))
    };
    let hello = "tests/builds/hello.toml";
    let fleet = Fleet::start_prepared(hello, &["--nodes", "app=0"], seed_data).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| tokio::task::block_in_place(|| fleet.run(args)).unwrap();
    let push = |name: &str, bytes| run(&["push", &site(folder.path(), name, bytes)]);
    for name in ["one", "two", "three"] {
        let pushed = push(name, ASSET_BYTES);
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
    let reserve = disk.path().join("reserve");
    until("room is reserved", async || {
        fs::metadata(&reserve).is_ok_and(|reserve| reserve.len() == RESERVE_BYTES)
    })
    .await;
    disk.fill().unwrap();
    is_refused(&push("four", ASSET_BYTES / 2));
    serves(&fleet, "three").await;
    let back = run(&["rollback"]);
    assert_eq!(back.code, 0, "{back:?}");
    serves(&fleet, "two").await;
    // The room that this took is for the next rollback, and for no push.
    is_refused(&push("four", ASSET_BYTES / 2));
    let back = run(&["rollback"]);
    assert_eq!(back.code, 0, "{back:?}");
    serves(&fleet, "three").await;
    // A Seed that is to keep less starts on the full disk.
    let config = fleet.data().join("seed/seed.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    text["retention"]["builds_max"] = 0.into();
    fs::write(&config, text.to_string()).unwrap();
    let seed = fleet.seed_pid().unwrap();
    signal(seed, Signal::KILL).unwrap();
    until("another Seed", async || {
        seed_now(&fleet).is_some_and(|now| now != seed) && run(&["status"]).code == 0
    })
    .await;
    serves(&fleet, "three").await;
    let report = |args: &[&str]| -> Value {
        let said = run(args);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    };
    let dry = report(&["gc", "--dry-run", "--json"]);
    assert!(dry["bytes"].as_u64() >= Some(ASSET_BYTES as u64), "{dry}");
    assert_eq!(report(&["gc", "--json"]), dry);
    let pushed = push("four", ASSET_BYTES / 2);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    serves(&fleet, "four").await;
    assert_eq!(fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES);
}

/// The push ended with an error that says what is the matter, and what may be done.
#[track_caller]
fn is_refused(pushed: &protoplex_tests::Pushed) {
    assert_ne!(pushed.code, 0, "{pushed:?}");
    for text in ["the Seed's disk is full", "protoplex gc"] {
        assert!(pushed.err.contains(text), "{pushed:?}");
    }
}
