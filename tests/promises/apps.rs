//! App handlers behind the real program: worlds, languages, isolation, bodies, requests of their own.

use protoplex_tests::{Connection, Fleet, Origin, Response, read_head, repository};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, sync::Notify};

const WORLDS: &str = "tests/builds/worlds.toml";
const LANGUAGES: &str = "tests/builds/languages.toml";
const ISOLATION: &str = "tests/builds/isolation.toml";

async fn to_host(address: &str, host: &str, path: &str) -> Response {
    let mut connection = Connection::open(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    connection.write(request.as_bytes()).await.unwrap();
    connection.response(false).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_every_world_run_unchanged() {
    let fleet = Fleet::start(WORLDS).unwrap();
    let (proxy, app) = (fleet.node("proxy").http, fleet.node("app").http);
    for (address, host, path, expected) in [
        (&proxy, "a", "/", "hello"),
        (&app, "a", "/api/hello", "hello from app"),
        (&app, "two.test", "/api/hello", "hello from app02"),
    ] {
        let answer = to_host(address, host, path).await;
        assert_eq!(
            (answer.status, answer.text().trim()),
            (200, expected),
            "{host}{path}"
        );
    }
    let edge = to_host(&proxy, "a", "/wasi/").await;
    assert_eq!(
        edge.status,
        200,
        "an edge component that imports WASI: {}",
        edge.text()
    );
}

/// A handler that may wait needs a deadline besides its CPU budget; a second and a half here. Its neighbours notice
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_handler_that_waits_for_ever_is_cut_at_its_deadline() {
    let fleet = Fleet::start(WORLDS).unwrap();
    let proxy = fleet.node("proxy").http;
    let started = Instant::now();
    let cut = to_host(&proxy, "a", "/wasi/sleep").await;
    assert_eq!(cut.status, 504, "{}", cut.text());
    assert!(started.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(to_host(&proxy, "a", "/wasi/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_in_javascript_and_python_answer_and_echo() {
    let fleet = Fleet::start(LANGUAGES).unwrap();
    let app = fleet.node("app").http;
    let mut connection = Connection::open(&app).await.unwrap();
    for language in ["js", "py"] {
        let hello = connection.get(&format!("/{language}/hello")).await.unwrap();
        assert_eq!(hello.status, 200, "{language}: {}", hello.text());
        let path = format!("/{language}/echo");
        let body: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        let echo = connection.request("POST", &path, &[], &body).await.unwrap();
        assert_eq!(echo.status, 200, "{language}");
        assert!(
            echo.body == body,
            "{language}: {} bytes of {}",
            echo.body.len(),
            body.len()
        );
    }
}

/// `wasi:config`; instances made before a push that changes a setting do not answer after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_reads_the_settings_it_was_granted_and_a_push_changes_them() {
    let fleet = Fleet::start(WORLDS).unwrap();
    let mut connection = Connection::open(&fleet.node("app").http).await.unwrap();
    for (pushed, expected) in [(None, "hello"), (Some("greeting=hej"), "hej")] {
        if let Some(setting) = pushed {
            assert_eq!(fleet.push(WORLDS, &[setting]).unwrap().code, 0);
        }
        let answer = connection.get("/api/greeting").await.unwrap();
        assert_eq!((answer.status, answer.text().as_ref()), (200, expected));
    }
}

/// Variables of one handler are its own, and those of a push hold from it on, for warm instances too.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_has_the_environment_its_manifest_gives_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment.toml");
    let write = |color: &str| {
        let mut text = "name = \"environment\"\n".to_owned();
        for (guest, role, host) in [
            ("bad-app", "app", "three.test"),
            ("bad-app02", "app", "two.test"),
            ("wasi-edge", "proxy", "edge.test"),
        ] {
            let component = repository().join(format!("builds/out/{guest}.wasm"));
            text += &format!(
                "[handlers.{guest}]\ncomponent = \"{}\"\n\
                 [handlers.{guest}.environment]\nCOLOR = \"{color}\"\nHANDLER = \"{guest}\"\n\
                 [[routes]]\nrole = \"{role}\"\nhost = \"{host}\"\npath = \"/*\"\nhandler = \"{guest}\"\n",
                component.display()
            );
        }
        std::fs::write(&file, text).unwrap();
    };
    write("blue");
    let fleet = Fleet::start(file.to_str().unwrap()).unwrap();
    for color in ["blue", "green"] {
        if color != "blue" {
            write(color);
            assert_eq!(fleet.push(file.to_str().unwrap(), &[]).unwrap().code, 0);
        }
        for (guest, role, host) in [
            ("bad-app", "app", "three.test"),
            ("bad-app02", "app", "two.test"),
            ("wasi-edge", "proxy", "edge.test"),
        ] {
            let answer = to_host(&fleet.node(role).http, host, "/environment").await;
            let expected = format!("COLOR={color}\nHANDLER={guest}\n");
            assert_eq!((answer.status, answer.text()), (200, expected), "{guest}");
        }
    }
}

/// Answers of `/count`, and how often each came.
async fn counts(address: &str, host: &str, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let answer = to_host(address, host, "/count").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        *counts.entry(answer.text().trim().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_shared_as_far_as_its_isolation_says() {
    let fleet = Fleet::start(ISOLATION).unwrap();
    for role in ["proxy", "app"] {
        let address = fleet.node(role).http;
        let fresh = counts(&address, "any.test", 30).await;
        assert_eq!(
            fresh.keys().collect::<Vec<_>>(),
            ["1"],
            "{role}: each has its own"
        );
        let shared = counts(&address, "shared.test", 60).await;
        let most: usize = shared
            .keys()
            .map(|count| count.parse().unwrap())
            .max()
            .unwrap();
        assert!(
            (2..=5).contains(&most),
            "{role}, requests_max is 5: {shared:?}"
        );
    }
}

/// The most requests at once that an instance has seen, of four that wait for the rest of their bodies, in two
/// children. Each comes when those before it wait: who comes while an instance is busy gets another.
async fn together(fleet: &Fleet, host: &str) -> u64 {
    let head = format!("POST /together HTTP/1.1\r\nhost: {host}\r\ncontent-length: 8\r\n\r\n");
    let mut asked = Vec::new();
    for number in 1..=4_u8 {
        let mut connection = Connection::open(&fleet.node("app").http).await.unwrap();
        connection.write(head.as_bytes()).await.unwrap();
        connection.write(b"half").await.unwrap();
        asked.push(connection);
        fleet
            .wait_for_metric("app", "protoplex_in_flight", |now| now >= number.into())
            .await;
    }
    let mut most = 0;
    for connection in &mut asked {
        connection.write(b"done").await.unwrap();
        let answer = connection.response(false).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        most = most.max(answer.text().trim().parse().unwrap());
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_waits_takes_more_requests_only_where_its_isolation_says() {
    let fleet = Fleet::start(ISOLATION).unwrap();
    let concurrent = together(&fleet, "concurrent.test").await;
    assert!((2..=4).contains(&concurrent), "{concurrent}");
    for host in ["shared.test", "any.test"] {
        assert_eq!(together(&fleet, host).await, 1, "{host}");
    }
}

/// A slow sender's bytes reach the guest, and its echo the client, while the request is still being sent.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_at_once() {
    let fleet = Fleet::start(WORLDS).unwrap();
    for host in ["a", "two.test"] {
        let mut connection = Connection::open(&fleet.node("app").http).await.unwrap();
        let head = format!(
            "POST /api/echo HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        connection.write(head.as_bytes()).await.unwrap();
        connection.write(b"5\r\nfirst\r\n").await.unwrap();
        let seen = connection.until(b"first").await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 200"), "{host}: {seen}");
        connection.write(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
        connection.until(b"second").await.unwrap();
    }
}

/// A reader that takes nothing stops the guest, and costs no memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_guest_back() {
    let fleet = Fleet::start(WORLDS).unwrap();
    let node = fleet.node("app");
    let mut connection = Connection::open(&node.http).await.unwrap();
    let length = 256 << 20;
    let head = format!("POST /api/echo HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    connection.write(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0_usize;
    // Nothing of the echo is read: sooner or later no more is taken from us.
    while sent < length {
        let write = connection.write(&piece);
        match tokio::time::timeout(Duration::from_secs(2), write).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "{} MiB were taken in", sent >> 20);
}

async fn outgoing(fleet: &Fleet, to: &str) -> String {
    let path = format!("/outgoing?to={to}");
    let answer = Connection::get_once(&fleet.node("app").http, &path)
        .await
        .unwrap();
    answer.text().trim().to_owned()
}

/// A fleet of app nodes whose only handler is that guest, with more lines of its section.
pub(crate) fn with_handler(guest: &str, lines: &str) -> Fleet {
    let text = format!(
        "name = \"handler\"\n[handlers.app]\ncomponent = \"OUT/{guest}.wasm\"\nprobe = {{ path = \"/ok\" }}\n{lines}\n\
         [[routes]]\nrole = \"app\"\npath = \"/*\"\nhandler = \"app\"\n"
    );
    Fleet::start_text(&text, &["--nodes", "proxy=0"]).unwrap()
}

fn with_outgoing(allowed: &str) -> Fleet {
    with_handler("bad-app", &format!("grants.outgoing = [{allowed}]"))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_guest_reach_what_the_manifest_names_and_nothing_else() {
    let origin = Origin::start(|mut stream| async move {
        if read_head(&mut stream).await.is_some() {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await
    .unwrap();
    let denied = with_outgoing("");
    let text = outgoing(&denied, &format!("{}/", origin.address)).await;
    assert!(
        text.starts_with("error") && text.contains("Denied"),
        "{text}"
    );

    let allowed = with_outgoing(&format!("\"{}\"", origin.address));
    assert_eq!(
        outgoing(&allowed, &format!("{}/", origin.address)).await,
        "status 204"
    );
    let port = origin.address.rsplit(':').next().unwrap().to_owned();
    // A name of a loopback address, the metadata service, and another port: none of them was named.
    for to in [
        format!("localhost:{port}/"),
        "169.254.169.254/".into(),
        "127.0.0.1:1/".into(),
    ] {
        let text = outgoing(&allowed, &to).await;
        assert!(
            text.starts_with("error") && text.contains("Denied"),
            "{to}: {text}"
        );
    }
    // A name is not enough where it leads to a private address: that has to be said.
    let named = with_outgoing(&format!("\"localhost:{port}\""));
    let text = outgoing(&named, &format!("localhost:{port}/")).await;
    assert!(
        text.starts_with("error") && text.contains("Prohibited"),
        "{text}"
    );
    let private = with_outgoing(&format!("\"localhost:{port}!private\""));
    let text = outgoing(&private, &format!("localhost:{port}/")).await;
    assert_eq!(text, "status 204");
    // A request without a path is refused, not sent: the origin that would answer is there.
    let pathless = outgoing(&allowed, &origin.address).await;
    assert!(pathless.starts_with("error"), "{pathless}");
    // One that cannot be sent is told so.
    drop(origin);
    let unsent = outgoing(&allowed, &format!("127.0.0.1:{port}/")).await;
    assert!(unsent.starts_with("error"), "{unsent}");
}

/// A guest may go on when its response is over and its client gone: such as to tell somebody of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_does_after_its_response_is_done() {
    let (told, mut was_told) = tokio::sync::mpsc::channel(1);
    let response_is_over = Arc::new(Notify::new());
    let may_answer = Arc::clone(&response_is_over);
    let origin = Origin::start(move |mut stream| {
        let (told, may_answer) = (told.clone(), Arc::clone(&may_answer));
        async move {
            if let Some(head) = read_head(&mut stream).await {
                let _ = told.send(head).await;
                // A response that waited for the guest's end would wait for ever.
                may_answer.notified().await;
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await
    .unwrap();
    let fleet = with_outgoing(&format!("\"{}\"", origin.address));
    let path = format!("/outgoing-after?to={}/after", origin.address);
    let answer = Connection::get_once(&fleet.node("app").http, &path)
        .await
        .unwrap();
    assert_eq!((answer.status, answer.text().as_ref()), (200, "later\n"));
    response_is_over.notify_one();
    let told = tokio::time::timeout(Duration::from_secs(10), was_told.recv()).await;
    let head = format!("{:?}", told.expect("it goes on").unwrap());
    assert!(head.contains("/after"), "{head}");
}
