//! Handler of `POST /v1/link`: a node's stream of frames, both ways.

use super::{SeedContext, fault::ApiFault, peer::NodePeer};
use axum::{
    body::{Body, BodyDataStream},
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use protoplex_fleet::lines::FrameLines;
use protoplex_wire::link::{self, FromNode, Hello, LinkFrameError};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Longest time until a link must have said hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of the next link, over all Seeds of this process.
static LINKS: AtomicU64 = AtomicU64::new(1);

type LinkFrames = FrameLines<BodyDataStream>;

pub(super) async fn link(
    State(shared): State<Arc<SeedContext>>,
    NodePeer { name, role, hosts }: NodePeer,
    body: Body,
) -> Result<Response, ApiFault> {
    let mut frames = FrameLines::new(body.into_data_stream());
    let hello = tokio::time::timeout(HELLO_TIMEOUT, hello(&mut frames)).await;
    let hello = hello.map_err(|_| ApiFault::bad_request("no `hello` came in time"))??;
    if (&hello.node, hello.role) != (&name, role) {
        let (said, said_role) = (&hello.node, hello.role);
        tracing::warn!(node = name, %role, said, %said_role, "a link was refused: `hello` has another name or role than the node's certificate");
        return Err(ApiFault::forbidden(format!(
            "this certificate is {role} node {name}'s, but `hello` says {said_role} node {said}"
        )));
    }
    if let Some(address) = foreign_address(&hello, &hosts) {
        tracing::warn!(
            node = name,
            address,
            "a link was refused: `hello` has an address that the node's certificate does not name"
        );
        return Err(ApiFault::forbidden(format!(
            "`hello` says {address}, and the certificate of node {name} is for {} alone; issue it with that name too",
            Vec::from_iter(hosts.iter().cloned()).join(", ")
        )));
    }
    let link = LINKS.fetch_add(1, Ordering::Relaxed);
    let end = shared.shutdown.child_token();
    let mut queue = shared.seed.hello(link, hello, end.clone()).await;
    let reader = read(Arc::clone(&shared), link, name, frames, end);
    shared.tasks.spawn(reader);
    let lines = stream::poll_fn(move |cx| {
        queue
            .poll_recv(cx)
            .map(|line| line.map(Ok::<Bytes, Infallible>))
    });
    let headers = [(http::header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Finds an address that the node's certificate is not good for: requests would be sent to somebody else. One that
/// names no host in particular leads to no stranger.
fn foreign_address<'a>(hello: &'a Hello, hosts: &BTreeSet<String>) -> Option<&'a str> {
    let addresses = &hello.addresses;
    let all = [
        &addresses.http,
        &addresses.https,
        &addresses.health,
        &addresses.meta,
        &addresses.internal,
    ];
    let mut all = all.into_iter().chain(&hello.child_addresses);
    let is_foreign = |address: &&String| {
        let Some(host) = host_of(address) else {
            return !address.is_empty();
        };
        match host.parse::<IpAddr>() {
            Ok(ip) => !ip.is_unspecified() && !hosts.contains(&ip.to_string()),
            Err(_) => !hosts.contains(host),
        }
    };
    all.find(is_foreign).map(String::as_str)
}

/// Host of `scheme://host:port`.
fn host_of(url: &str) -> Option<&str> {
    let (_, authority) = url.split_once("://")?;
    let (host, _port) = authority.rsplit_once(':')?;
    Some(host.trim_matches(['[', ']']))
}

async fn hello(frames: &mut LinkFrames) -> Result<Hello, ApiFault> {
    let line = match frames.next().await {
        Some(Ok(line)) => line,
        Some(Err(error)) => return Err(ApiFault::bad_request(error.to_string())),
        None => return Err(ApiFault::bad_request("the link ended before `hello`")),
    };
    match link::decode(&line) {
        Ok(FromNode::Hello(hello)) => Ok(*hello),
        Ok(_) => Err(ApiFault::bad_request("the first line must be `hello`")),
        Err(error) => Err(ApiFault::bad_request(error.to_string())),
    }
}

/// Reads until the link ends, one way or the other, and tells the actor.
async fn read(
    shared: Arc<SeedContext>,
    link: u64,
    node: String,
    mut frames: LinkFrames,
    end: CancellationToken,
) {
    let reason = tokio::select! {
        reason = forward_frames(&shared, link, &node, &mut frames) => reason,
        () = end.cancelled() => "the Seed ended it".to_owned(),
    };
    tracing::info!(node, link, reason, "a node's link ended");
    shared.seed.gone(link).await;
}

async fn forward_frames(
    shared: &SeedContext,
    link: u64,
    node: &str,
    frames: &mut LinkFrames,
) -> String {
    loop {
        let line = match frames.next().await {
            Some(Ok(line)) => line,
            Some(Err(error)) => return error.to_string(),
            None => return "the node ended it".to_owned(),
        };
        match link::decode(&line) {
            Ok(frame) => shared.seed.frame(link, frame).await,
            Err(LinkFrameError::UnknownType(kind)) => {
                tracing::warn!(
                    node,
                    link,
                    kind,
                    "a node's message of an unknown type was ignored"
                );
            }
            Err(error @ (LinkFrameError::TooLong(_) | LinkFrameError::Syntax(_))) => {
                return error.to_string();
            }
        }
    }
}
