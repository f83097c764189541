//! The Seed link: connect, say hello, forward messages to the actor, connect again. A link that is lost stops nothing.

use protoplex_seed_client::{ClientError, LinkSender, SeedClient};
use protoplex_wire::{
    link::{FromNode, FromSeed, HEARTBEAT_MS, Hello, LinkFrameError},
    release::Stage,
};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The first pause between two attempts to reach the Seed; each is shortened by chance, so that a fleet does not come back
/// at once.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two attempts: a Seed that is back is found within seconds.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// An event of the link for the actor.
pub(super) enum LinkEvent {
    /// The link asks who this node is. Asked before each connection.
    WhoAreWe(oneshot::Sender<Hello>),
    /// The link is up.
    Connected(LinkSender),
    /// The Seed said something.
    Said(FromSeed),
    /// Time for a sign of life.
    Beat,
    /// The link is gone.
    Lost,
}

/// Keeps a link to the Seed until `events` closes.
pub(super) async fn run(client: SeedClient, events: mpsc::Sender<LinkEvent>) {
    let mut pause = RETRY_MIN;
    loop {
        match connection(&client, &events).await {
            Ok(()) => pause = RETRY_MIN,
            Err(error @ ClientError::Unreachable { .. }) => {
                tracing::debug!(%error, "the Seed cannot be reached; another attempt follows");
            }
            // Trying again does not help before somebody has done what it says.
            Err(error) => tracing::warn!(%error, "the Seed refuses this node's link"),
        }
        if events.send(LinkEvent::Lost).await.is_err() {
            return;
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn connection(
    client: &SeedClient,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), ClientError> {
    let (ask, answer) = oneshot::channel();
    if events.send(LinkEvent::WhoAreWe(ask)).await.is_err() {
        return Ok(());
    }
    let Ok(hello) = answer.await else {
        return Ok(());
    };
    let release = hello.release;
    let (sender, mut receiver) = client.link(hello).await?;
    tracing::info!(seed = client.url(), "the link to the Seed stands");
    let _ = events.send(LinkEvent::Connected(sender.clone())).await;
    let mut beats = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    loop {
        let event = tokio::select! {
            said = receiver.next() => match said {
                Some(Ok(said)) => LinkEvent::Said(said),
                Some(Err(ClientError::Frame(LinkFrameError::UnknownType(kind)))) => {
                    let reason = format!("message type `{kind}` is not known here");
                    sender.send(&FromNode::Nack { release, stage: Stage::Protocol, reason, elapsed_ms: 0 }).await;
                    continue;
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the link to the Seed broke");
                    return Ok(());
                }
                None => {
                    tracing::info!("the Seed ended the link");
                    return Ok(());
                }
            },
            _ = beats.tick() => {
                if sender.is_full() {
                    tracing::warn!("the Seed does not read its link, which is given up");
                    return Ok(());
                }
                LinkEvent::Beat
            }
        };
        if events.send(event).await.is_err() {
            return Ok(());
        }
    }
}
