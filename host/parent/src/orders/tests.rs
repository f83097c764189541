//! Orders as a node without a running child and without a link takes them: what it does shows in what it keeps.

use super::step::Step;
use crate::child_files;
use crate::{
    actor::{Actor, Site},
    builds::{Builder, ReadyBuild},
    native_files::NativeFiles,
    store::Store,
};
use protoplex_control::{messages::ChildConfig, socket::sealed_memfd};
use protoplex_native::NativeCache;
use protoplex_wire::{BuildId, ReleaseId, manifest::Role, signature::Envelope, status::Addresses};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};
use tokio_util::task::TaskTracker;

/// A node whose only child does not run.
fn actor(dir: &Path) -> Actor {
    let config = ChildConfig {
        node: "node".into(),
        role: Role::Proxy,
        index: 0,
        children: 1,
        threads: 1,
        control_fd: -1,
        http_fds: Vec::new(),
        https_fds: Vec::new(),
        files_fd: -1,
        instances_max: 0,
        drain_timeout_ms: 0,
        region: String::new(),
        relay_fds: Vec::new(),
        internal_fds: Vec::new(),
        ingress: Default::default(),
    };
    let builder = Builder {
        dir: dir.into(),
        native: NativeFiles::new(NativeCache::open(&dir.join("native"), 0).unwrap()),
        trusted: Vec::new(),
        seed: None,
    };
    let store = Store::open(dir).unwrap();
    let site = Site {
        addresses: Addresses::default(),
        child_addresses: Vec::new(),
        capacity: 0,
        plain: Vec::new(),
        others: Vec::new(),
    };
    let made = Actor::new(
        config,
        site,
        child_files::FileKeeper::nothing(),
        store,
        builder,
        Arc::default(),
        TaskTracker::new(),
    );
    made.unwrap().0
}

fn ready_build() -> Arc<ReadyBuild> {
    let text = br#"{"format":1,"handlers":{},"name":"empty","routes":[]}"#;
    let id = BuildId::of(text);
    let file = || sealed_memfd("test", |_| Ok(())).unwrap();
    let (key_id, sig) = (String::new(), String::new());
    Arc::new(ReadyBuild {
        id,
        envelope: Envelope {
            build: id,
            key_id,
            sig,
        },
        manifest_fd: file(),
        pack_fd: file(),
        native: BTreeMap::new(),
    })
}

#[tokio::test]
async fn what_was_prepared_for_a_release_that_failed_elsewhere_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (mut actor, build) = (actor(dir.path()), ready_build());
    let release = ReleaseId {
        epoch: 1,
        sequence: 1,
    };
    actor.orders.hold(&build);
    actor.seats[0].builds.insert(build.id);
    actor.abandon(release).await;
    assert!(actor.orders.ready.is_empty());
    assert!(actor.seats[0].builds.is_empty());
    // Not so what is being prepared just now.
    actor.seats[0].builds.insert(build.id);
    actor.orders.step = Some(Step {
        release: ReleaseId {
            sequence: 2,
            ..release
        },
        build: Some(Arc::clone(&build)),
        waiting: [0].into(),
        confirmed: false,
        activating: false,
        since: Instant::now(),
    });
    actor.abandon(release).await;
    assert!(actor.seats[0].builds.contains(&build.id));
}

/// Guarantee 10, whatever Seed sends it.
#[tokio::test]
async fn an_order_below_one_that_was_taken_is_refused_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let build = ready_build();
    let number = |epoch, sequence| ReleaseId { epoch, sequence };
    actor(dir.path())
        .store
        .take(number(2, 5), build.id)
        .unwrap();
    // Over a restart, too.
    let mut actor = actor(dir.path());
    actor.orders.hold(&build);
    for older in [number(2, 4), number(1, 9)] {
        actor.prepare(older, build.id, build.envelope.clone()).await;
        actor.activate(older, build.id).await;
        assert!(actor.orders.step.is_none(), "{older}");
        assert_eq!(actor.store.state().release, number(2, 5), "{older}");
    }
    for newer in [number(2, 5), number(2, 6), number(3, 1)] {
        actor.prepare(newer, build.id, build.envelope.clone()).await;
        assert_eq!(actor.store.state().release, newer);
        actor.activate(newer, build.id).await;
        let step = actor.orders.step.as_ref().unwrap();
        assert!(step.activating && step.release == newer, "{newer}");
    }
}

/// A Seed that was started from an older copy of its disk hands out numbers a second time.
#[tokio::test]
async fn another_build_under_a_number_that_was_taken_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut actor, build) = (actor(dir.path()), ready_build());
    let release = ReleaseId {
        epoch: 1,
        sequence: 7,
    };
    actor.store.take(release, BuildId::of(b"another")).unwrap();
    actor.orders.hold(&build);
    actor
        .prepare(release, build.id, build.envelope.clone())
        .await;
    actor.activate(release, build.id).await;
    assert!(actor.orders.step.is_none());
    let taken = actor.store.state().release_build;
    assert_eq!(taken, Some(BuildId::of(b"another")));
    assert_eq!(actor.hello().release_build, taken, "the Seed hears of it");
}
