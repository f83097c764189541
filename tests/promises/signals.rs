//! An operator's ways with a daemon: signals, a user without a home, a command that is run somewhere else.

use protoplex_tests::{Connection, Fleet, children, is_alive, program, repository, said, signal};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};

const SWAP: &str = "tests/builds/swap.toml";
/// Well below the drain's deadline of these tests.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Above what a start takes on a busy machine that has to compile first.
const START_MAX: Duration = Duration::from_secs(90);

async fn serves(address: &str) {
    let answer = Connection::get_once(address, "/").await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_ends_nothing() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let before = fleet.children(&proxy).unwrap();
    let mut kept = Connection::open(&proxy.http).await.unwrap();
    assert_eq!(kept.get("/").await.unwrap().status, 200);
    for sent in [
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::IO,
    ] {
        signal(fleet.pid(), sent).unwrap();
        signal(fleet.seed_pid().unwrap(), sent).unwrap();
        // As a terminal or an init system does it: parent and children.
        let group = Pid::from_raw(proxy.pid).unwrap();
        kill_process_group(group, sent).unwrap();
    }
    let log = fleet.data().join("logs/proxy-1.log");
    let deadline = Instant::now() + Duration::from_secs(30);
    let has_reloaded = || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("new certificates are used")
    };
    while !has_reloaded() {
        assert!(Instant::now() < deadline, "{}", fleet.logs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(kept.get("/").await.unwrap().status, 200);
    assert_eq!(fleet.children(&proxy).unwrap(), before);
    assert!(fleet.data().join("up.json").exists());
    // And QUIT is a stop in order.
    signal(fleet.pid(), Signal::QUIT).unwrap();
    let code = tokio::task::block_in_place(|| fleet.stopped()).unwrap();
    assert_eq!(code, 0);
    assert!(!fleet.data().join("up.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_what_drains_at_once() {
    let mut fleet = Fleet::start_with(SWAP, &["--drain-timeout", "60"]).unwrap();
    let proxy = fleet.node("proxy");
    let nodes = fleet.children(&proxy).unwrap();
    let mut slow = Connection::open(&proxy.http).await.unwrap();
    let start = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    slow.write(start).await.unwrap();
    serves(&proxy.http).await;
    let started = Instant::now();
    signal(fleet.pid(), Signal::TERM).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    signal(fleet.pid(), Signal::TERM).unwrap();
    tokio::task::block_in_place(|| fleet.stopped()).unwrap();
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let deadline = Instant::now() + AT_ONCE;
    while nodes.iter().any(|&pid| is_alive(pid)) {
        assert!(Instant::now() < deadline, "children are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_at_once_by_its_second_signal() {
    let fleet = Fleet::start_with(SWAP, &["--drain-timeout", "60"]).unwrap();
    let proxy = fleet.node("proxy");
    let mut slow = Connection::open(&proxy.http).await.unwrap();
    let start = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    slow.write(start).await.unwrap();
    serves(&proxy.http).await;
    let old = children(proxy.pid).unwrap();
    signal(proxy.pid, Signal::INT).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    signal(proxy.pid, Signal::INT).unwrap();
    let deadline = Instant::now() + AT_ONCE;
    while old.iter().chain([&proxy.pid]).any(|&pid| is_alive(pid)) {
        assert!(Instant::now() < deadline, "it goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    serves(&fleet.back(&proxy).await.unwrap().http).await;
}

/// Starts `up` in an environment of its own, on an address, asks each node once, and stops it.
async fn comes_up(data: &Path, variables: &[(&str, &str)], bind: Option<&str>, addresses: &[&str]) {
    let native = program().unwrap().with_file_name("test-native");
    let mut command = Command::new(program().unwrap());
    command
        .args([
            "up",
            "--port-base",
            "0",
            "--json",
            "--nodes",
            "app=0,live=0",
            "--build",
            SWAP,
        ])
        .arg("--data")
        .arg(data)
        .args(bind.into_iter().flat_map(|bind| ["--bind", bind]))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(variables.iter().copied())
        .current_dir(repository())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if bind.is_some() {
        command.arg("--native").arg(native);
    }
    let mut up = command.spawn().unwrap();
    let stdout = up.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || BufReader::new(stdout).lines().next());
    let line = match timeout(START_MAX, reading).await {
        Ok(line) => line.unwrap().transpose().unwrap().unwrap_or_default(),
        Err(_) => "it does not come up".to_owned(),
    };
    let pid = i32::try_from(up.id()).unwrap();
    let info = serde_json::from_str::<Value>(&line);
    let port = |name: &str| {
        let url = info.as_ref().ok()?["nodes"][0][name].as_str()?;
        url.rsplit(':').next().map(str::to_owned)
    };
    let port = |name: &str| port(name).unwrap_or_else(|| "1".to_owned());
    let mut refused = Vec::new();
    for address in addresses {
        for (name, path, status) in [
            ("http", "/", 200),
            // What a balancer asks, and all that there is.
            ("health", "/readyz", 200),
            ("health", "/status", 404),
            ("health", "/metrics", 404),
        ] {
            let address = format!("{address}:{}", port(name));
            if !Connection::get_once(&address, path)
                .await
                .is_ok_and(|answer| answer.status == status)
            {
                refused.push(format!("{address}{path}"));
            }
        }
    }
    let others = addresses.iter().filter(|address| **address != "127.0.0.1");
    for address in others {
        let meta = format!("{address}:{}", port("meta"));
        assert!(TcpStream::connect(&meta).await.is_err(), "{meta}");
    }
    // One that has ended is not reaped yet.
    signal(pid, Signal::TERM).unwrap();
    let ended = tokio::task::block_in_place(|| up.wait_with_output()).unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success() && info.is_ok(),
        "{variables:?}: {line}: {error}"
    );
    assert!(refused.is_empty(), "{refused:?}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_with_a_data_folder_needs_no_home() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a folder");
    let missing = folder.path().join("nobody");
    for variables in [
        &[][..],
        &[("HOME", missing.to_str().unwrap())],
        &[("HOME", "/proc/self")],
        &[("HOME", "/proc/self"), ("XDG_RUNTIME_DIR", "/proc/self")],
    ] {
        comes_up(&data, variables, None, &["127.0.0.1"]).await;
    }
    assert!(!missing.exists(), "a home that nobody has is not made");
    assert!(data.join("native").exists());
    let mut without = Command::new(program().unwrap());
    without.args(["up", "--port-base", "0"]).env_clear();
    let refused = said(without.current_dir(repository()).stdin(Stdio::null())).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("--data DIR"), "{refused:?}");
}

/// An address of this machine that is not loopback, where it has one. Nothing is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback()).then(|| own.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_reached_by_the_address_that_it_was_told_to_bind() {
    let folder = tempfile::tempdir().unwrap();
    let own = own_address();
    let both: Vec<&str> = ["127.0.0.1"].into_iter().chain(own.as_deref()).collect();
    let at = |name: &str| folder.path().join(name);
    comes_up(&at("four"), &[], Some("0.0.0.0"), &both).await;
    // One socket takes both families, where the machine has the sixth.
    if UdpSocket::bind("[::1]:0").is_ok() {
        let all: Vec<&str> = both.iter().copied().chain(["[::1]"]).collect();
        comes_up(&at("six"), &[], Some("[::]"), &all).await;
    }
    if let Some(own) = own.as_deref() {
        comes_up(&at("own"), &[], Some(own), &[own]).await;
    }
}

#[test]
fn a_manifest_means_the_same_wherever_a_command_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = repository().join("builds/out");
    for (site, component) in [("a", "hello.wasm"), ("b", "hello-b.wasm")] {
        let builds = folder.path().join(site).join("builds/out");
        fs::create_dir_all(&builds).unwrap();
        fs::copy(out.join(component), builds.join("h.wasm")).unwrap();
        let manifest = "name = \"x\"\n[handlers.h]\ncomponent = \"builds/out/h.wasm\"\n\
            [[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"h\"\n";
        fs::write(folder.path().join(site).join("builds/x.toml"), manifest).unwrap();
    }
    let manifest = folder.path().join("b/builds/x.toml");
    let build = |from: &Path| {
        let mut command = Command::new(program().unwrap());
        command
            .args(["build", "--json"])
            .arg(&manifest)
            .current_dir(from);
        said(&mut command).unwrap()
    };
    let own = build(&folder.path().join("b"));
    assert_eq!(own.code, 0, "{own:?}");
    for elsewhere in [folder.path().join("a"), "/".into()] {
        assert_eq!(build(&elsewhere).out, own.out, "{}", elsewhere.display());
    }
    fs::remove_file(folder.path().join("b/builds/out/h.wasm")).unwrap();
    let refused = build(&folder.path().join("a"));
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains("looked for"), "{refused:?}");
    assert!(
        refused.err.contains("in the current folder does not count"),
        "{refused:?}"
    );
}
