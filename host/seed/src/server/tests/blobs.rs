//! Tests of blobs by the wire: whole and right, or not at all.

use super::*;
use crate::store::BLOB_BYTES_MAX;
use bytes::Bytes;
use protoplex_wire::Digest;
use std::{
    fs,
    sync::{Arc, Mutex},
};

/// A blob that is several times as large as every window and buffer on the way.
fn large() -> Bytes {
    (0..6_000_000_u32).map(|n| (n >> 3) as u8).collect()
}

fn incoming(seed: &TestSeed) -> usize {
    let folder = seed.dir.path().join("data/blobs/incoming");
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn a_large_blob_goes_in_and_out_in_pieces_with_progress() {
    let seed = TestSeed::start(NEVER).await;
    let (content, client) = (large(), seed.operator());
    let digest = Digest::of(&content);
    assert_eq!(client.missing(&[digest]).await.unwrap(), [digest]);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&steps);
    let progress = move |sent| heard.lock().unwrap().push(sent);
    client
        .put_blob(digest, content.clone(), progress)
        .await
        .unwrap();
    let steps = steps.lock().unwrap().clone();
    assert!(steps.len() > 10 && steps.is_sorted(), "{steps:?}");
    assert_eq!(steps.last(), Some(&(content.len() as u64)));
    assert!(client.missing(&[digest]).await.unwrap().is_empty());
    let back = client.get_blob(digest, u64::MAX).await.unwrap();
    assert!(back == content);
    let small = client.get_blob(digest, 1_000).await;
    assert!(
        matches!(small, Err(ClientError::TooLarge(1_000))),
        "{small:?}"
    );
}

#[tokio::test]
async fn other_bytes_than_the_digest_says_are_refused_and_not_kept() {
    let seed = TestSeed::start(NEVER).await;
    let (content, client) = (large(), seed.operator());
    let digest = Digest::of(&content);
    let truncated = content.slice(..content.len() - 1);
    assert_refused(
        client.put_blob(digest, truncated, |_| ()).await,
        400,
        "digest",
    );
    assert_eq!(client.missing(&[digest]).await.unwrap(), [digest]);
    assert_refused(client.get_blob(digest, u64::MAX).await, 404, "blob");
    assert_eq!(incoming(&seed), 0);
}

#[tokio::test]
async fn a_blob_above_the_limit_is_refused_before_it_is_sent() {
    let seed = TestSeed::start(NEVER).await;
    let client = seed.operator();
    let large = Bytes::from(vec![0; usize::try_from(BLOB_BYTES_MAX).unwrap() + 1]);
    let sent = Arc::new(Mutex::new(0));
    let heard = Arc::clone(&sent);
    let progress = move |bytes| *heard.lock().unwrap() = bytes;
    let answer = client.put_blob(Digest::of(b""), large, progress).await;
    assert_refused(answer, 413, "limit");
    // What the connection takes on by itself, and no more.
    let sent = *sent.lock().unwrap();
    assert!(sent < BLOB_BYTES_MAX / 4, "{sent} bytes were sent");
    assert_eq!(incoming(&seed), 0);
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing_and_can_be_sent_again() {
    let seed = TestSeed::start(NEVER).await;
    let (content, client) = (large(), seed.operator());
    let digest = Digest::of(&content);
    let (half, mut reached) = tokio::sync::mpsc::unbounded_channel();
    let bytes = content.len() as u64;
    let upload = client.put_blob(digest, content.clone(), move |sent| {
        if sent > bytes / 2 {
            let _ = half.send(());
        }
    });
    tokio::select! {
        biased;
        _ = reached.recv() => {} // The rest is never sent.
        done = upload => panic!("{done:?}, before half of it was sent"),
    }
    assert_eq!(client.missing(&[digest]).await.unwrap(), [digest]);
    client.put_blob(digest, content, |_| ()).await.unwrap();
    assert!(client.missing(&[digest]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_damaged_on_disk_is_missing_and_never_handed_out() {
    let seed = TestSeed::start(NEVER).await;
    let client = seed.operator();
    let digest = Digest::of(b"content");
    client
        .put_blob(digest, "content".into(), |_| ())
        .await
        .unwrap();
    let name = digest.to_string();
    let path = seed
        .dir
        .path()
        .join("data/blobs")
        .join(&name[..2])
        .join(&name);
    fs::write(path, "c0ntent").unwrap();
    assert_refused(client.get_blob(digest, 100).await, 500, "digest");
    assert_eq!(client.missing(&[digest]).await.unwrap(), [digest]);
}
