//! A package's way to the fleet: upload what is missing, submit, order the release, and follow it to its end.

use crate::{
    diff::{Diff, diff},
    package::{Blob, Package},
};
use ed25519_dalek::SigningKey;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use protoplex_seed_client::{ClientError, ReleaseEvents, SeedClient};
use protoplex_wire::{
    BuildId, Digest,
    status::{ApiCode, ReleaseEvent, ReleaseOrder, ReleaseOutcome, ReleaseRecord},
};
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

/// Most uploads under way at once: enough to hide round trips, few enough to stay small in memory.
pub const UPLOADS_MAX: usize = 4;

/// Observer of a push.
pub trait PushProgress: Send + Sync + 'static {
    /// Called with something that the author should know.
    fn note(&self, text: &str);
    /// Called before the uploads, with what will be sent.
    fn upload(&self, blobs: usize, bytes: u64);
    /// Called when so many more bytes were sent.
    fn uploaded(&self, bytes: u64);
    /// Called when the release went on.
    fn event(&self, event: &ReleaseEvent);
}

/// Options of a release.
#[derive(Clone, Copy, Debug)]
pub struct PushOptions {
    /// The build that must be active (`Some(None)`: none at all); absent: the one that is active when the push begins.
    pub made_against: Option<Option<BuildId>>,
    /// Time for which the release is followed.
    pub timeout: Duration,
}

/// State of the release when it was no longer followed.
#[derive(Clone, Debug)]
pub enum ReleaseEnd {
    /// Every node runs the build.
    Promoted(ReleaseRecord),
    /// The build before the release runs again.
    Reverted(ReleaseRecord),
    /// The time to follow the release was over first.
    StillRunning,
}

/// Why there was no release.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Another build than the one it was made against is active.
    #[error("{message}\nfrom the active build {active} to this one:\n{diff}")]
    Conflict {
        /// Message of the Seed.
        message: String,
        /// The active build's short id.
        active: String,
        /// Differences from the active build to this one.
        diff: Diff,
    },
    /// The Seed refused the build or the order.
    #[error("refused ({code}): {message}")]
    Refused {
        /// Code for programs.
        code: String,
        /// Message for people: the fault, and what to do instead.
        message: String,
    },
    /// A file of the package is gone.
    #[error("blob {digest} cannot be read: {source}")]
    Read {
        /// Digest of the blob.
        digest: Digest,
        /// Error of the system.
        source: io::Error,
    },
    /// The Seed cannot be reached, or answers something else than expected.
    #[error(transparent)]
    Client(ClientError),
}

impl From<ClientError> for PushError {
    fn from(error: ClientError) -> Self {
        match error {
            // What is wrong with this side's request; 5xx is a Seed in trouble.
            ClientError::Api {
                status: 400..=499,
                error,
            } => Self::Refused {
                code: error.code,
                message: error.message,
            },
            other => Self::Client(other),
        }
    }
}

/// Releases a package. Blobs that the Seed has are not sent again.
///
/// # Errors
/// When nothing was released. After an error of the connection in the middle of a release, that may go on.
pub async fn push(
    client: &SeedClient,
    package: &Package,
    key: &SigningKey,
    options: &PushOptions,
    progress: Arc<dyn PushProgress>,
) -> Result<ReleaseEnd, PushError> {
    for note in &package.notes {
        progress.note(note);
    }
    let made_against = match options.made_against {
        Some(named) => named,
        None => client.status().await?.active,
    };
    upload(client, package, &progress).await?;
    client.submit(&package.sign(key)).await?;
    let order = ReleaseOrder {
        build: package.id(),
        made_against: Some(made_against),
    };
    let events = match client.release(&order).await {
        Ok(events) => events,
        Err(error) => return Err(explain(client, package, error).await),
    };
    follow(events, options.timeout, progress.as_ref()).await
}

/// Follows a release to its end, or until `timeout`.
///
/// # Errors
/// When the connection to the Seed breaks before the end.
pub async fn follow(
    mut events: ReleaseEvents,
    timeout: Duration,
    progress: &dyn PushProgress,
) -> Result<ReleaseEnd, PushError> {
    let finished = async {
        while let Some(event) = events.next().await {
            let event = event?;
            progress.event(&event);
            if let ReleaseEvent::Finished(record) = event {
                return Ok(match record.outcome {
                    ReleaseOutcome::Promoted => ReleaseEnd::Promoted(record),
                    ReleaseOutcome::Reverted => ReleaseEnd::Reverted(record),
                    ReleaseOutcome::Running => ReleaseEnd::StillRunning,
                });
            }
        }
        let text = "the events of the release ended before the release did";
        Err(PushError::Client(ClientError::Protocol(text.to_owned())))
    };
    match tokio::time::timeout(timeout, finished).await {
        Ok(end) => end,
        Err(_) => Ok(ReleaseEnd::StillRunning),
    }
}

async fn upload(
    client: &SeedClient,
    package: &Package,
    progress: &Arc<dyn PushProgress>,
) -> Result<(), PushError> {
    let mut sizes = package.manifest.blobs();
    let manifest = package.manifest.canonical();
    let id = Digest::of(&manifest);
    sizes.insert(id, manifest.len() as u64);
    let mut blobs: BTreeMap<Digest, Blob> = package.blobs.clone();
    blobs.insert(id, Blob::Bytes(manifest.into()));

    let wanted: Vec<Digest> = sizes.keys().copied().collect();
    let missing = client.missing(&wanted).await?;
    let bytes = missing.iter().filter_map(|digest| sizes.get(digest)).sum();
    progress.upload(missing.len(), bytes);
    let uploads = missing
        .iter()
        .filter_map(|digest| Some((*digest, blobs.get(digest)?)));
    stream::iter(uploads.map(Ok))
        .map(|blob: Result<_, PushError>| blob)
        .try_for_each_concurrent(UPLOADS_MAX, |(digest, blob)| {
            upload_one(client, digest, blob, progress)
        })
        .await
}

async fn upload_one(
    client: &SeedClient,
    digest: Digest,
    blob: &Blob,
    progress: &Arc<dyn PushProgress>,
) -> Result<(), PushError> {
    let content = blob
        .read()
        .map_err(|source| PushError::Read { digest, source })?;
    let progress = Arc::clone(progress);
    let mut before = 0;
    let heard = move |sent: u64| {
        progress.uploaded(sent.saturating_sub(before));
        before = sent;
    };
    Ok(client.put_blob(digest, content, heard).await?)
}

/// Makes the error of a refused order. A refusal because another build is active comes with what is different.
async fn explain(client: &SeedClient, package: &Package, error: ClientError) -> PushError {
    let refused = PushError::from(error);
    let PushError::Refused { code, message } = &refused else {
        return refused;
    };
    if code != ApiCode::Conflict.as_str() {
        return refused;
    }
    let active = async {
        let active = client.status().await.ok()?.active?;
        Some((active, client.build(active).await.ok()?.manifest))
    };
    match active.await {
        Some((active, manifest)) => PushError::Conflict {
            message: message.clone(),
            active: active.short(),
            diff: diff(&manifest, &package.manifest),
        },
        None => refused,
    }
}
