//! Routes, handlers and servers see one path and one host, in normal form.

use super::raw;
use protoplex_tests::{Connection, Fleet, Https, Origin, ok_with};

/// A build with a handler in front of `/admin/*` and of a host; everything else goes to a server as it is.
fn guarded(address: &str) -> String {
    format!(
        r#"
name = "guarded"

[settings]
greeting = "guarded"

[handlers.guard]
component = "OUT/hello.wasm"
grants.settings = ["greeting"]

[handlers.relay]
component = "OUT/relay.wasm"
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
    let relayed = |head: &str| ok_with(&format!("relayed {head}"));
    let origin = Origin::answering(relayed).await.unwrap();
    let fleet = Fleet::start_text(&guarded(&origin.address), &["--nodes", "app=0"]).unwrap();
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
        "example.test:0080",
        "example.test:",
    ] {
        let answer = ask(host, "/x").await;
        assert!(!answer.contains("relayed"), "{host}: {answer}");
    }
    // Two readers might take off one dot, or all.
    for host in ["example.test..", "Example.test..:80", "example..test", "."] {
        let answer = ask(host, "/x").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
        let uri = ask("a", &format!("http://{host}/x")).await;
        assert!(uri.starts_with("HTTP/1.1 400 "), "{host}: {uri}");
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
    let manifest = format!(
        r#"
name = "files"

[settings]
greeting = "hello"

[handlers.router]
component = "OUT/router.wasm"
grants.settings = ["greeting"]
grants.assets = ["/"]
probe = {{ path = "/annual%20report.txt" }}

[[routes]]
role = "proxy"
path = "/*"
handler = "router"

[assets]
directory = "{}"
"#,
        site.display()
    );
    let fleet = Fleet::start_text(&manifest, &["--nodes", "app=0"]).unwrap();
    let proxy = fleet.node("proxy").http;
    for (path, name) in [
        ("/annual%20report.txt", Some("annual report.txt")),
        ("/f%C3%BCr.txt", Some("für.txt")),
        ("/f%c3%bcr.txt?v=1", Some("für.txt")),
        ("/100%25.txt", Some("100%.txt")),
        ("/pl%61in.txt", Some("plain.txt")),
        ("/x/../private/x.txt", Some("private/x.txt")),
        // An escaped slash separates no folders: a handler that looked at the path saw none.
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
