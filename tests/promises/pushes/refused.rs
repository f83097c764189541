//! Bad requests of a client of its own making are refused by the Seed with 4xx, and nothing changes.

use super::{SWAP, client, greeting, plain, releases};
use protoplex_seed_client::{ClientError, SeedClient};
use protoplex_tests::Fleet;
use protoplex_wire::{
    BuildId, Digest, Manifest,
    manifest::World,
    signature::{Envelope, signing_key},
    status::ReleaseOrder,
};
use std::fs;

/// A client that may send what `push` never would, and the build that it starts from.
struct Forger {
    fleet: Fleet,
    client: SeedClient,
    /// All its blobs are at the Seed already.
    manifest: Manifest,
}

impl Forger {
    fn new() -> Self {
        let fleet = Fleet::start(SWAP).unwrap();
        let said = plain(
            &fleet,
            &["build", SWAP, "--json", "--set", "greeting=green"],
        );
        let manifest = Manifest::parse(said.out.trim().as_bytes()).unwrap();
        let client = client(&fleet);
        Self {
            fleet,
            client,
            manifest,
        }
    }

    fn sign(&self, build: BuildId) -> Envelope {
        let file = self.fleet.info["release_key"].as_str().unwrap();
        let key = signing_key(&fs::read_to_string(file).unwrap()).unwrap();
        Envelope::sign(build, &key)
    }

    /// Uploads these bytes as a manifest, and submits it with the right signature.
    async fn submit(&self, manifest: Vec<u8>) -> Result<(), ClientError> {
        let build = Digest::of(&manifest);
        self.client.put_blob(build, manifest.into(), |_| ()).await?;
        self.client.submit(&self.sign(build)).await.map(drop)
    }

    async fn submit_changed(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), ClientError> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        self.submit(manifest.canonical()).await
    }
}

#[track_caller]
fn assert_refused<T>(answer: Result<T, ClientError>, status: u16, code: &str, words: &str) {
    match answer.map(drop) {
        Err(ClientError::Api {
            status: found,
            error,
        }) => {
            assert_eq!((found, error.code.as_str()), (status, code), "{error:?}");
            assert!(
                error.message.contains(words),
                "{words:?} is not in {error:?}"
            );
        }
        other => panic!("{other:?}, and not {status} {code}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_a_trusted_signature_is_refused_and_nothing_changes() {
    let forger = Forger::new();
    let (client, build) = (&forger.client, forger.manifest.id());
    let before = releases(&forger.fleet);
    client
        .put_blob(build, forger.manifest.canonical().into(), |_| ())
        .await
        .unwrap();

    let stranger = signing_key(&"17".repeat(32)).unwrap();
    let unknown = client.submit(&Envelope::sign(build, &stranger)).await;
    assert_refused(unknown, 403, "signature", "which is not trusted here");

    let good = forger.sign(build);
    let named = Envelope {
        sig: Envelope::sign(build, &stranger).sig,
        ..good.clone()
    };
    assert_refused(
        client.submit(&named).await,
        403,
        "signature",
        "is not right",
    );
    let short = Envelope {
        sig: good.sig[..126].to_owned(),
        ..good.clone()
    };
    assert_refused(
        client.submit(&short).await,
        403,
        "signature",
        "is not right",
    );

    // The signature of one build under the manifest of another.
    let mut other = forger.manifest.clone();
    other
        .settings
        .insert("greeting".to_owned(), "red".to_owned());
    let bytes = other.canonical();
    client
        .put_blob(other.id(), bytes.into(), |_| ())
        .await
        .unwrap();
    let moved = Envelope {
        build: other.id(),
        ..good
    };
    assert_refused(
        client.submit(&moved).await,
        403,
        "signature",
        "is not right",
    );

    for build in [build, other.id()] {
        let order = ReleaseOrder {
            build,
            made_against: None,
        };
        let released = client.release(&order).await;
        assert_refused(released, 404, "build", "push it first");
    }
    assert_eq!(releases(&forger.fleet), before);
    assert_eq!(greeting(&forger.fleet).await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_manifest_or_blob_is_refused_and_nothing_changes() {
    let forger = Forger::new();
    let before = releases(&forger.fleet);
    let whole = forger.manifest.canonical();
    let digest = forger.manifest.id();

    for tampered in [
        whole[..whole.len() - 1].to_vec(),
        whole.iter().rev().copied().collect(),
        Vec::new(),
    ] {
        let sent = forger
            .client
            .put_blob(digest, tampered.into(), |_| ())
            .await;
        assert_refused(sent, 400, "digest", "nothing was kept");
    }
    assert_eq!(forger.client.missing(&[digest]).await.unwrap(), [digest]);
    let unsent = forger.client.submit(&forger.sign(digest)).await;
    assert_refused(unsent, 409, "missing-blobs", "upload it as a blob first");

    let mut spaced = whole.clone();
    spaced.push(b'\n');
    assert_refused(
        forger.submit(spaced).await,
        422,
        "manifest",
        "canonical form",
    );
    let truncated = whole[..whole.len() / 2].to_vec();
    assert_refused(
        forger.submit(truncated).await,
        422,
        "manifest",
        "cannot be read",
    );
    let renamed = String::from_utf8(whole)
        .unwrap()
        .replace("\"routes\"", "\"rootes\"");
    assert_refused(
        forger.submit(renamed.into_bytes()).await,
        422,
        "manifest",
        "unknown field",
    );
    assert_eq!(releases(&forger.fleet), before);
    assert_eq!(greeting(&forger.fleet).await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_manifest_that_is_wrong_is_refused_all_the_same() {
    let forger = Forger::new();
    let before = releases(&forger.fleet);
    let hello = |manifest: &mut Manifest, change: fn(&mut protoplex_wire::manifest::Handler)| {
        change(manifest.handlers.get_mut("hello").unwrap());
    };

    let refused = forger
        .submit_changed(|m| m.routes[0].handler = "gone".to_owned())
        .await;
    assert_refused(refused, 422, "manifest", "there is no handler `gone`");
    let refused = forger
        .submit_changed(|m| hello(m, |handler| handler.limits.cpu_ms_max = u64::MAX >> 11))
        .await;
    assert_refused(refused, 422, "manifest", "is the most");
    let refused = forger
        .submit_changed(|m| hello(m, |handler| handler.component_bytes += 1))
        .await;
    assert_refused(refused, 422, "manifest", "and the manifest says");
    let refused = forger
        .submit_changed(|m| hello(m, |handler| handler.component = Digest::of(b"never sent")))
        .await;
    assert_refused(refused, 409, "missing-blobs", "not uploaded yet");
    let refused = forger
        .submit_changed(|m| {
            hello(m, |handler| {
                handler.world = World::App03;
                handler.isolation = protoplex_wire::manifest::Isolation::PerRequest;
            });
        })
        .await;
    assert_refused(
        refused,
        422,
        "link",
        "the component is edge, and the manifest says app-0.3",
    );
    let refused = forger
        .submit_changed(|m| {
            hello(m, |handler| {
                handler.world = World::App03;
                handler.limits.memory_bytes_max = 1 << 30;
                handler.limits.in_flight_max = 65;
            });
        })
        .await;
    assert_refused(refused, 422, "limit", "Lower one of them");

    assert_eq!(releases(&forger.fleet), before);
    assert_eq!(greeting(&forger.fleet).await, "blue");
}
