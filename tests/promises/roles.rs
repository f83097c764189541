//! Nodes by role: what the table of roles says is what starts, and what each serves.

use protoplex_tests::{Connection, Fleet};

const SAMPLE: &str = "builds/sample.toml";

#[tokio::test(flavor = "multi_thread")]
async fn a_fileserver_serves_the_files_of_the_build() {
    let fleet = Fleet::start_with(SAMPLE, &["--nodes", "fileserver=2"]).unwrap();
    assert_eq!(fleet.nodes("fileserver").len(), 2);
    let own = fleet.node("fileserver").http;
    let proxy = fleet.node("proxy").http;
    let mut served = Vec::new();
    for (node, path) in [(&own, "/style.css"), (&proxy, "/files/style.css")] {
        let mut connection = Connection::open(node).await.unwrap();
        let answer = connection.request("GET", path, &[], b"").await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.header("content-type").unwrap().contains("text/css"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        served.push(answer.text());
    }
    assert_eq!(served[0], served[1]);
    let mut connection = Connection::open(&own).await.unwrap();
    for (path, status) in [("/", 200), ("/nothing.txt", 404)] {
        let answer = connection.request("GET", path, &[], b"").await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    let asked = fleet.metric("fileserver", "protoplex_requests_total").await;
    assert!(asked.unwrap() >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_role_that_is_named_twice_the_last_counts() {
    let more = ["--nodes", "app=2", "--nodes", "app=0,proxy=2"];
    let fleet = Fleet::start_with("tests/builds/hello.toml", &more).unwrap();
    let nodes = ["proxy", "app", "live", "fileserver"].map(|role| fleet.nodes(role).len());
    assert_eq!(nodes, [2, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_a_role_that_nothing_serves_is_refused() {
    let fleet = Fleet::start("tests/builds/hello.toml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let build = folder.path().join("mail.toml");
    let component = protoplex_tests::repository().join("builds/out/hello.wasm");
    let text = format!(
        "name = \"mail\"\n[handlers.hello]\ncomponent = {component:?}\n\
         [[routes]]\nrole = \"mail\"\npath = \"/*\"\nhandler = \"hello\"\n"
    );
    std::fs::write(&build, text).unwrap();
    let pushed = fleet.push(build.to_str().unwrap(), &[]).unwrap();
    assert_ne!(pushed.code, 0);
    for word in ["mail.toml:5", "mail", "`fileserver`"] {
        assert!(pushed.err.contains(word), "{}", pushed.err);
    }
}
