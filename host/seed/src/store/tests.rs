use super::*;

fn put(store: &SeedStore, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let mut writer = store.blobs().writer(digest, BLOB_BYTES_MAX).unwrap();
    writer.write(bytes).unwrap();
    writer.finish().unwrap();
    digest
}

#[test]
fn two_seeds_never_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = SeedStore::open(dir.path()).unwrap();
    assert!(matches!(
        SeedStore::open(dir.path()),
        Err(StoreError::InUse(_))
    ));
    drop(store);
    SeedStore::open(dir.path()).unwrap();
}

#[test]
fn a_blob_is_what_its_digest_says_or_it_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = SeedStore::open(dir.path()).unwrap();
    let digest = put(&store, b"content");
    assert_eq!(store.blobs().read(digest, 100).unwrap(), b"content");
    assert!(matches!(
        store.blobs().read(digest, 3),
        Err(BlobError::TooLarge(3))
    ));
    fs::write(store.blobs().path(digest), b"c0ntent").unwrap();
    assert!(matches!(
        store.blobs().file(digest),
        Err(BlobError::Damaged(_))
    ));
    assert_eq!(
        store.blobs().size(digest).unwrap(),
        None,
        "so that a push brings it again"
    );
    put(&store, b"content");
    assert_eq!(store.blobs().size(digest).unwrap(), Some(7));
}

#[test]
fn other_bytes_and_too_many_bytes_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = SeedStore::open(dir.path()).unwrap();
    let digest = Digest::of(b"announced");
    let mut writer = store.blobs().writer(digest, 100).unwrap();
    writer.write(b"other").unwrap();
    assert!(matches!(
        writer.finish(),
        Err(BlobError::OtherContent { .. })
    ));
    let mut writer = store.blobs().writer(digest, 4).unwrap();
    assert!(matches!(
        writer.write(b"other"),
        Err(BlobError::TooLarge(4))
    ));
    drop(writer);
    assert_eq!(store.blobs().size(digest).unwrap(), None);
    assert_eq!(
        fs::read_dir(dir.path().join("blobs/incoming"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_state_comes_back_and_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = SeedStore::open(dir.path()).unwrap();
    let mut state = store.load_state().unwrap();
    assert_eq!(state.hop_key.len(), 64);
    state.sequence = 9;
    store.save_state(&state).unwrap();
    assert_eq!(store.load_state().unwrap(), state);
    let path = dir.path().join("state.json");
    let text = fs::read_to_string(&path).unwrap();
    for damaged in [
        text[..text.len() / 2].to_owned(),
        String::new(),
        text.replace(&state.hop_key, "short"),
        text.replace("\"format\": 1", "\"format\": 7"),
    ] {
        fs::write(&path, damaged).unwrap();
        let error = store.load_state().unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }));
        assert!(error.to_string().contains("state.json"), "{error}");
    }
}
