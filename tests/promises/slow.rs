//! Visitors that are slow on purpose: they get their time and no more, and nobody else waits for them.

use protoplex_tests::{Connection, Fleet, Program};
use std::time::{Duration, Instant};

/// Slow connections at once.
const ATTACKERS: u32 = 200;
/// Longest wait of a decent client while slow ones are there.
const PATIENCE: Duration = Duration::from_secs(2);
/// An attack that nobody ends goes on for so many seconds, which is longer than any deadline.
const ATTACK_SECONDS: &str = "70";

/// Starts slowhttptest in one of its modes against a path.
fn attack(fleet: &Fleet, mode: &[&str], path: &str) -> Program {
    let url = format!("http://{}{path}", fleet.node("proxy").http);
    let attackers = ATTACKERS.to_string();
    let mut args = vec!["-c", &attackers, "-r", &attackers, "-p", "2", "-v", "1"];
    args.extend(["-u", &url, "-l", ATTACK_SECONDS]);
    args.extend(mode);
    Program::start("slowhttptest", &args, &[]).unwrap()
}

/// Decent visitors are served while most of the attackers are connected.
async fn others_are_served(fleet: &Fleet) {
    let most = f64::from(ATTACKERS) * 0.9;
    let connections = "protoplex_connections";
    fleet
        .wait_for_metric("proxy", connections, |open| open >= most)
        .await;
    let address = fleet.node("proxy").http;
    for _ in 0..100 {
        let asked = Instant::now();
        let answer = Connection::get_once(&address, "/hello").await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    }
}

/// The attackers are closed, all of them, within a deadline.
fn they_are_let_go(mut attack: Program, max: Duration) {
    let report = tokio::task::block_in_place(|| attack.finished(max)).unwrap();
    assert!(report.contains("No open connections left"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_come_slowly_hold_up_nobody_and_are_let_go() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let attack = attack(&fleet, &["-H", "-i", "1", "-x", "8"], "/hello");
    others_are_served(&fleet).await;
    // The head's deadline is 15 s, however much comes.
    they_are_let_go(attack, Duration::from_secs(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_hold_up_nobody_and_are_let_go() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let attack = attack(&fleet, &["-B", "-i", "60", "-s", "8192"], "/api/echo");
    others_are_served(&fleet).await;
    // The body's deadline is 30 s of silence.
    they_are_let_go(attack, Duration::from_secs(45));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_read_slowly_hold_up_nobody_and_leave_nothing_behind() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let mode = ["-X", "-k", "10", "-w", "1", "-y", "8", "-n", "2", "-z", "1"];
    let attack = attack(&fleet, &mode, "/site.js");
    others_are_served(&fleet).await;
    drop(attack);
    for gauge in ["protoplex_connections", "protoplex_in_flight"] {
        fleet
            .wait_for_metric("proxy", gauge, |left| left == 0.0)
            .await;
    }
}
