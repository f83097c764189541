//! A probe that passes is an answer that a client could have: whole, well-formed, and within the handler's grants.

use super::{SWAP, assert_said};
use protoplex_tests::{Fleet, Pushed, repository};

/// Pushes a build of one handler with that probe.
fn push(fleet: &Fleet, guest: &str, role: &str, path: &str) -> Pushed {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probed.toml");
    let component = repository().join(format!("builds/out/{guest}.wasm"));
    let grants = match guest {
        "bad-edge" => "relay = [\"role:app\"]\nassets = [\"/is-not-there\"]",
        _ => "",
    };
    let text = format!(
        "name = \"probed\"\n[handlers.probed]\ncomponent = \"{}\"\n[handlers.probed.probe]\npath = \"{path}\"\n\
         [handlers.probed.grants]\n{grants}\n\
         [handlers.probed.limits]\nresponse_bytes_max = 65536\n\
         [[routes]]\nrole = \"{role}\"\npath = \"/*\"\nhandler = \"probed\"\n",
        component.display()
    );
    std::fs::write(&file, text).unwrap();
    tokio::task::block_in_place(|| fleet.push(file.to_str().unwrap(), &[])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_fails_where_every_request_would() {
    let fleet = Fleet::start(SWAP).unwrap();
    for (path, reason) in [
        ("/ungranted-relay", "`not-granted` is not in grants.relay"),
        ("/ungranted-asset", "is outside grants.assets"),
        ("/ungranted-app", "is not in grants.apps"),
        ("/bad-asset", "the build has no asset `/is-not-there.html`"),
        ("/bad-status", "99 is no final status"),
        ("/status-101", "101 is no final status"),
        ("/bad-header-name", "`a b` is no header name"),
        ("/bad-header-value", "has control characters"),
        ("/bad-length", "`content-length` is the host's to set"),
        ("/bad-redirect", "200 is no redirect"),
        ("/bad-relay-path", "the path to relay to must start with"),
        ("/big-response?n=65537", "65536 is the most"),
    ] {
        let pushed = push(&fleet, "bad-edge", "proxy", path);
        assert_said(&pushed, 3, &["at warm-up: ", reason]);
    }
    for (guest, path, reason) in [
        ("bad-app", "/half-stream", "its body was cut: trap"),
        ("bad-app", "/unreachable-later", "its body was cut: trap"),
        ("bad-app", "/trailers-fail", "its body was cut: "),
        (
            "bad-app",
            "/trailers-fail-at-once",
            "answered with an error",
        ),
        ("bad-app", "/short-body", "its body was cut: "),
        ("bad-app", "/big-response?n=65537", "65536 is the most"),
        ("bad-app02", "/unfinished", "its body was cut: "),
    ] {
        let pushed = push(&fleet, guest, "app", path);
        assert_said(&pushed, 3, &["at warm-up: ", reason]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_passes_whatever_a_client_could_be_answered() {
    let fleet = Fleet::start(SWAP).unwrap();
    for (guest, role, path) in [
        ("bad-edge", "proxy", "/ok"),
        ("bad-edge", "proxy", "/is-not-there-either"),
        ("bad-edge", "proxy", "/big-response?n=65536"),
        ("bad-app", "app", "/trailers-only"),
        ("bad-app", "app", "/big-response?n=65536"),
        // As an event stream does.
        ("bad-app", "app", "/silent-body"),
        ("bad-app02", "app", "/trailers"),
    ] {
        let pushed = push(&fleet, guest, role, path);
        assert_eq!(pushed.code, 0, "{guest}{path}: {pushed:?}");
    }
}
