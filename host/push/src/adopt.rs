//! A build's way from the nodes that run it back to a Seed that has lost it: whatever the Seed lacks is read from a
//! node's disk, by the node's meta port, and uploaded and submitted as at a push. Nothing of it is believed: content is
//! what its digest says, and the Seed checks the release key's signature as ever.

use crate::PushError;
use bytes::Bytes;
use protoplex_seed_client::{ClientError, SeedClient};
use protoplex_wire::{
    BuildId, Digest, Manifest,
    manifest::MANIFEST_BYTES_MAX,
    signature::Envelope,
    status::{ApiCode, NodeStatus},
};

/// Most bytes of an envelope, which has a few hundred.
const ENVELOPE_BYTES_MAX: u64 = 16 << 10;

/// Sees to it that the Seed has the build, whole and checked. `nodes` are asked one after another for what it lacks.
///
/// # Errors
/// [`PushError::Refused`] when no node has all of it, with what is missing, or when the Seed refuses the build.
pub async fn upload_missing(
    client: &SeedClient,
    nodes: &[NodeStatus],
    build: BuildId,
) -> Result<(), PushError> {
    let envelope: Envelope = {
        let path = format!("/builds/{build}");
        let text = from_any(client, nodes, &path, ENVELOPE_BYTES_MAX, |_| true).await?;
        serde_json::from_slice(&text)
            .map_err(|error| ClientError::Protocol(format!("the envelope of {build}: {error}")))?
    };
    let manifest = blob(client, nodes, build, MANIFEST_BYTES_MAX as u64).await?;
    let parsed = Manifest::parse(&manifest)
        .map_err(|error| ClientError::Protocol(format!("the manifest {build}: {error}")))?;
    let mut sizes = parsed.blobs();
    sizes.insert(build, manifest.len() as u64);
    let wanted: Vec<Digest> = sizes.keys().copied().collect();
    for digest in client.missing(&wanted).await? {
        let bytes = sizes.get(&digest).copied().unwrap_or_default();
        let content = blob(client, nodes, digest, bytes).await?;
        client.put_blob(digest, content, |_| ()).await?;
    }
    client.submit(&envelope).await?;
    Ok(())
}

async fn blob(
    client: &SeedClient,
    nodes: &[NodeStatus],
    digest: Digest,
    bytes_max: u64,
) -> Result<Bytes, PushError> {
    let path = format!("/blobs/{digest}");
    let is_right = |content: &Bytes| Digest::of(content) == digest;
    from_any(client, nodes, &path, bytes_max, is_right).await
}

/// Asks the nodes one after another. Returns the answer of the first that has it.
async fn from_any(
    client: &SeedClient,
    nodes: &[NodeStatus],
    path: &str,
    bytes_max: u64,
    is_right: impl Fn(&Bytes) -> bool,
) -> Result<Bytes, PushError> {
    let mut why = Vec::new();
    for node in nodes {
        match from(client, node, path, bytes_max).await {
            Ok(content) if is_right(&content) => return Ok(content),
            Ok(_) => why.push(format!("{}: it has other content", node.node)),
            Err(error) => why.push(format!("{}: {error}", node.node)),
        }
    }
    let message = format!(
        "the Seed lacks {path} of the build, and no node has it ({}); push the build again instead",
        why.join("; ")
    );
    Err(PushError::Refused {
        code: ApiCode::MissingBlobs.into(),
        message,
    })
}

async fn from(
    client: &SeedClient,
    node: &NodeStatus,
    path: &str,
    bytes_max: u64,
) -> Result<Bytes, ClientError> {
    let url = format!("{}{path}", node.addresses.meta);
    let response = client.node(&node.node)?.get(&url).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(ClientError::Protocol(format!("{status}")));
    }
    response.collect(bytes_max).await
}
