//! What is decided where a client comes in holds on every hop, and in both protocols.

use protoplex_tests::{Connection, Fleet, Https, Origin, Response, read_head};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

const MIRROR: &str = "tests/builds/mirror.toml";
const SAMPLE: &str = "builds/sample.toml";
const PATIENCE: Duration = Duration::from_secs(20);

fn mirror() -> Fleet {
    Fleet::start(MIRROR).unwrap()
}

/// All lines of that name which a mirror shows.
fn shown(answer: &Response, name: &str) -> Vec<String> {
    let text = answer.text();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let own = lines.filter(|(other, _)| other.trim_end_matches(':') == name);
    own.map(|(_, value)| value.to_owned()).collect()
}

/// What comes of exactly these bytes, up to the end of the connection.
async fn raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_client_gets_its_answer_through_every_hop() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let post = |path: &str| {
        let lines = "Host: a\r\nContent-Length: 5\r\nConnection: close";
        format!("POST {path} HTTP/1.1\r\n{lines}\r\n\r\nhello")
    };
    for role in ["proxy", "app"] {
        let address = fleet.node(role).http;
        for (request, end) in [
            (get("/api/hello"), "hello from app\n"),
            (get("/api/stream"), "line 10 of 10\n\r\n0\r\n\r\n"),
            (post("/api/echo"), "hello"),
            (post("/api/count"), r#"{"bytes":5,"pieces":1}"#),
        ] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200 "),
                "{role} {request}: {answer}"
            );
            assert!(answer.contains(end), "{role} {request}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_client_ends_what_a_server_behind_does_for_it() {
    let gone = Arc::new(Mutex::new(None));
    let (told, end) = tokio::sync::oneshot::channel();
    *gone.lock().await = Some(told);
    let asked = Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start({
        let asked = Arc::clone(&asked);
        move |mut stream: TcpStream| {
            let (gone, asked) = (Arc::clone(&gone), Arc::clone(&asked));
            async move {
                read_head(&mut stream).await;
                asked.notify_one();
                let end = stream.read_u8().await.map_err(|error| error.kind());
                if let Some(told) = gone.lock().await.take() {
                    let _ = told.send(end);
                }
            }
        }
    })
    .await
    .unwrap();
    let fleet = crate::relaying::fleet(&origin);
    let mut client = TcpStream::connect(&fleet.node("proxy").http).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    asked.notified().await;
    client.set_zero_linger().unwrap();
    drop(client);
    // A plain end would say that an answer is still wanted.
    let end = end.await.unwrap();
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_a_host_is_relayed_with_the_servers_own() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let head = read_head(&mut stream).await.unwrap_or_default();
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{head}");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
    .unwrap();
    let fleet = crate::relaying::fleet(&origin);
    let proxy = fleet.node("proxy").http;
    let answer = raw(&proxy, "GET /x HTTP/1.0\r\nX-Forwarded-Host: evil\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let host = format!("\r\nhost: {}\r\n", origin.address);
    assert_eq!(answer.matches(&host).count(), 1, "{answer}");
    assert!(!answer.contains("-host:"), "{answer}");
    assert!(
        !answer.contains("host=") && answer.contains("for=127.0.0.1;proto=http"),
        "{answer}"
    );
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy").http;
    let answer = raw(&proxy, "GET /api/hello HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("hello from app\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_behind_a_hop_see_how_the_client_came_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ingress.json");
    std::fs::write(&file, r#"{"trust_forwarded_from":["127.0.0.0/8"]}"#).unwrap();
    let more = ["--ingress", file.to_str().unwrap()];
    let fleet = Fleet::start_with(MIRROR, &more).unwrap();
    for http2 in [false, true] {
        let https = Https::new(&fleet, "proxy", http2).unwrap();
        let address = fleet.node("proxy").https;
        let (_, seen) = https
            .request("GET", "/x?to=role:app", vec![])
            .await
            .unwrap();
        assert_eq!(shown(&seen, "scheme"), ["https"], "{}", seen.text());
        assert_eq!(shown(&seen, "authority"), [address.as_str()]);
        let told = seen.header("x-request-id").unwrap();
        assert_eq!(shown(&seen, "id"), [told]);
        for path in ["/api/url?to=role:app", "/02/url?to=role:app"] {
            let (_, url) = https.request("GET", path, vec![]).await.unwrap();
            assert_eq!(url.text(), format!("https://{address}{path}\n"));
        }
    }
    let https = Https::new(&fleet, "app", false).unwrap();
    let address = fleet.node("app").https;
    for path in ["/api/url", "/02/url"] {
        let (_, url) = https.request("GET", path, vec![]).await.unwrap();
        assert_eq!(url.text(), format!("https://{address}{path}\n"));
    }
    // Whom a balancer names is the client on every hop.
    let said = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("protoplex-origin", "http 6.6.6.6 1 0000000000000000"),
    ];
    // No balancer stands before the apps' own door.
    let (named, own) = (("203.0.113.9", "https"), ("127.0.0.1", "http"));
    for (role, path, (client, scheme)) in [
        ("proxy", "/x?to=role:app", named),
        ("proxy", "/x", named),
        ("app", "/x", own),
    ] {
        let mut connection = Connection::open(&fleet.node(role).http).await.unwrap();
        let seen = connection.request("GET", path, &said, b"").await.unwrap();
        assert_eq!(
            shown(&seen, "client"),
            [client],
            "{role}{path}: {}",
            seen.text()
        );
        assert_eq!(shown(&seen, "scheme"), [scheme], "{role}{path}");
        assert_eq!(shown(&seen, "id"), [seen.header("x-request-id").unwrap()]);
    }
}

/// A GET with that many header lines, `Host` among them, and a cookie.
fn large(path: &str, lines: usize, cookie_bytes: usize) -> String {
    let more: String = (2..lines).map(|line| format!("x-{line}: 1\r\n")).collect();
    let cookie = "c".repeat(cookie_bytes);
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_a_proxy_takes_is_taken_by_the_node_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ingress.json");
    std::fs::write(&file, r#"{"limits":{"head_bytes_max":262144}}"#).unwrap();
    let raised = ["--ingress", file.to_str().unwrap()];
    for (more, cookies) in [
        (&[][..], [(31 << 10, 200), (33 << 10, 431)]),
        (&raised[..], [(250 << 10, 200), (257 << 10, 431)]),
    ] {
        let fleet = Fleet::start_with(SAMPLE, more).unwrap();
        let mut asked = vec![(94, 1, 200), (100, 1, 200), (101, 1, 431)];
        asked.extend(cookies.map(|(bytes, status)| (2, bytes, status)));
        for (lines, cookie_bytes, status) in asked {
            for path in ["/hello", "/api/hello"] {
                let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
                let request = large(path, lines, cookie_bytes);
                connection.write(request.as_bytes()).await.unwrap();
                let answer = connection.response(false).await.unwrap();
                assert_eq!(
                    answer.status, status,
                    "{path}: {lines} lines, {cookie_bytes} bytes"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_node_of_the_fleet_is_let_beyond_the_limits_of_a_head() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let lie = "protoplex-build: 0:0\r\nprotoplex-origin: http 6.6.6.6 1 0000000000000000\r\n";
    for role in ["proxy", "app"] {
        let request = large("/api/hello", 120, 1).replacen("Host:", &format!("{lie}Host:"), 1);
        let answer = raw(&fleet.node(role).http, request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{role}: {answer}");
    }
}

/// The line of an access log that has this id, when it is there.
async fn line_of(fleet: &Fleet, role: &str, id: &str) -> serde_json::Value {
    let node = fleet.node(role);
    let log = fleet.data().join(format!("logs/{}.access.log", node.name));
    for _ in 0..1_000 {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut same = lines.filter(|line: &serde_json::Value| line["request"] == id);
        if let Some(line) = same.next() {
            return line;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} has no line of {id}", log.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_id_in_the_logs_of_all_nodes() {
    let fleet = Fleet::start_with(MIRROR, &["--access-log"]).unwrap();
    let proxy = fleet.node("proxy").http;
    let seen = Connection::get_once(&proxy, "/x?to=role:app")
        .await
        .unwrap();
    let id = seen.header("x-request-id").unwrap();
    for role in ["proxy", "app"] {
        let line = line_of(&fleet, role, id).await;
        assert_eq!(
            (&line["status"], &line["client"]),
            (&200.into(), &"127.0.0.1".into())
        );
    }
    let mut connection = Connection::open(&proxy).await.unwrap();
    connection
        .write(b"GET /no-host HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let refused = connection.response(false).await.unwrap();
    assert_eq!(refused.status, 400);
    let line = line_of(&fleet, "proxy", refused.header("x-request-id").unwrap()).await;
    assert_eq!(line["path"], "/no-host");
    assert_eq!(
        (&line["status"], &line["refused"]),
        (&400.into(), &"Host is missing".into())
    );
    let counted = async {
        loop {
            let text = fleet.meta("proxy", "/metrics").await.unwrap();
            let mut counts = text
                .lines()
                .filter(|line| line.contains("cause=\"malformed\""));
            if counts.any(|line| line.ends_with(" 1")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let counted = tokio::time::timeout(PATIENCE, counted).await;
    assert!(counted.is_ok(), "the refusal is not counted");
}

/// Every edit of a relay that a query can ask for, and what the server behind gets to see of a header then.
const EDITS: [(&str, &str, &[&str]); 12] = [
    ("set=host:backend.example", "host", &["backend.example"]),
    ("set=x-a:1&set=X-A:2", "x-a", &["2"]),
    ("set=x-a:1&rm=x-a", "x-a", &[]),
    (
        "set=x-forwarded-proto:https",
        "x-forwarded-proto",
        &["https"],
    ),
    (
        "set=x-forwarded-for:192.0.2.1",
        "x-forwarded-for",
        &["192.0.2.1"],
    ),
    (
        "set=x-forwarded-host:shop.example",
        "x-forwarded-host",
        &["shop.example"],
    ),
    ("rm=x-forwarded-for", "x-forwarded-for", &[]),
    ("rm=x-forwarded-host", "x-forwarded-host", &[]),
    ("rm=forwarded", "forwarded", &[]),
    ("rm=traceparent", "traceparent", &[]),
    ("rm=accept", "accept", &[]),
    ("rm=x-user", "x_user", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_relays_edits_are_what_the_server_gets_in_both_protocols() {
    let folder = tempfile::tempdir().unwrap();
    for protocol in ["http1", "h2c"] {
        let origin = mirror_server(protocol == "h2c").await;
        let file = folder.path().join(format!("{protocol}.toml"));
        std::fs::write(&file, relaying_mirror(&origin.address, protocol)).unwrap();
        let more = ["--apps", "0"];
        let fleet = Fleet::start_with(file.to_str().unwrap(), &more).unwrap();
        let said = [
            ("accept", "*/*"),
            ("x-user", "forged"),
            ("x_user", "forged"),
            ("x_forwarded_for", "6.6.6.6"),
            ("content_length", "5"),
            ("api_key", "1"),
        ];
        let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
        for (edits, name, expected) in EDITS {
            let path = format!("/x?to=origin&{edits}");
            let seen = connection.request("GET", &path, &said, b"").await.unwrap();
            assert_eq!(seen.status, 200, "{protocol} {edits}: {}", seen.text());
            assert_eq!(
                shown(&seen, name),
                expected,
                "{protocol} {edits}: {}",
                seen.text()
            );
            assert_eq!(shown(&seen, "host").len(), 1, "{protocol} {edits}");
            assert_eq!(shown(&seen, "api_key"), ["1"], "{protocol} {edits}");
            for disguised in ["x_forwarded_for", "content_length"] {
                assert!(
                    shown(&seen, disguised).is_empty(),
                    "{protocol}: {}",
                    seen.text()
                );
            }
        }
        for refused in [
            "rm=host",
            "set=host:a/b",
            "set=content-length:5",
            "set=protoplex-build:1",
        ] {
            let path = format!("/x?to=origin&{refused}");
            let answer = connection.request("GET", &path, &[], b"").await.unwrap();
            assert_eq!(
                answer.status,
                500,
                "{protocol} {refused}: {}",
                answer.text()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirects_headers_reach_the_client() {
    let fleet = mirror();
    let path = "/x?redirect=/home&set=cache-control:no-store&set=set-cookie:a&set=set-cookie:b";
    let answer = Connection::get_once(&fleet.node("proxy").http, path)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("/home"))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let cookies = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.count(), 2);
}

/// A build whose proxy relays to a server where a query says so.
fn relaying_mirror(address: &str, protocol: &str) -> String {
    let component = protoplex_tests::repository().join("builds/out/mirror.wasm");
    format!(
        r#"
name = "mirror"

[handlers.mirror]
component = "{}"
grants.relay = ["origin"]

[upstreams.origin]
addresses = ["{address}"]
protocol = "{protocol}"

[[routes]]
role = "proxy"
path = "/*"
handler = "mirror"
"#,
        component.display()
    )
}

/// A server that answers every request with the header lines that it got, names in lower case.
async fn mirror_server(http2: bool) -> Origin {
    let serve = move |stream: TcpStream| async move {
        if http2 {
            mirror_http2(stream).await;
        } else {
            mirror_http1(stream).await;
        }
    };
    Origin::start(serve).await.unwrap()
}

async fn mirror_http1(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream).await {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let text: String = lines
            .map(|(name, value)| format!("{}: {value}\n", name.to_lowercase()))
            .collect();
        let length = text.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn mirror_http2(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let authority = request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str());
        let mut text = format!("host: {authority}\n");
        for (name, value) in request.headers() {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
        if let Ok(mut body) = respond.send_response(http::Response::new(()), false) {
            let _ = body.send_data(text.into(), true);
        }
    }
}

/// A build with a handler in front of `/admin/*` and of a host; everything else goes to a server as it is.
fn guarded(address: &str) -> String {
    let out = protoplex_tests::repository().join("builds/out");
    let out = out.display();
    format!(
        r#"
name = "guarded"

[settings]
greeting = "guarded"

[handlers.guard]
component = "{out}/hello.wasm"
grants.settings = ["greeting"]

[handlers.relay]
component = "{out}/relay.wasm"
grants.relay = ["origin"]

[upstreams.origin]
addresses = ["{address}"]

[[routes]]
role = "proxy"
path = "/admin/*"
handler = "guard"

[[routes]]
role = "proxy"
host = "example.test"
path = "/*"
handler = "guard"

[[routes]]
role = "proxy"
path = "/*"
handler = "relay"
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_relayed_is_what_was_matched() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        while let Some(head) = read_head(&mut stream).await {
            let line = format!("relayed {head}");
            let length = line.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{line}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guarded.toml");
    std::fs::write(&file, guarded(&origin.address)).unwrap();
    let fleet = Fleet::start_with(file.to_str().unwrap(), &["--apps", "0"]).unwrap();
    let proxy = fleet.node("proxy").http;
    let ask = async |host: &str, path: &str| {
        let lines = format!("Host: {host}\r\nConnection: close");
        raw(&proxy, format!("GET {path} HTTP/1.1\r\n{lines}\r\n\r\n")).await
    };
    let http2 = Https::new(&fleet, "proxy", true).unwrap();
    for (path, status) in [
        ("/admin/x", 200),
        ("/admin", 200),
        ("/x/../admin/x", 200),
        ("/x/%2e%2E/admin/x", 200),
        ("//admin/x", 200),
        ("/./admin//x", 200),
        ("/%61dmin/x?q", 200),
        ("/%%36%31dmin/x", 0),
        ("/admin%2fx", 400),
        ("/admin%5cx", 400),
        ("/admin;v=1/x", 400),
        ("/x/..;/admin/x", 400),
        ("/x%2F..%2Fadmin", 400),
        ("/x%00", 400),
    ] {
        let answer = ask("a", path).await;
        let (_, by_http2) = http2.request("GET", path, vec![]).await.unwrap();
        match status {
            0 => assert!(
                answer.contains("relayed GET /%2561dmin/x HTTP/1.1\r\n"),
                "{answer}"
            ),
            _ => {
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{path}: {answer}"
                );
                assert!(!answer.contains("relayed"), "{path}: {answer}");
                assert_eq!(by_http2.status, status, "{path}");
                assert!(!by_http2.text().contains("relayed"), "{path}");
            }
        }
    }
    for (path, relayed) in [
        ("/a/./b/?q=//../%61;", "/a/b/?q=//../%61;"),
        (
            "/projects/group%2fname;v=1/x",
            "/projects/group%2Fname;v=1/x",
        ),
        ("/f%c3%bcr%20alle", "/f%C3%BCr%20alle"),
    ] {
        let line = format!("relayed GET {relayed} HTTP/1.1\r\n");
        let answer = ask("a", path).await;
        assert!(answer.contains(&line), "{path}: {answer}");
        let (_, answer) = http2.request("GET", path, vec![]).await.unwrap();
        assert!(answer.text().contains(&line), "{path}: {}", answer.text());
    }
    for host in [
        "example.test",
        "example.test.",
        "EXAMPLE.test.:80",
        "example.test:",
    ] {
        let answer = ask(host, "/x").await;
        assert!(!answer.contains("relayed"), "{host}: {answer}");
    }
    for (host, relayed) in [
        ("Other.Test.:8080", "other.test:8080"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("xn--mnchen-3ya.test", "xn--mnchen-3ya.test"),
    ] {
        let answer = ask(host, "/x").await;
        assert!(
            answer.contains(&format!("\r\nhost: {relayed}\r\n")),
            "{host}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_found_by_the_name_that_its_url_escapes() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    std::fs::create_dir_all(site.join("private")).unwrap();
    for name in [
        "annual report.txt",
        "für.txt",
        "100%.txt",
        "plain.txt",
        "private/x.txt",
    ] {
        std::fs::write(site.join(name), name).unwrap();
    }
    let component = protoplex_tests::repository().join("builds/out/router.wasm");
    let manifest = format!(
        r#"
name = "files"

[settings]
greeting = "hello"

[handlers.router]
component = "{}"
grants.settings = ["greeting"]
grants.assets = ["/"]
probe = {{ path = "/annual%20report.txt" }}

[[routes]]
role = "proxy"
path = "/*"
handler = "router"

[assets]
directory = "site"
"#,
        component.display()
    );
    let file = folder.path().join("files.toml");
    std::fs::write(&file, manifest).unwrap();
    let fleet = Fleet::start_with(file.to_str().unwrap(), &["--apps", "0"]).unwrap();
    let proxy = fleet.node("proxy").http;
    for (path, name) in [
        ("/annual%20report.txt", Some("annual report.txt")),
        ("/f%C3%BCr.txt", Some("für.txt")),
        ("/f%c3%bcr.txt?v=1", Some("für.txt")),
        ("/100%25.txt", Some("100%.txt")),
        ("/pl%61in.txt", Some("plain.txt")),
        ("/x/../private/x.txt", Some("private/x.txt")),
        // A handler that looked at the path saw no folder.
        ("/private%2Fx.txt", None),
        ("/annual%2520report.txt", None),
        ("/%FF.txt", None),
    ] {
        let answer = Connection::get_once(&proxy, path).await.unwrap();
        match name {
            Some(name) => assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, name),
                "{path}"
            ),
            None => assert_eq!(answer.status, 404, "{path}"),
        }
    }
}
