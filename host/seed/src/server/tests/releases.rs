//! Tests of releases over real links: deadlines, restarts of the Seed, and numbers that only rise.

use super::*;
use protoplex_wire::status::{AnswerKind, ReleaseOutcome};

/// Timeout of a phase. Short, since it is waited for; and long enough for those who do answer.
const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_release_is_promoted_when_every_node_has_switched() {
    let seed = TestSeed::start(NEVER).await;
    let build = seed.build("one").await;
    let (mut a, mut b) = (seed.node("a").await, seed.node("b").await);
    let events = seed.order(build).await.unwrap();
    let (of_a, of_b) = tokio::join!(a.follow(), b.follow());
    assert_eq!(of_a, of_b);
    let record = end_of(events).await;
    assert_eq!(record.outcome, ReleaseOutcome::Promoted);
    assert_eq!(record.release, of_a.0);
    let status = seed.operator().status().await.unwrap();
    assert_eq!(status.active, Some(build));
}

#[tokio::test]
async fn a_silent_node_makes_the_release_revert_by_its_deadline() {
    let seed = TestSeed::start(DEADLINE).await;
    let build = seed.build("one").await;
    let (mut good, mut mute) = (seed.node("good").await, seed.node("mute").await);
    let deadline_ms = u64::try_from(DEADLINE.as_millis()).unwrap();

    let events = seed.order(build).await.unwrap();
    let (release, _) = good.hear_prepare().await;
    good.prepared(release).await;
    let record = end_of(events).await;
    assert_eq!(record.outcome, ReleaseOutcome::Reverted);
    let said = format!("no answer to prepare within {deadline_ms} ms from mute");
    assert_eq!(record.reason, Some(said));
    assert!(record.elapsed_ms >= deadline_ms, "{record:?}");
    let missing = record.answers.iter().find(|answer| answer.node == "mute");
    assert_eq!(missing.unwrap().answer, AnswerKind::Missing);
    assert!(matches!(good.hear().await, FromSeed::Abandon { .. }));

    // A node that is silent in the second phase is missing as well.
    mute.hear_prepare().await;
    assert!(matches!(mute.hear().await, FromSeed::Abandon { .. }));
    let events = seed.order(build).await.unwrap();
    let (release, _) = mute.hear_prepare().await;
    mute.prepared(release).await;
    let (_, record) = tokio::join!(good.follow(), end_of(events));
    assert_eq!(record.outcome, ReleaseOutcome::Reverted);
    let said = format!("no answer to activate within {deadline_ms} ms from mute");
    assert_eq!(record.reason, Some(said));
    assert_eq!(seed.operator().status().await.unwrap().active, None);
}

#[tokio::test]
async fn a_node_that_leaves_while_preparing_ends_the_release_at_once() {
    let seed = TestSeed::start(NEVER).await;
    let build = seed.build("one").await;
    let mut node = seed.node("a").await;
    let events = seed.order(build).await.unwrap();
    node.hear_prepare().await;
    drop(node);
    let record = end_of(events).await;
    let said = "node a left while it prepared the build".to_owned();
    assert_eq!(
        (record.outcome, record.reason),
        (ReleaseOutcome::Reverted, Some(said))
    );
}

#[tokio::test]
async fn a_seed_restarted_in_a_release_reverts_it_and_its_nodes() {
    let mut seed = TestSeed::start(NEVER).await;
    let (one, two) = (seed.build("one").await, seed.build("two").await);
    let mut node = seed.node("a").await;
    let events = seed.order(one).await.unwrap();
    node.follow().await;
    assert_eq!(end_of(events).await.outcome, ReleaseOutcome::Promoted);

    // The node has switched, but its ACK never came.
    let _events = seed.order(two).await.unwrap();
    let (cut, _) = node.hear_prepare().await;
    node.prepared(cut).await;
    node.hear_activate().await;
    drop(node);
    seed.restart().await;

    let operator = seed.operator();
    let record = operator.releases().await.unwrap().remove(0);
    assert_eq!(
        (record.release, record.outcome),
        (cut, ReleaseOutcome::Reverted)
    );
    let reason = record.reason.unwrap();
    assert!(reason.contains("the Seed stopped"), "{reason}");
    let status = operator.status().await.unwrap();
    assert_eq!((status.active, status.running), (Some(one), None));
    assert!(
        status.release > cut,
        "{} is not above {cut}",
        status.release
    );

    let mut node = seed.node_that_held("a", cut).await;
    let (back, build) = node.follow().await;
    assert_eq!(build, one);
    assert!(back > cut);
}

#[tokio::test]
async fn numbers_of_releases_only_rise_over_restarts_and_failures() {
    let mut seed = TestSeed::start(DEADLINE).await;
    let build = seed.build("one").await;
    let mut last = ReleaseId::default();
    for _ in 0..3 {
        let mute = seed.node("mute").await;
        let record = end_of(seed.order(build).await.unwrap()).await;
        assert_eq!(record.outcome, ReleaseOutcome::Reverted);
        assert!(record.release > last, "{} after {last}", record.release);
        last = record.release;
        drop(mute);
        seed.restart().await;
        assert!(seed.operator().status().await.unwrap().release >= last);
    }
}

#[tokio::test]
async fn a_seed_that_lost_its_data_goes_above_what_a_node_has_taken() {
    let mut seed = TestSeed::start(NEVER).await;
    let build = seed.build("one").await;
    let held = ReleaseId {
        epoch: 7,
        sequence: 9,
    };
    let mut node = seed.node_that_held("a", held).await;
    let events = seed.order(build).await.unwrap();
    let (release, _) = node.follow().await;
    assert!(release > held, "{release} would be refused for ever");
    assert_eq!(end_of(events).await.outcome, ReleaseOutcome::Promoted);
    drop(node);
    seed.restart().await;
    let status = seed.operator().status().await.unwrap();
    assert!(status.release >= release);
}

#[tokio::test]
async fn a_node_of_another_fleets_numbers_is_not_let_in() {
    let seed = TestSeed::start(NEVER).await;
    let held = ReleaseId {
        epoch: u64::MAX,
        sequence: 0,
    };
    let client = seed.node_client("a");
    let (_sender, mut receiver) = client.link(hello("a", held)).await.unwrap();
    assert!(receiver.next().await.is_none_or(|said| said.is_err()));
    assert_eq!(seed.operator().status().await.unwrap().release.epoch, 1);
}

#[tokio::test]
async fn a_second_link_of_a_node_ends_the_first() {
    let seed = TestSeed::start(NEVER).await;
    let mut first = seed.node("a").await;
    let _second = seed.node("a").await;
    let end = async {
        while let Some(Ok(message)) = first.receiver.next().await {
            assert!(matches!(message, FromSeed::Directory { .. }), "{message:?}");
        }
    };
    tokio::time::timeout(NEVER, end).await.unwrap();
    assert_eq!(seed.operator().status().await.unwrap().nodes_connected, 1);
}

#[tokio::test]
async fn two_seeds_never_run_on_one_directory() {
    let seed = TestSeed::start(NEVER).await;
    let authority = seed.authority();
    let issued = authority.issue_seed(&[]).unwrap();
    let config = SeedConfig {
        data: seed.dir.path().join("data"),
        ca: authority.ca(),
        cert: issued.cert,
        key: issued.key,
        release_keys: Vec::new(),
        bind: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        prepare_timeout_ms: 1,
        activate_timeout_ms: 1,
        retention: Default::default(),
        native_bytes_max: 0,
    };
    let running = run(config, TrustingCheck, CancellationToken::new(), |_| ());
    let ended = tokio::time::timeout(NEVER, running).await.unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("is in use by another Seed"), "{error}");
}
