//! A build that fails on the nodes is reverted by itself: node, stage and reason are named, visitors notice nothing.

use super::{SWAP, assert_said, client, greeting, releases};
use protoplex_tests::{Fleet, Load};
use protoplex_wire::{
    Manifest,
    release::Stage,
    signature::{Envelope, signing_key},
    status::{AnswerKind, ReleaseEvent, ReleaseOrder, ReleaseOutcome},
};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_warm_up_reverts_with_node_stage_and_reason_and_no_visitor_notices() {
    let fleet = Fleet::start(SWAP).unwrap();
    let load = Load::start(&fleet.node("proxy").http, "/", 4, |response| {
        match (response.status, response.text().trim()) {
            (200, "blue") => Ok("blue".to_owned()),
            (status, text) => Err(format!("{status}: {text}")),
        }
    });
    for (name, reason) in [
        ("broken-probe", "broken, as the probe should find"),
        ("broken-start", "handler `broken`, made no instance: trap"),
        ("broken-table", "10000 is the most (table_elements_max)"),
        ("broken-instances", "1 is the most (instances_max)"),
    ] {
        let file = format!("tests/builds/{name}.toml");
        let pushed = tokio::task::block_in_place(|| fleet.push(&file, &[])).unwrap();
        assert_said(
            &pushed,
            3,
            &[
                "was reverted: node ",
                "refused it at warm-up: ",
                reason,
                "runs on as before",
            ],
        );
        assert!(pushed.out.contains("refused"), "{pushed:?}");

        let record = releases(&fleet).remove(0);
        assert_eq!(
            (record.name.as_str(), record.outcome),
            (name, ReleaseOutcome::Reverted)
        );
        let refused = record.answers.iter().any(|answer| {
            matches!(&answer.answer, AnswerKind::Nack { stage: Stage::WarmUp, reason: why } if why.contains(reason))
                && ["proxy-1", "app-1"].contains(&answer.node.as_str())
        });
        assert!(refused, "{record:?}");
        assert!(record.reason.unwrap().contains(reason));
    }
    let report = load.finish().await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.total() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_damaged_on_the_seeds_disk_reverts_the_release() {
    let fleet = Fleet::start(SWAP).unwrap();
    let client = client(&fleet);
    let said = fleet
        .command(&["build", "tests/builds/hello-b.toml", "--json"])
        .unwrap();
    let said = protoplex_tests::said(&mut { said }).unwrap();
    let manifest = Manifest::parse(said.out.trim().as_bytes()).unwrap();
    let key = fs::read_to_string(fleet.info["release_key"].as_str().unwrap()).unwrap();
    let component = manifest.handlers["hello"].component;
    let wasm = fs::read(protoplex_tests::repository().join("builds/out/hello-b.wasm")).unwrap();
    client
        .put_blob(component, wasm.clone().into(), |_| ())
        .await
        .unwrap();
    client
        .put_blob(manifest.id(), manifest.canonical().into(), |_| ())
        .await
        .unwrap();
    let envelope = Envelope::sign(manifest.id(), &signing_key(&key).unwrap());
    client.submit(&envelope).await.unwrap();

    // Accepted, and then the disk loses a byte. No node has this component yet.
    let name = component.to_string();
    let stored = fleet
        .data()
        .join("seed/data/blobs")
        .join(&name[..2])
        .join(&name);
    fs::write(&stored, &wasm[..wasm.len() - 1]).unwrap();
    let order = ReleaseOrder {
        build: manifest.id(),
        made_against: None,
    };
    let mut events = client.release(&order).await.unwrap();
    let record = loop {
        if let ReleaseEvent::Finished(record) = events.next().await.unwrap().unwrap() {
            break record;
        }
    };
    assert_eq!(record.outcome, ReleaseOutcome::Reverted);
    let reason = record.reason.unwrap();
    assert!(
        reason.contains("refused it at fetch: ") && reason.contains("damaged"),
        "{reason}"
    );
    assert_eq!(greeting(&fleet).await, "blue");
}
