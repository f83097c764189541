//! gRPC through the proxy, between servers and clients that others wrote.

use protoplex_tests::{Fleet, Program, python, repository};
use serde_json::Value;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A client goes through all its cases by then.
const CASES_MAX: Duration = Duration::from_secs(100);
/// Time for which calls go on around each push.
const AROUND_A_PUSH: Duration = Duration::from_secs(1);

/// A server of the C core, and where it listens.
struct Server {
    _program: Program,
    address: String,
}

impl Server {
    fn start(args: &[&str], files: &[(&str, &str)]) -> Self {
        let script = driver("server.py");
        let args = [&[script.to_str().unwrap()], args].concat();
        let mut program = Program::start(python().unwrap(), &args, files).unwrap();
        let port = program
            .wait_for("out", |out| {
                let (port, _) = out.split_once("port ")?.1.split_once('.')?;
                Some(port.to_owned())
            })
            .unwrap();
        Self {
            _program: program,
            address: format!("localhost:{port}"),
        }
    }
}

fn driver(file: &str) -> PathBuf {
    repository().join("tests/drivers/grpc").join(file)
}

/// A build that relays everything to servers of gRPC.
struct Build {
    folder: tempfile::TempDir,
}

impl Build {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// Writes it with more lines for the handler and the upstream, and returns its file.
    fn write(&self, servers: &[&Server], handler: &str, upstream: &str) -> String {
        let component = repository().join("builds/out/relay.wasm");
        let addresses: Vec<_> = servers.iter().map(|server| &server.address).collect();
        let manifest = format!(
            r#"
name = "grpc"

[handlers.relay]
component = "{}"
{handler}

[handlers.relay.grants]
relay = ["origin"]
settings = ["color"]

[upstreams.origin]
addresses = {addresses:?}
{upstream}

[settings]
color = "none"

[[routes]]
role = "proxy"
path = "/*"
handler = "relay"
"#,
            component.display(),
        );
        let file = self.folder.path().join("grpc.toml");
        std::fs::write(&file, manifest).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn start(build: &str) -> Fleet {
    Fleet::start_with(build, &["--nodes", "app=0"]).unwrap()
}

/// Faults in the cases that a client printed; there have to be at least so many cases.
fn faults(said: &str, cases_min: usize) -> String {
    let cases = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let cases: Vec<_> = cases.filter(|case| case["case"].is_string()).collect();
    assert!(
        cases.len() >= cases_min,
        "only {} cases: {said}",
        cases.len()
    );
    let wrong = cases.iter().filter(|case| !case["fault"].is_null());
    wrong.fold(String::new(), |mut text, case| {
        let _ = writeln!(text, "{case}");
        text
    })
}

/// Lets clients of the C core and of Node go through their cases, with and without TLS.
fn clients_find_no_fault(fleet: &Fleet) {
    let node = fleet.node("proxy");
    let ca = fleet.info["ca"].as_str().unwrap();
    let python = python().unwrap();
    let python = python.to_str().unwrap();
    let secure = node.https.replace("127.0.0.1", "localhost");
    for (program, script, cases_min) in [(python, "client.py", 15), ("node", "client.mjs", 13)] {
        let (script, flag) = (driver(script), script.ends_with("py").then_some("--ca"));
        let script = script.to_str().unwrap();
        let tls: Vec<_> = [script, &secure]
            .into_iter()
            .chain(flag)
            .chain([ca])
            .collect();
        for args in [vec![script, &node.http], tls] {
            let mut client = Program::start(program, &args, &[]).unwrap();
            let said = client.finished(CASES_MAX).unwrap();
            let faults = faults(&said, cases_min);
            assert!(faults.is_empty(), "{args:?}:\n{faults}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_and_servers_of_others_find_no_proxy_between_them() {
    let server = Server::start(&[], &[]);
    let fleet = start(&Build::new().write(&[&server], "", "protocol = \"h2c\""));
    clients_find_no_fault(&fleet);
}

/// A key and a self-signed certificate for `localhost`.
fn certificate(folder: &Path) -> (String, String) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost", "-addext"])
        .args(["basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    (text(key), text(certificate))
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_goes_to_servers_by_tls() {
    let build = Build::new();
    let (key, certificate) = certificate(build.folder.path());
    let server = Server::start(&["--tls", &key, &certificate], &[]);
    let upstream = format!("protocol = \"https\"\ntls = {{ ca = {certificate:?} }}");
    let fleet = start(&build.write(&[&server], "", &upstream));
    clients_find_no_fault(&fleet);
}

/// Calls of all kinds while `meanwhile` runs.
fn calls_go_on(fleet: &Fleet, build: &Build, meanwhile: impl FnOnce()) {
    let (script, stop) = (driver("client.py"), build.file("stop"));
    let target = fleet.node("proxy").http;
    let args = [
        script.to_str().unwrap(),
        &target,
        "--until",
        stop.to_str().unwrap(),
    ];
    let mut client = Program::start(python().unwrap(), &args, &[]).unwrap();
    let begun = |out: &str| (out.lines().count() > 50).then_some(());
    client.wait_for("out", begun).unwrap();
    meanwhile();
    std::fs::write(&stop, "").unwrap();
    let said = client.finished(CASES_MAX).unwrap();
    let faults = faults(&said, 100);
    assert!(faults.is_empty(), "{faults}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_grpc_call_fails_for_a_push() {
    let server = Server::start(&[], &[]);
    let build = Build::new();
    let (handler, upstream) = ("", "protocol = \"h2c\"");
    let fleet = start(&build.write(&[&server], handler, upstream));
    calls_go_on(&fleet, &build, || {
        for (handler, set) in [
            ("", "color=red"),
            ("limits = { cpu_ms_max = 7 }", "color=red"),
            ("limits = { cpu_ms_max = 7 }", "color=blue"),
        ] {
            let file = build.write(&[&server], handler, upstream);
            let pushed = fleet.push(&file, &[set]).unwrap();
            assert_eq!(pushed.code, 0, "{pushed:?}");
            std::thread::sleep(AROUND_A_PUSH);
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_grpc_call_fails_for_a_goodbye_of_its_server() {
    // Each connection is told to go after some hundred milliseconds, and again and again.
    let server = || Server::start(&["--max-age-ms", "300"], &[]);
    let (one, other) = (server(), server());
    let build = Build::new();
    let fleet = start(&build.write(&[&one, &other], "", "protocol = \"h2c\""));
    calls_go_on(&fleet, &build, || std::thread::sleep(6 * AROUND_A_PUSH));
}
