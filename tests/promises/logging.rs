//! Nothing that a process prints can stop a request: not a disk that is full, not a reader that stands still.

use protoplex_tests::{Connection, Fleet, signal};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;

const SAMPLE: &str = "builds/sample.toml";
/// Path whose handler writes a line to the log.
const LOGS: &str = "/whoami";
/// No answer takes so long, unless it waits for a log.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// More than a pipe and the buffers of a child and its parent hold, at some 200 bytes a line.
const MANY: usize = 20_000;
const CONNECTIONS: usize = 4;

/// Asks so often for what logs a line. Every answer is 200, and none is late.
async fn ask(address: &str, requests: usize) {
    let asking = (0..CONNECTIONS).map(async |_| {
        let mut connection = Connection::open(address).await.unwrap();
        for number in 0..requests / CONNECTIONS {
            let answer = timeout(WAIT_MAX, connection.get(LOGS)).await;
            let answer = answer.unwrap_or_else(|_| panic!("request {number} waits"));
            assert_eq!(answer.unwrap().status, 200, "request {number}");
        }
    });
    futures::future::join_all(asking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_logs_cannot_be_written_starts_and_serves() {
    let full = |data: &Path| {
        fs::create_dir(data.join("logs"))?;
        ["proxy-1", "app-1", "live-1", "seed"]
            .iter()
            .try_for_each(|name| symlink("/dev/full", data.join(format!("logs/{name}.log"))))
    };
    let fleet = Fleet::start_prepared(SAMPLE, &["--nodes", "live=1"], full).unwrap();
    let proxy = fleet.node("proxy");
    ask(&proxy.http, 200).await;
    let answer = Connection::get_once(&proxy.http, "/api/hello").await;
    assert_eq!(answer.unwrap().status, 200);
    // A child that starts now says so, too.
    let killed = fleet.children(&proxy).unwrap()[0];
    signal(killed, Signal::KILL).unwrap();
    ask(&proxy.http, 200).await;
    let pushed = fleet.push(SAMPLE, &["greeting=again"]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let lost = |lost| lost >= 400.0;
    fleet
        .wait_for_metric("proxy", "protoplex_log_lines_lost", lost)
        .await;
    // Who asks for the log gets it all the same.
    let log = fleet.meta("proxy", "/logs?lines=50").await.unwrap();
    assert!(log.contains("whoami") || log.lines().count() >= 50, "{log}");
}

/// Reads a named pipe while it is let.
struct Reader {
    pipe: PathBuf,
    reads: Arc<AtomicBool>,
    lines: mpsc::Receiver<String>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Whoever shows the logs of a failed test would wait for its end.
        let _ = fs::remove_file(&self.pipe);
    }
}

impl Reader {
    fn start(pipe: &Path) -> Self {
        let reads = Arc::new(AtomicBool::new(true));
        let (sender, lines) = mpsc::channel();
        let may_read = Arc::clone(&reads);
        // Opened for both, so that it ends with the test and not with a writer.
        let file = File::options().read(true).write(true).open(pipe).unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                while !may_read.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            pipe: pipe.to_owned(),
            reads,
            lines,
        }
    }

    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("{text} never came"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_stands_still_stops_nobody_and_counts() {
    let mut reader = None;
    let pipe = |data: &Path| {
        fs::create_dir(data.join("logs"))?;
        let pipe = data.join("logs/proxy-1.log");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        reader = Some(Reader::start(&pipe));
        Ok(())
    };
    let fleet = Fleet::start_prepared(SAMPLE, &[], pipe).unwrap();
    let reader = reader.unwrap();
    reader.wait_for("a child started");
    let proxy = fleet.node("proxy");
    ask(&proxy.http, 4).await;
    reader.reads.store(false, Relaxed);
    ask(&proxy.http, MANY).await;
    fleet
        .wait_for_metric("proxy", "protoplex_log_lines_lost", |lost| lost > 0.0)
        .await;
    reader.reads.store(true, Relaxed);
    let said = reader.wait_for("log lines were lost");
    assert!(said.contains("\"lines\":"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_stands_still_stops_no_visitor() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy");
    ask(&proxy.http, 4).await;
    signal(proxy.pid, Signal::STOP).unwrap();
    let asked = AtomicUsize::new(0);
    let served = timeout(Duration::from_secs(60), async {
        ask(&proxy.http, MANY / 4).await;
        for _ in 0..10 {
            let answer = timeout(WAIT_MAX, Connection::get_once(&proxy.http, "/hello")).await;
            assert_eq!(answer.unwrap().unwrap().status, 200);
            asked.fetch_add(1, Relaxed);
        }
    });
    let served = served.await;
    signal(proxy.pid, Signal::CONT).unwrap();
    served.unwrap();
    assert_eq!(asked.into_inner(), 10);
    let children = fleet.children(&proxy).unwrap();
    assert_eq!(children.len(), fleet.children(&proxy).unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_line_says_its_connection_request_and_handler() {
    let fleet = Fleet::start_env(SAMPLE, &[], &[("PROTOPLEX_LOG", "debug")]).unwrap();
    let proxy = fleet.node("proxy");
    ask(&proxy.http, CONNECTIONS).await;
    let logged = |names: &[&str]| {
        fleet.logs_of(&proxy.name).lines().any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let spans = line["spans"].as_array().cloned().unwrap_or_default();
            spans.iter().map(|span| &span["name"]).eq(names)
                && spans[0]["peer"].is_string()
                && spans[1]["path"] == LOGS
        })
    };
    let deadline = Instant::now() + WAIT_MAX;
    while !logged(&["connection", "request", "handler"]) {
        assert!(Instant::now() < deadline, "{}", fleet.logs_of(&proxy.name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
