//! Whatever stands on the wire, a server behind the proxy sees requests that were decided on, and nothing else.

mod backs;
mod table;

use crate::relaying::fleet_with;
use backs::Back;
use protoplex_tests::{Connection, Fleet, python, repository};
use std::{collections::BTreeSet, time::Duration};
use table::{Case, cases};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A case is over by then, whatever the proxy waits for.
const CASE_MAX: Duration = Duration::from_secs(20);

/// Everything that came until the proxy closed, as the heads of its final answers.
async fn answers(address: &str, bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut stream = TcpStream::connect(address).await?;
    // It may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut all = Vec::new();
    // So may the end be a reset.
    let _ = tokio::time::timeout(CASE_MAX, stream.read_to_end(&mut all)).await?;
    let text = String::from_utf8_lossy(&all).into_owned();
    let heads = text.split("HTTP/1.1 ").skip(1);
    // Not interim ones, nor the words in an answer's text.
    let is_final = |head: &&str| head.starts_with(|first: char| ('2'..='5').contains(&first));
    Ok(heads.filter(is_final).map(str::to_owned).collect())
}

fn status(head: &str) -> u16 {
    head.get(..3)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

fn request_id(head: &str) -> Option<String> {
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_id = name.eq_ignore_ascii_case("x-request-id");
        is_id.then(|| value.trim().to_owned())
    })
}

/// Why an answer is not the right one.
fn fault(case: &Case, heads: &[String]) -> Option<String> {
    let statuses: Vec<u16> = heads.iter().map(|head| status(head)).collect();
    let right = statuses.len() == case.statuses.len()
        && statuses
            .iter()
            .zip(&case.statuses)
            .all(|(status, any)| any.contains(status));
    (!right).then(|| format!("{}: {statuses:?} instead of {:?}", case.name, case.statuses))
}

async fn nothing_undecided_reaches(mut back: Back) {
    let fleet = fleet_with(&[&back.address], "", "");
    let address = fleet.node("proxy").http;
    let (mut faults, mut told) = (Vec::new(), BTreeSet::new());
    let mut pipelined = 0;
    for case in cases() {
        let heads = answers(&address, &case.bytes).await;
        let heads = heads.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        told.extend(heads.iter().filter_map(|head| request_id(head)));
        pipelined += usize::from(case.is_pipelined());
        faults.extend(fault(&case, &heads));
    }
    let last = Connection::get_once(&address, "/last").await.unwrap();
    told.insert(last.header("x-request-id").unwrap().to_owned());
    let seen = back.seen_until("/last").unwrap();
    let mut once = BTreeSet::new();
    for request in &seen {
        if request.relay != "set" {
            faults.push(format!("not marked by the handler: {request:?}"));
        }
        if !told.contains(&request.id) {
            faults.push(format!("answered to nobody: {request:?}"));
        }
        if !once.insert(&request.id) {
            faults.push(format!("seen twice: {request:?}"));
        }
    }
    let smuggled = seen
        .iter()
        .filter(|request| request.line.contains("smuggled"))
        .count();
    if smuggled != pipelined {
        faults.push(format!(
            "{smuggled} smuggled requests, {pipelined} were pipelined: {seen:#?}"
        ));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // From HTTP/2, where nothing ends a field but its length.
    let said = tokio::task::block_in_place(|| over_http2(&fleet)).unwrap();
    assert!(said > 100, "only {said} cases ran");
    let last = Connection::get_once(&address, "/end").await.unwrap();
    assert_eq!(last.status, 200);
    let seen = back.seen_until("/end").unwrap();
    let marked = seen.iter().filter(|request| request.relay == "set");
    assert_eq!(marked.count(), seen.len(), "{seen:#?}");
    let ids: BTreeSet<_> = seen.iter().map(|request| &request.id).collect();
    assert_eq!(ids.len(), seen.len(), "{seen:#?}");
    let smuggled = seen
        .iter()
        .filter(|request| request.line.contains("smuggled"))
        .count();
    assert_eq!(smuggled, pipelined, "{seen:#?}");
    let decided = fleet
        .metric("proxy", "protoplex_decisions_total")
        .await
        .unwrap();
    assert!(seen.len() as f64 <= decided, "{} of {decided}", seen.len());
}

/// Runs the driver's cases of messages, for what they send; their verdicts are another promise.
fn over_http2(fleet: &Fleet) -> anyhow::Result<usize> {
    let node = fleet.node("proxy");
    let ca = fleet.info["ca"].as_str().unwrap_or_default();
    let driver = repository().join("tests/drivers/http2");
    let output = std::process::Command::new(python()?)
        .arg(driver)
        .args([&node.http, &node.https, ca, "8."])
        .output()?;
    Ok(output.stdout.split(|&byte| byte == b'\n').count())
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_behind_the_proxy_never_sees_a_request_that_was_not_decided_on() {
    nothing_undecided_reaches(Back::nginx().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_behind_the_proxy_never_sees_a_request_that_was_not_decided_on() {
    nothing_undecided_reaches(Back::haproxy().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lax_server_behind_the_proxy_never_sees_a_request_that_was_not_decided_on() {
    nothing_undecided_reaches(Back::python().unwrap()).await;
}
