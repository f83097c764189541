//! The sample site's board in a real browser: two pages see the same, through everything that happens to a fleet.

use protoplex_tests::{Browser, Fleet, Page, Wire, repository, signal};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// A page that has not heard anything takes its connection for dead after this, and ten seconds more.
const PING: (&str, &str) = (
    "[live.namespaces.board]",
    "[live]\nping_ms = 1000\n\n[live.namespaces.board]",
);
const SILENCE: Duration = Duration::from_secs(15);
/// State that a page shows of itself, for a test that fails.
const SHOWS: &str = "document.body.innerText + JSON.stringify([window.states, board.seen])";

/// The sample build with words replaced.
pub(super) struct Sample(tempfile::TempDir);

impl Sample {
    pub(super) fn new(replace: &[(&str, &str)]) -> Self {
        let (folder, root) = (tempfile::tempdir().unwrap(), repository());
        let mut text = std::fs::read_to_string(root.join("builds/sample.toml")).unwrap();
        let absolute = |path: &str| root.join(path).display().to_string();
        let paths = ["builds/out", "guests/sample/site"].map(|path| (path, absolute(path)));
        let paths = paths.iter().map(|(from, to)| (*from, to.as_str()));
        for (from, to) in paths.chain(replace.iter().copied()) {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(folder.path().join("sample.toml"), text).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self) -> String {
        self.0.path().join("sample.toml").display().to_string()
    }
}

/// Two pages of one browser.
struct Board {
    fleet: Fleet,
    wire: Wire,
    ann: Page,
    bob: Page,
    _browser: Browser,
}

impl Board {
    async fn open(build: &Sample) -> Self {
        let more = ["--nodes", "app=0,live=2", "--drain-timeout", "20"];
        let fleet = Fleet::start_with(&build.path(), &more).unwrap();
        let address = fleet.node("proxy").http;
        let wire = Wire::to(&address).await.unwrap();
        let browser = Browser::start().await.unwrap();
        let url = |address: &str, name: &str| format!("http://{address}/board.html?name={name}");
        let mut ann = browser.open(&url(&address, "ann")).await.unwrap();
        let mut bob = browser.open(&url(&wire.address, "bob")).await.unwrap();
        for page in [&mut ann, &mut bob] {
            page.until(
                "document.querySelectorAll('#members li').length === 2",
                "document.body.innerText",
            )
            .await
            .unwrap();
            page.value(
                "window.states = []; window.answers = []; window.lost = 0; \
                 (() => { const told = board.live.onState; \
                 board.live.onState = (state, why) => { states.push(state); told(state, why); }; \
                 board.live.onMessage = (answer) => answers.push(answer); \
                 new MutationObserver(() => { lost += document.getElementById('recovered').dataset.recovered === 'false' ? 1 : 0; }) \
                   .observe(document.getElementById('recovered'), {attributes: true}); })()",
            )
            .await
            .unwrap();
        }
        Self {
            fleet,
            wire,
            ann,
            bob,
            _browser: browser,
        }
    }

    /// Both say something and draw something, and both see all of it.
    async fn busy(&mut self, what: &str) {
        for page in [&mut self.ann, &mut self.bob] {
            page.until("board.live.state === 'connected'", SHOWS)
                .await
                .unwrap();
            let say = format!(
                "document.getElementById('say').value = '{what}'; document.getElementById('talk').requestSubmit()"
            );
            page.value(&say).await.unwrap();
            let corner = "(() => { const at = document.getElementById('canvas').getBoundingClientRect(); return [at.left, at.top]; })()";
            let corner = page.value(corner).await.unwrap();
            let at = |index: usize, by: f64| corner[index].as_f64().unwrap() + by;
            let line = [
                (at(0, 20.0), at(1, 20.0)),
                (at(0, 60.0), at(1, 40.0)),
                (at(0, 90.0), at(1, 30.0)),
            ];
            page.draw(&line).await.unwrap();
        }
        let seen = format!(
            "['ann', 'bob'].every((who) => {{\
             const said = board.seen.findIndex(({{data}}) => data.say?.from === who && data.say.text === '{what}');\
             return said >= 0 && board.seen.slice(said).some(({{data}}) => data.stroke?.from === who); }})"
        );
        for page in [&mut self.ann, &mut self.bob] {
            page.until(&seen, SHOWS).await.unwrap();
        }
    }

    /// The board that both saw, once they agree.
    async fn agreed(&mut self) -> Value {
        let seen = "board.seen.map(({position, data}) => [position, data])";
        let (mut ann, mut bob) = (Value::Null, Value::Null);
        for _ in 0..200 {
            ann = self.ann.value(seen).await.unwrap();
            bob = self.bob.value(seen).await.unwrap();
            if ann == bob {
                return ann;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("they do not agree:\n{ann}\n{bob}");
    }

    /// Changes of state of a page's connection, and how often it was told that something may be missing.
    async fn history(page: &mut Page) -> (Value, Value) {
        let states = page.value("states").await.unwrap();
        (states, page.value("lost").await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_notice_nothing_of_a_new_build_and_it_still_knows_them() {
    let mut board = Board::open(&Sample::new(&[])).await;
    board.busy("before").await;
    board.ann.value("board.live.send('ask')").await.unwrap();
    let other = Sample::new(&[
        ("greeting = \"hello\"", "greeting = \"again\""),
        ("board.wasm\"", "board.wasm\"\nlimits.cpu_ms_max = 4"),
    ]);
    let pushed = board.fleet.push(&other.path(), &[]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    board.ann.value("board.live.send('ask')").await.unwrap();
    board
        .ann
        .until("answers.length === 2", SHOWS)
        .await
        .unwrap();
    let answers = board.ann.value("answers").await.unwrap();
    let expected = json!([{"asked": 1, "greeting": "hello"}, {"asked": 2, "greeting": "again"}]);
    assert_eq!(answers, expected);
    board.busy("after").await;
    let seen = board.agreed().await;
    assert_eq!(seen.as_array().unwrap().len(), 8, "{seen}");
    for page in [&mut board.ann, &mut board.bob] {
        assert_eq!(Board::history(page).await, (json!([]), json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_miss_nothing_while_every_live_node_drains() {
    let mut board = Board::open(&Sample::new(&[])).await;
    board.busy("before").await;
    for name in ["live-1", "live-2"] {
        board.fleet.drain_and_restart(name).await.unwrap();
        board.busy(name).await;
    }
    let seen = board.agreed().await;
    assert_eq!(seen.as_array().unwrap().len(), 12, "{seen}");
    let mut changes = 0;
    for page in [&mut board.ann, &mut board.bob] {
        let (states, lost) = Board::history(page).await;
        assert_eq!(lost, json!(0), "{states}");
        changes += states.as_array().unwrap().len();
    }
    assert!(changes > 0, "somebody was on a node that drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_back_from_a_killed_child_and_agree_on_what_was_lost() {
    let mut board = Board::open(&Sample::new(&[])).await;
    board.busy("before").await;
    for node in board.fleet.nodes("live") {
        for child in board.fleet.children(&node).unwrap() {
            signal(child, Signal::KILL).unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
    board.busy("after").await;
    board.agreed().await;
    let (_, lost) = Board::history(&mut board.ann).await;
    assert_ne!(
        lost,
        json!(0),
        "every child was killed, and the board's among them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_network_pauses_is_given_what_it_missed() {
    let mut board = Board::open(&Sample::new(&[PING])).await;
    board.busy("before").await;
    board.wire.interrupt();
    for text in ["one", "two", "three"] {
        let publish =
            format!("board.live.publish('board:main', {{say: {{from: 'ann', text: '{text}'}}}})");
        board.ann.value(&publish).await.unwrap();
    }
    tokio::time::sleep(SILENCE).await;
    let unseen = "!board.seen.some(({data}) => data.say?.text === 'one')";
    assert_eq!(
        board.bob.value(unseen).await.unwrap(),
        json!(true),
        "nothing came through"
    );
    board.wire.resume();
    board
        .bob
        .until(
            "board.seen.some(({data}) => data.say?.text === 'three')",
            SHOWS,
        )
        .await
        .unwrap();
    board.busy("after").await;
    let seen = board.agreed().await;
    assert_eq!(seen.as_array().unwrap().len(), 11, "{seen}");
    let (states, lost) = Board::history(&mut board.bob).await;
    assert_eq!(lost, json!(0), "{states}");
    assert!(
        states.as_array().unwrap().contains(&json!("connected")),
        "it came back: {states}"
    );
}
