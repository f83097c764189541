//! Servers behind the proxy that lie, cut and reset. A visitor gets a whole answer or sees that it is none, and nobody
//! ever gets a byte that was meant for another request.

use crate::relaying::{fleet, fleet_with};
use protoplex_tests::{Connection, Origin, Response, read_head};
use std::{sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// Time that a server which hangs is waited for; all others are given that much, too.
const PATIENCE: &str = "first_byte_timeout_ms = 2000\nidle_timeout_ms = 2000";
/// A case is over by then.
const CASE_MAX: Duration = Duration::from_secs(10);

/// End of the connection after an origin's bytes.
#[derive(Clone, Copy)]
enum Then {
    /// Takes the next request.
    Keep,
    Close,
    Reset,
    Hang,
}

/// Responses that a client may get.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    /// This status, and this body in full.
    Whole(u16, &'static str),
    /// This status, with a text of the proxy's own.
    Status(u16),
    /// A head, perhaps, and less than a body.
    Cut,
}
use {Gets::*, Then::*};

struct Case {
    what: &'static str,
    says: &'static str,
    then: Then,
    /// Any of these.
    gets: &'static [Gets],
}

const fn case(what: &'static str, says: &'static str, then: Then, gets: &'static [Gets]) -> Case {
    Case {
        what,
        says,
        then,
        gets,
    }
}

static CASES: [Case; 40] = [
    case("nothing, and a close", "", Close, &[BAD]),
    case("nothing, and a reset", "", Reset, &[BAD]),
    case("nothing", "", Hang, &[LATE]),
    case(
        "half a head, and a close",
        "HTTP/1.1 200 OK\r\nContent-Le",
        Close,
        &[BAD],
    ),
    case(
        "half a head, and a reset",
        "HTTP/1.1 200 OK\r\nContent-Le",
        Reset,
        &[BAD],
    ),
    case(
        "half a head",
        "HTTP/1.1 200 OK\r\nContent-Le",
        Hang,
        &[LATE],
    ),
    case(
        "another protocol",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "another version",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "a status of two digits",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "a status of four digits",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "a status below 100",
        "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "NUL in a field",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "a field without colon",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
        Hang,
        &[BAD],
    ),
    case(
        "a space before a colon",
        "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nevil",
        Hang,
        &[BAD],
    ),
    case(
        "two lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\nevil",
        Keep,
        &[BAD],
    ),
    case(
        "two lengths in a list",
        "HTTP/1.1 200 OK\r\nContent-Length: 4, 0\r\n\r\nevil",
        Keep,
        &[BAD],
    ),
    case(
        "a length with a plus",
        "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nevil",
        Keep,
        &[BAD],
    ),
    case(
        "a negative length",
        "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nevil",
        Keep,
        &[BAD],
    ),
    case(
        "a length beside chunks",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        Keep,
        &[BAD, Cut, Whole(200, "evil")],
    ),
    case(
        "an unknown coding",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nevil",
        Hang,
        &[BAD, Cut],
    ),
    case(
        "an upgrade that nobody asked for",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nevil",
        Hang,
        &[BAD],
    ),
    case(
        "less than its length, and a close",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        Close,
        &[Cut],
    ),
    case(
        "less than its length, and a reset",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        Reset,
        &[Cut, BAD],
    ),
    case(
        "less than its length",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        Hang,
        &[Cut],
    ),
    case(
        "chunks without an end, and a close",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        Close,
        &[Cut],
    ),
    case(
        "chunks without an end, and a reset",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        Reset,
        &[Cut, BAD],
    ),
    case(
        "chunks without an end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        Hang,
        &[Cut],
    ),
    case(
        "a chunk's size that is none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nevil\r\n0\r\n\r\n",
        Keep,
        &[Cut, BAD],
    ),
    case(
        "a chunk longer than its size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nevil\r\n0\r\n\r\n",
        Keep,
        &[Cut, BAD],
    ),
    case(
        "a chunk above 64 bits",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000004\r\nevil\r\n0\r\n\r\n",
        Keep,
        &[Cut, BAD],
    ),
    case(
        "more than its length",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwholeevil",
        Keep,
        &[Whole(200, "whole")],
    ),
    case(
        "an answer that nobody asked for",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwholeHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Keep,
        &[Whole(200, "whole")],
    ),
    case(
        "more than its chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\nevil",
        Keep,
        &[Whole(200, "whole")],
    ),
    case(
        "a body to 204",
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        Keep,
        &[Whole(204, ""), BAD],
    ),
    case(
        "a body to 304",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
        Keep,
        &[Whole(304, "")],
    ),
    case(
        "an interim answer first",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
        Keep,
        &[Whole(200, "whole")],
    ),
    case(
        "a body to its close",
        "HTTP/1.1 200 OK\r\n\r\nwhole",
        Close,
        &[Whole(200, "whole")],
    ),
    case(
        "a body to its reset",
        "HTTP/1.1 200 OK\r\n\r\nshort",
        Reset,
        &[Cut, BAD],
    ),
    case(
        "HTTP/1.0, to its close",
        "HTTP/1.0 200 OK\r\n\r\nwhole",
        Close,
        &[Whole(200, "whole")],
    ),
    case(
        "HTTP/1.0 with chunks",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        Close,
        &[BAD],
    ),
];

const BAD: Gets = Status(502);
const LATE: Gets = Status(504);
const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// Answers `/N` as case N says, and everything else well.
async fn liar(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let index = path
            .strip_prefix('/')
            .and_then(|path| path.parse::<usize>().ok());
        let (says, then) = match index.and_then(|index| CASES.get(index)) {
            Some(case) => (case.says, case.then),
            None => (GOOD, Keep),
        };
        if stream.write_all(says.as_bytes()).await.is_err() {
            return;
        }
        match then {
            Keep => {}
            Close => return,
            Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
            Hang => {
                // Until the proxy has had enough.
                while read_head(&mut stream).await.is_some() {}
                return;
            }
        }
    }
}

fn what_came(answer: anyhow::Result<Response>) -> Result<(u16, String), String> {
    let answer = answer.map_err(|error| format!("{error:#}"))?;
    Ok((answer.status, answer.text()))
}

fn is_right(came: &Result<(u16, String), String>, gets: Gets) -> bool {
    match (came, gets) {
        (Ok((status, body)), Whole(right, text)) => *status == right && body == text,
        (Ok((status, _)), Status(right)) => *status == right,
        (Err(_), Cut) => true,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_says_a_visitor_gets_its_own_answer_whole_or_knows_better() {
    let origin = Origin::start(liar).await.unwrap();
    let fleet = fleet_with(&[&origin.address], PATIENCE, "");
    let address = Arc::new(fleet.node("proxy").http);
    let mut cases = tokio::task::JoinSet::new();
    for (index, case) in CASES.iter().enumerate() {
        let address = Arc::clone(&address);
        cases.spawn(async move {
            let path = format!("/{index}");
            let asked = timeout(CASE_MAX, Connection::get_once(&address, &path)).await;
            let Ok(came) = asked.map(what_came) else {
                return Some(format!("{}: it hangs", case.what));
            };
            let right = case.gets.iter().any(|gets| is_right(&came, *gets));
            (!right).then(|| format!("{}: {came:?} instead of {:?}", case.what, case.gets))
        });
    }
    let mut faults: Vec<String> = cases.join_all().await.into_iter().flatten().collect();
    // On the same connections behind: one after another, with an honest request in between, to whoever asks.
    for (index, case) in CASES
        .iter()
        .enumerate()
        .filter(|(_, case)| matches!(case.then, Keep))
    {
        for _ in 0..4 {
            let _ = Connection::get_once(&address, &format!("/{index}")).await;
            let good = what_came(Connection::get_once(&address, "/good").await);
            if good != Ok((200, "good".to_owned())) {
                faults.push(format!("the one after {}: {good:?}", case.what));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for gauge in ["protoplex_connections", "protoplex_in_flight"] {
        fleet
            .wait_for_metric("proxy", gauge, |left| left == 0.0)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_a_body_reaches_the_visitor_and_harms_nobody_after() {
    // A body that is not read to its end would be the next request.
    let origin = Origin::answering(|head| match head.starts_with("POST") {
        true => "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge",
        false => GOOD,
    });
    let origin = origin.await.unwrap();
    let fleet = fleet(&origin);
    let address = fleet.node("proxy").http;
    let evil = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(8_000);
    for _ in 0..5 {
        let mut connection = Connection::open(&address).await.unwrap();
        let early = connection.request("POST", "/", &[], &evil).await;
        // The proxy may close while the visitor still sends.
        if let Ok(early) = early {
            assert_eq!((early.status, early.text().as_str()), (413, "large"));
        }
        for _ in 0..4 {
            let good = Connection::get_once(&address, "/").await.unwrap();
            assert_eq!((good.status, good.text().as_str()), (200, "good"));
        }
    }
}
