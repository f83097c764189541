//! Output of commands: JSON with stable keys, and no decoration where nobody watches.

use super::{SWAP, plain};
use protoplex_tests::{Connection, Fleet, program, repository, said, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

const LIMITS: &str = "tests/builds/limits.toml";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Scripts read these by name: none may go, and a new one is written down here.
#[track_caller]
fn assert_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut keys = keys.to_vec();
    found.sort_unstable();
    keys.sort_unstable();
    assert_eq!(found, keys, "{value}");
}

const RECORD: [&str; 8] = [
    "release",
    "build",
    "name",
    "previous",
    "outcome",
    "started_unix_ms",
    "elapsed_ms",
    "answers",
];

/// `logs -f`, which ends with the test, however that ends.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of before are there, lines of now come, and the reader ends it.
#[tokio::test(flavor = "multi_thread")]
async fn logs_f_goes_on_with_what_happens_now() {
    let fleet = Fleet::start(LIMITS).unwrap();
    let address = fleet.node("proxy").http;
    let fail = async || {
        let answer = Connection::get_once(&address, "/trap").await.unwrap();
        answer.header("x-request-id").unwrap().to_owned()
    };
    let before = fail().await;
    let mut command = fleet.command(&["logs", "-f", "--data"]).unwrap();
    let command = command.arg(fleet.data()).stdout(Stdio::piped());
    let mut following = Following(command.spawn().unwrap());
    let lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    // The last of the lines that tell of a request; none may tell of one that is over.
    let has_come = |id: &str, over: &str| {
        while let Ok(line) = receiver.recv_timeout(Duration::from_secs(30)) {
            assert!(over.is_empty() || !line.contains(over), "again: {line}");
            if line.contains(id) && line.contains("a handler failed") {
                return line;
            }
        }
        panic!("no line of {id}");
    };
    has_come(&before, "");
    let mut over = before;
    for _ in 0..2 {
        let now = fail().await;
        let line = has_come(&now, &over);
        assert!(line.starts_with("proxy-1"), "{line}");
        over = now;
    }
    assert!(following.0.try_wait().unwrap().is_none(), "it goes on");
    let pid = i32::try_from(following.0.id()).unwrap();
    signal(pid, Signal::INT).unwrap();
    following.0.wait().unwrap();
}

/// A component that needs more than a compiler may have is refused by the process that stops there.
#[test]
fn a_compiler_keeps_to_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("native");
    let component = repository().join("builds/out/js-app.wasm");
    let compile = |most: &str| {
        let mut command = Command::new(program().unwrap());
        command.args(["compile", "--memory-bytes-max", most, "--input"]);
        command.arg(&component).arg("--output").arg(&output);
        said(&mut command).unwrap()
    };
    let refused = compile("60000000");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("memory"), "{refused:?}");
    assert!(!output.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_print_data_print_json_with_stable_keys() {
    let fleet = Fleet::start(SWAP).unwrap();
    assert_eq!(
        fleet
            .push("tests/builds/broken-table.toml", &[])
            .unwrap()
            .code,
        3
    );
    let run = |args: &[&str]| {
        let said = fleet.run(args).unwrap();
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(said.err, "", "{args:?}");
        said.out
    };

    assert_keys(
        &fleet.info,
        &[
            "seed",
            "nodes",
            "ca",
            "cert",
            "key",
            "data",
            "release_key",
            "pid",
            "seed_pid",
            "started_unix_ms",
        ],
    );
    assert_keys(
        &fleet.info["nodes"][0],
        &["role", "name", "http", "https", "health", "meta", "pid"],
    );

    let releases = json(&run(&["releases", "--json"]));
    assert_keys(&releases[0], &[&RECORD[..], &["reason"]].concat());
    assert_keys(&releases[1], &RECORD);
    assert_eq!(releases[0]["outcome"], "reverted");
    assert_eq!(releases[1]["outcome"], "promoted");
    assert_keys(&releases[1]["release"], &["epoch", "sequence"]);
    assert_keys(
        &releases[1]["answers"][0],
        &["node", "answer", "elapsed_ms"],
    );

    let nodes = json(&run(&["nodes", "--json"]));
    assert_eq!(nodes.as_array().unwrap().len(), 2);
    assert_keys(
        &nodes[0],
        &[
            "node",
            "role",
            "connected",
            "addresses",
            "host_version",
            "children",
            "children_ready",
            "active",
            "heartbeat_age_ms",
            "requests",
            "errors",
            "traps",
        ],
    );
    let addresses = ["http", "https", "health", "meta", "internal"];
    assert_keys(&nodes[0]["addresses"], &addresses);

    let status = json(&run(&["status", "--json"]));
    assert_keys(
        &status,
        &[
            "host_version",
            "active",
            "release",
            "running",
            "nodes_connected",
        ],
    );
    assert_eq!(status["active"], releases[1]["build"]);

    let lines = run(&["logs", "--json"]);
    assert!(!lines.is_empty());
    for line in lines.lines() {
        let line = json(line);
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    let node = run(&["logs", "--json", "--node", "app-1"]);
    assert!(node.lines().count() < lines.lines().count());
}

#[test]
fn a_build_and_the_events_of_a_push_are_json_too() {
    let fleet = Fleet::start(SWAP).unwrap();
    let built = plain(&fleet, &["build", SWAP, "--json"], &[]);
    assert_eq!((built.code, built.err.as_str()), (0, ""), "{built:?}");
    let build = json(&built.out);
    assert_keys(
        &build,
        &["format", "name", "handlers", "routes", "settings"],
    );
    assert_keys(
        &build["handlers"]["hello"],
        &[
            "component",
            "component_bytes",
            "world",
            "isolation",
            "limits",
            "grants",
        ],
    );

    let pushed = fleet
        .run(&["push", SWAP, "--set", "greeting=green", "--json"])
        .unwrap();
    assert_eq!((pushed.code, pushed.err.as_str()), (0, ""), "{pushed:?}");
    let events: Vec<Value> = pushed.out.lines().map(json).collect();
    assert_keys(&events[0], &["type", "release", "build", "nodes"]);
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    // Both nodes prepare before either switches.
    let expected = [
        "started",
        "node",
        "node",
        "activating",
        "node",
        "node",
        "finished",
    ];
    assert_eq!(kinds, expected);
    assert_keys(&events[6], &[&RECORD[..], &["type"]].concat());
}

#[test]
fn nothing_but_the_result_is_printed_where_nobody_watches() {
    let fleet = Fleet::start(SWAP).unwrap();
    let pushed = fleet.push("tests/builds/hello-b.toml", &[]).unwrap();
    assert_eq!((pushed.code, pushed.err.as_str()), (0, ""), "{pushed:?}");
    assert!(pushed.out.contains("runs on every node"), "{pushed:?}");
    for args in [&["status"][..], &["nodes"], &["releases"], &["logs"]] {
        let said = fleet.run(args).unwrap();
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert!(!said.out.contains(['\r', '\u{1b}']), "{said:?}");
    }
    assert!(!pushed.out.contains(['\r', '\u{1b}']), "{pushed:?}");
}

#[test]
fn progress_is_shown_on_a_terminal_and_there_only() {
    let fleet = Fleet::start(SWAP).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let push = fleet.command(&["push"]).unwrap();
    let line = format!(
        "{} push tests/builds/hello-b.toml --data {} >{}",
        push.get_program().display(),
        fleet.data().display(),
        out.display()
    );
    // `script` gives the command a terminal, of which only stderr is left.
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .current_dir(protoplex_tests::repository());
    let said = protoplex_tests::said(script.env("TERM", "xterm")).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains("blobs") && said.out.contains('\u{1b}'),
        "{said:?}"
    );
    let result = fs::read_to_string(out).unwrap();
    assert!(result.contains("runs on every node"), "{result}");
    assert!(!result.contains(['\r', '\u{1b}']), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_one_line_for_each_thing() {
    let fleet = Fleet::start(SWAP).unwrap();
    assert_eq!(
        fleet
            .push("tests/builds/broken-probe.toml", &[])
            .unwrap()
            .code,
        3
    );
    let releases = fleet.run(&["releases"]).unwrap().out;
    assert_eq!(releases.lines().count(), 3, "{releases}");
    let nodes = fleet.run(&["nodes"]).unwrap().out;
    assert_eq!(nodes.lines().count(), 3, "{nodes}");
    let status = fleet.run(&["status"]).unwrap().out;
    assert!(status.starts_with("All is well: build "), "{status}");
    let proxy = fleet.node("proxy").http;
    assert_eq!(Connection::get_once(&proxy, "/").await.unwrap().status, 200);
}
