//! Builds and files that are not needed any more go.

use protoplex_tests::{Connection, Fleet, repository};
use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

const ASSET_BYTES: usize = 512 << 10;
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A manifest with one asset that nothing else is like, and that does not compress.
fn site(folder: &Path) -> String {
    fs::create_dir_all(folder.join("site")).unwrap();
    let mut content = vec![0; ASSET_BYTES];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut content).unwrap();
    fs::write(folder.join("site/big.bin"), content).unwrap();
    let component = repository().join("builds/out/hello.wasm");
    let manifest = format!(
        "name = \"site\"\n[settings]\ngreeting = \"kept\"\n[handlers.hello]\ncomponent = \"{}\"\n\
         grants.settings = [\"greeting\"]\n[[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"hello\"\n\
         [assets]\ndirectory = \"site\"\n",
        component.display()
    );
    let file = folder.join("site.toml");
    fs::write(&file, manifest).unwrap();
    file.to_str().unwrap().to_owned()
}

fn blob_bytes(fleet: &Fleet) -> u64 {
    fn sum(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let size = |entry: fs::DirEntry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => sum(&entry.path()),
            false => entry.metadata().map_or(0, |metadata| metadata.len()),
        };
        entries.map(size).sum()
    }
    sum(&fleet.data().join("seed/data/blobs"))
}

#[tokio::test(flavor = "multi_thread")]
async fn old_builds_go_and_what_a_rollback_needs_stays() {
    let two = |data: &Path| fs::write(data.join("retention.json"), r#"{"builds_max":2}"#);
    let fleet =
        Fleet::start_prepared("tests/builds/hello.toml", &["--nodes", "app=0"], two).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..8 {
        let pushed = fleet.push(&site(folder.path()), &[]).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
    let deadline = Instant::now() + WAIT_MAX;
    // The active build, the one before, and what one push may have brought since.
    while blob_bytes(&fleet) > 4 * ASSET_BYTES as u64 {
        assert!(
            Instant::now() < deadline,
            "{} bytes stay",
            blob_bytes(&fleet)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rolled_back = fleet.run(&["rollback"]).unwrap();
    assert_eq!(rolled_back.code, 0, "{rolled_back:?}");
    let answer = Connection::get_once(&fleet.node("proxy").http, "/").await;
    assert_eq!(answer.unwrap().status, 200);
    // Nobody finds an old one without being told what to do.
    let releases = fleet.run(&["releases", "--json"]).unwrap();
    let releases: Value = serde_json::from_str(&releases.out).unwrap();
    let oldest = releases.as_array().unwrap().last().unwrap()["build"]
        .as_str()
        .unwrap();
    let gone = fleet.run(&["rollback", oldest]).unwrap();
    assert_ne!(gone.code, 0, "{gone:?}");
    assert!(gone.err.contains("push it first"), "{gone:?}");
}

#[test]
fn an_operator_sees_what_a_collection_removes_before_it_does() {
    let fleet = Fleet::start("tests/builds/hello.toml").unwrap();
    let report = |args: &[&str]| -> Value {
        let said = fleet.run(args).unwrap();
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    };
    let dry = report(&["gc", "--dry-run", "--json"]);
    assert_eq!(
        (&dry["builds"], &dry["bytes"]),
        (&serde_json::json!([]), &0.into())
    );
    assert_eq!(dry["kept"]["builds"], 1);
    assert_eq!(report(&["gc", "--json"]), dry);
    let said = fleet.run(&["gc"]).unwrap();
    assert!(said.out.contains("1 builds"), "{said:?}");
}
