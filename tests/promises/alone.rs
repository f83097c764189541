//! A node without its Seed: what it acknowledged is on its disk, and what is on its disk is checked.

use protoplex_tests::{Connection, Fleet, signal};
use rustix::process::Signal;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SWAP: &str = "tests/builds/swap.toml";

/// A proxy that was started by hand.
struct Alone {
    process: Child,
    http: String,
    log: PathBuf,
}

impl Alone {
    fn start(data: &Path) -> Self {
        let log = data.join("alone.log");
        let config = data.join("nodes/proxy-1/node.json");
        any_ports(&config);
        let mut process = Command::new(protoplex_tests::program().unwrap())
            .args(["node", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let http = ready["ready"]["http"].as_str().unwrap();
        let http = http.split("//").nth(1).unwrap().to_owned();
        Self { process, http, log }
    }

    async fn text(&self) -> String {
        let answer = Connection::get_once(&self.http, "/").await.unwrap();
        format!("{} {}", answer.status, answer.text().trim())
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sets port 0: the node's own ports may have been taken by now, because nobody holds them for it.
fn any_ports(config: &Path) {
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    for port in [
        "http_port",
        "https_port",
        "health_port",
        "meta_port",
        "relay_port",
        "internal_port",
    ] {
        text[port] = 0.into();
    }
    fs::write(config, text.to_string()).unwrap();
}

fn is_alive(pid: i32) -> bool {
    // A zombie counts as gone.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

/// Runs two releases, then kills every process of the fleet with SIGKILL, the Seed first.
fn killed_fleet() -> Fleet {
    let fleet = Fleet::start(SWAP).unwrap();
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    let mut pids = vec![fleet.pid(), fleet.seed_pid().unwrap()];
    for role in ["proxy", "app"] {
        let node = fleet.node(role);
        pids.push(node.pid);
        pids.extend(fleet.children(&node).unwrap());
    }
    for &pid in &pids {
        // Each is the child of one before it, and may go down with it.
        let _ = signal(pid, Signal::KILL);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while pids.iter().skip(1).any(|&pid| is_alive(pid)) {
        assert!(Instant::now() < deadline, "a killed process lives");
        std::thread::sleep(Duration::from_millis(5));
    }
    fleet
}

fn blobs(data: &Path) -> Vec<PathBuf> {
    let folder = data.join("nodes/proxy-1/data/blobs");
    let entries = fs::read_dir(folder).unwrap();
    let shards = entries.map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    shards
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// The manifest with a word in it.
fn manifest_with(data: &Path, word: &str) -> PathBuf {
    let holds = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        content.starts_with(b"{") && String::from_utf8_lossy(&content).contains(word)
    };
    blobs(data).into_iter().find(holds).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_everything_was_killed_a_node_without_a_seed_serves_the_last_good_build() {
    let fleet = killed_fleet();
    let node = Alone::start(fleet.data());
    assert_eq!(node.text().await, "200 green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_manifest_on_disk_is_refused_and_the_build_before_serves() {
    let fleet = killed_fleet();
    let file = manifest_with(fleet.data(), "green");
    let content = fs::read_to_string(&file).unwrap().replace("green", "black");
    fs::write(&file, content).unwrap();
    let node = Alone::start(fleet.data());
    assert_eq!(node.text().await, "200 blue");
    assert!(
        node.log().contains("a build on disk is refused"),
        "{}",
        node.log()
    );
    assert!(node.log().contains("digest"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_component_on_disk_is_refused_and_nothing_is_served_of_it() {
    let fleet = killed_fleet();
    for blob in blobs(fleet.data()) {
        let content = fs::read(&blob).unwrap();
        if content.starts_with(b"\0asm") {
            fs::write(&blob, &content[..content.len() / 2]).unwrap();
        }
    }
    let node = Alone::start(fleet.data());
    // Both builds have that component: there is none to serve.
    assert!(node.text().await.starts_with("503"));
    assert!(
        node.log().contains("a build on disk is refused"),
        "{}",
        node.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_native_file_is_refused_and_compiled_again() {
    let fleet = killed_fleet();
    // A cache of its own: the other tests share theirs.
    let file = fleet.data().join("nodes/proxy-1/node.json");
    let cache = fleet.data().join("native");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["native"] = cache.to_str().unwrap().into();
    fs::write(&file, config.to_string()).unwrap();
    assert_eq!(Alone::start(fleet.data()).text().await, "200 green");
    let mut tampered = 0;
    for entry in fs::read_dir(&cache).unwrap() {
        let file = entry.unwrap().path();
        let mut content = fs::read(&file).unwrap();
        if content.starts_with(b"PPNATIV1") {
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::write(&file, content).unwrap();
            tampered += 1;
        }
    }
    assert!(tampered > 0);
    let node = Alone::start(fleet.data());
    assert_eq!(node.text().await, "200 green");
    assert!(node.log().contains("wrong MAC"), "{}", node.log());
}
