//! A switch ends what needs the old build, at its drain deadline, and nothing else.

use protoplex_tests::{Connection, Fleet, Origin, Response, read_head, repository};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify};

/// Two upstreams, and two apps of which one reads a setting.
const MANIFEST: &str = r#"
name = "undisturbed"

[settings]
greeting = "blue"

[handlers.relay]
component = "OUT/relay.wasm"
grants.relay = ["origin", "other"]

[handlers.router]
component = "OUT/router.wasm"
isolation = "shared"
grants.relay = ["role:app"]
grants.settings = ["greeting"]

[handlers.app]
component = "OUT/app.wasm"

[handlers.slow]
component = "OUT/bad-app.wasm"
grants.settings = ["greeting"]
probe.path = "/ok"

[upstreams.origin]
addresses = ["ADDRESS"]
idle_timeout_ms = ORIGIN_MS

[upstreams.other]
addresses = ["ADDRESS"]
idle_timeout_ms = OTHER_MS

[[routes]]
role = "proxy"
path = "/api/*"
handler = "router"

[[routes]]
role = "proxy"
path = "/*"
handler = "relay"

[[routes]]
role = "app"
path = "/api/*"
handler = "app"

[[routes]]
role = "app"
path = "/sleep"
handler = "slow"

[assets]
directory = "SITE"
"#;

/// By then, a child has released what it releases after a switch.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A build in a folder of its own.
struct Build {
    _folder: TempDir,
    file: PathBuf,
}

impl Build {
    fn new(origin: &Origin, origin_ms: u32, other_ms: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("undisturbed.toml");
        let root = repository();
        let manifest = MANIFEST
            .replace("OUT", root.join("builds/out").to_str().unwrap())
            .replace("SITE", root.join("guests/site").to_str().unwrap())
            .replace("ADDRESS", &origin.address)
            .replace("ORIGIN_MS", &origin_ms.to_string())
            .replace("OTHER_MS", &other_ms.to_string());
        fs::write(&file, manifest).unwrap();
        Self {
            _folder: folder,
            file,
        }
    }

    fn push(&self, fleet: &Fleet, greeting: &str) {
        let set = format!("greeting={greeting}");
        let file = self.file.to_str().unwrap();
        let pushed = tokio::task::block_in_place(|| fleet.push(file, &[&set])).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
}

/// Answers in two parts, the second when the gate opens: `/late` has nothing in the first.
async fn origin(gate: &Arc<Notify>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::start(move |stream| serve(stream, Arc::clone(&gate)))
        .await
        .unwrap()
}

async fn serve(mut stream: TcpStream, gate: Arc<Notify>) {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    while let Some(head) = read_head(&mut stream).await {
        let mut opened = std::pin::pin!(gate.notified());
        opened.as_mut().enable();
        let is_late = head.starts_with("GET /late ");
        if !is_late && stream.write_all(HEAD).await.is_err() {
            return;
        }
        opened.await;
        if is_late && stream.write_all(HEAD).await.is_err() {
            return;
        }
        if stream.write_all(b"4\r\ndone\r\n0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// Asks, and waits until half of the answer is there, or the request where it is to be.
async fn begin(address: &str, head: &str, until: &[u8]) -> Connection {
    let mut connection = Connection::open(address).await.unwrap();
    connection.write(head.as_bytes()).await.unwrap();
    if !until.is_empty() {
        connection.until(until).await.unwrap();
    }
    connection
}

async fn stream(address: &str, upstream: &str) -> Connection {
    let head = format!("GET /stream HTTP/1.1\r\nx-upstream: {upstream}\r\nhost: a\r\n\r\n");
    begin(address, &head, b"half").await
}

async fn late(address: &str, upstream: &str) -> Connection {
    let head = format!("GET /late HTTP/1.1\r\nx-upstream: {upstream}\r\nhost: a\r\n\r\n");
    begin(address, &head, b"").await
}

async fn whole(mut connection: Connection) -> Response {
    connection.response(false).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_cuts_what_it_changes_and_nothing_else() {
    let gate = Arc::new(Notify::new());
    let origin = origin(&gate).await;
    let first = Build::new(&origin, 60_000, 60_000);
    let more = ["--drain-timeout", "1", "--nodes", "app=1"];
    let fleet = Fleet::start_with(first.file.to_str().unwrap(), &more).unwrap();
    let (proxy, app) = (fleet.node("proxy").http, fleet.node("app").http);
    let half = "content-length: 8\r\nhost: a\r\n\r\nhalf";

    let kept = stream(&proxy, "origin").await;
    let kept_late = late(&proxy, "origin").await;
    let mut echo = begin(
        &proxy,
        &format!("POST /api/echo HTTP/1.1\r\n{half}"),
        b"half",
    )
    .await;
    let mut count = begin(&proxy, &format!("POST /api/count HTTP/1.1\r\n{half}"), b"").await;
    let lasting = stream(&proxy, "origin").await;
    let mut changed = stream(&proxy, "other").await;
    let changed_late = late(&proxy, "other").await;
    let sleeper = begin(&app, "GET /sleep HTTP/1.1\r\nhost: a\r\n\r\n", b"").await;
    let in_flight = "protoplex_in_flight";
    fleet
        .wait_for_metric("proxy", in_flight, |n| n == 7.0)
        .await;
    fleet.wait_for_metric("app", in_flight, |n| n == 3.0).await;

    // Another setting for one app, another upstream for some requests.
    let second = Build::new(&origin, 60_000, 50_000);
    second.push(&fleet, "green");
    assert_eq!(whole(changed_late).await.status, 503);
    assert_eq!(whole(sleeper).await.status, 503);
    assert!(changed.response(false).await.is_err(), "it looks cut");
    let cut = "protoplex_requests_cut_total";
    fleet.wait_for_metric("proxy", cut, |n| n == 2.0).await;
    fleet.wait_for_metric("app", cut, |n| n == 1.0).await;

    for upload in [&mut echo, &mut count] {
        upload.write(b"done").await.unwrap();
    }
    assert_eq!(whole(echo).await.text(), "halfdone");
    let count = whole(count).await.text();
    assert!(count.contains(r#""bytes":8,"#), "{count}");
    // A later push that changes what one of them needs ends that one, at its own deadline.
    let third = Build::new(&origin, 50_000, 50_000);
    third.push(&fleet, "green");
    let mut lasting = lasting;
    assert!(lasting.response(false).await.is_err(), "it looks cut");
    fleet.wait_for_metric("proxy", cut, |n| n == 5.0).await;
    drop((kept, kept_late));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_does_not_change_ends_whole() {
    let gate = Arc::new(Notify::new());
    let origin = origin(&gate).await;
    let build = Build::new(&origin, 60_000, 60_000);
    let more = ["--drain-timeout", "1", "--nodes", "app=1"];
    let fleet = Fleet::start_with(build.file.to_str().unwrap(), &more).unwrap();
    let (proxy, app) = (fleet.node("proxy").http, fleet.node("app").http);
    let kept = [stream(&proxy, "origin").await, late(&proxy, "origin").await];
    fleet
        .wait_for_metric("proxy", "protoplex_in_flight", |n| n == 2.0)
        .await;
    for greeting in ["green", "red"] {
        let sleeper = begin(&app, "GET /sleep HTTP/1.1\r\nhost: a\r\n\r\n", b"").await;
        fleet
            .wait_for_metric("app", "protoplex_in_flight", |n| n == 1.0)
            .await;
        build.push(&fleet, greeting);
        // What that push does change is cut: its deadline has passed.
        assert_eq!(whole(sleeper).await.status, 503);
    }
    gate.notify_waiters();
    for connection in kept {
        let answer = whole(connection).await;
        assert_eq!((answer.status, answer.text()), (200, "halfdone".to_owned()));
    }
    let cut = fleet.metric("proxy", "protoplex_requests_cut_total").await;
    assert_eq!(cut.unwrap(), 0.0);
}

/// Packs of assets that the proxy's children have mapped.
fn packs(fleet: &Fleet) -> usize {
    let children = fleet.children(&fleet.node("proxy")).unwrap();
    let maps = children
        .iter()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap());
    maps.map(|maps| maps.matches("/memfd:").count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlives_its_build_does_not_keep_it_loaded() {
    let gate = Arc::new(Notify::new());
    let origin = origin(&gate).await;
    let build = Build::new(&origin, 60_000, 60_000);
    let more = ["--drain-timeout", "60", "--nodes", "app=1"];
    let fleet = Fleet::start_with(build.file.to_str().unwrap(), &more).unwrap();
    let proxy = fleet.node("proxy").http;
    let (mut streams, mut mapped) = (Vec::new(), Vec::new());
    for number in 0..8 {
        // Both children, most likely.
        for _ in 0..4 {
            streams.push(stream(&proxy, "origin").await);
        }
        build.push(&fleet, &format!("number-{number}"));
        mapped.push(packs(&fleet));
    }
    // Three builds are held from the second push on.
    let most = mapped[2];
    let released = async {
        while packs(&fleet) > most {
            tokio::time::sleep(POLL).await;
        }
    };
    let released = tokio::time::timeout(PATIENCE, released).await;
    assert!(released.is_ok(), "{mapped:?}, {} now", packs(&fleet));
    gate.notify_waiters();
    for connection in streams {
        assert_eq!(whole(connection).await.text(), "halfdone");
    }
}
