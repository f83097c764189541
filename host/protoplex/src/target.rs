//! Choice of the Seed that a command talks to: a flag, then the environment, then the newest running `up`.

use crate::{
    cli::TargetArgs,
    places::UserFolders,
    running::{self, DATA_FILE, RunningUp},
};
use anyhow::{Context as _, Result, bail};
use ed25519_dalek::SigningKey;
use protoplex_fleet::FleetIdentity;
use protoplex_seed_client::SeedClient;
use protoplex_wire::signature::signing_key;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The Seed's URL, where no flag names it.
const SEED_ENV: &str = "PROTOPLEX_SEED";

/// A Seed, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSeed {
    /// URL of the Seed.
    pub seed: String,
    identity: FleetIdentity,
    release_key: Option<PathBuf>,
}

impl From<RunningUp> for FoundSeed {
    fn from(running: RunningUp) -> Self {
        Self {
            seed: running.seed,
            identity: FleetIdentity {
                ca: running.ca,
                certificate: running.cert,
                key: running.key,
            },
            release_key: Some(running.release_key),
        }
    }
}

impl FoundSeed {
    /// By the command line's flags.
    ///
    /// # Errors
    /// When there is none, or something of it is missing; says what to do.
    pub fn by(target: &TargetArgs) -> Result<Self> {
        let registry = || {
            let running = UserFolders::from_env().running;
            Ok(running
                .map(|registry| running::all(&registry))
                .unwrap_or_default())
        };
        let named = std::env::var(SEED_ENV).ok().filter(|url| !url.is_empty());
        find(target, named, registry)
    }

    /// A client for it.
    ///
    /// # Errors
    /// When a certificate or key cannot be read.
    pub fn client(&self) -> Result<SeedClient> {
        SeedClient::new(&self.seed, &self.identity)
            .with_context(|| format!("the Seed at {} cannot be talked to", self.seed))
    }

    /// The key that signs builds.
    ///
    /// # Errors
    /// When none is named, or it cannot be read.
    pub fn release_key(&self, named: Option<&Path>) -> Result<SigningKey> {
        let file = named
            .or(self.release_key.as_deref())
            .context("there is no release key here; name one with --release-key FILE")?;
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("reading the release key {}", file.display()))?;
        signing_key(&text).with_context(|| format!("reading the release key {}", file.display()))
    }
}

fn find(
    target: &TargetArgs,
    from_env: Option<String>,
    registry: impl Fn() -> Result<Vec<RunningUp>>,
) -> Result<FoundSeed> {
    if let Some(data) = &target.data {
        let file = data.join(DATA_FILE);
        let running = RunningUp::read(&file).with_context(|| {
            let data = data.display();
            format!("no `up` runs on {data}; start one with `protoplex up --data {data}`")
        })?;
        return Ok(running.into());
    }
    let Some(seed) = target.seed.clone().or(from_env) else {
        let newest = registry()?.into_iter().next();
        return newest.map(FoundSeed::from).context(
            "no Seed is running; start one with `protoplex up`, or name one with --seed URL",
        );
    };
    // The flags win over what a running `up` with that URL says.
    let known = registry().unwrap_or_default();
    let trimmed = seed.trim_end_matches('/');
    let known = known.into_iter().find(|running| running.seed == trimmed);
    let known = known.map(FoundSeed::from);
    let (ca, cert, key) = (&target.ca, &target.cert, &target.key);
    match (known, ca, cert, key) {
        (known, Some(ca), Some(cert), Some(key)) => Ok(FoundSeed {
            seed: trimmed.to_owned(),
            identity: FleetIdentity {
                ca: ca.clone(),
                certificate: cert.clone(),
                key: key.clone(),
            },
            release_key: known.and_then(|known| known.release_key),
        }),
        (Some(known), None, None, None) => Ok(known),
        _ => bail!(
            "the Seed at {seed} wants to know who we are; add --ca FILE --cert FILE --key FILE \
             (or PROTOPLEX_CA, PROTOPLEX_CERT and PROTOPLEX_KEY)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(port: u16) -> RunningUp {
        RunningUp {
            seed: format!("https://127.0.0.1:{port}"),
            nodes: Vec::new(),
            ca: "ca".into(),
            cert: "cert".into(),
            key: "key".into(),
            data: "data".into(),
            release_key: "release".into(),
            pid: 1,
            seed_pid: None,
            started_unix_ms: 1,
        }
    }

    fn target(seed: Option<&str>) -> TargetArgs {
        TargetArgs {
            seed: seed.map(str::to_owned),
            data: None,
            ca: None,
            cert: None,
            key: None,
        }
    }

    #[test]
    fn without_a_flag_the_newest_up_is_taken() {
        let found = find(&target(None), None, || Ok(vec![running(2), running(1)]));
        assert_eq!(found.expect("found"), running(2).into());
    }

    #[test]
    fn the_environment_comes_after_flags_and_before_the_newest_up() {
        let known = || Ok(vec![running(3), running(2), running(1)]);
        let named = Some("https://127.0.0.1:2".to_owned());
        let found = find(&target(None), named.clone(), known).expect("found");
        assert_eq!(found, running(2).into());
        let found = find(&target(Some("https://127.0.0.1:1")), named, known).expect("found");
        assert_eq!(found, running(1).into());
    }

    #[test]
    fn without_any_the_error_says_what_to_do() {
        let error = find(&target(None), None, || Ok(Vec::new())).expect_err("none");
        assert!(error.to_string().contains("protoplex up"), "{error}");
    }

    #[test]
    fn a_seed_of_a_running_up_needs_no_more_flags() {
        let known = || Ok(vec![running(2), running(1)]);
        let found = find(&target(Some("https://127.0.0.1:1/")), None, known);
        assert_eq!(found.expect("found"), running(1).into());
    }

    #[test]
    fn a_foreign_seed_needs_all_three_files() {
        let mut foreign = target(Some("https://seed:7"));
        foreign.ca = Some("a".into());
        let error = find(&foreign, None, || Ok(Vec::new())).expect_err("two are missing");
        assert!(error.to_string().contains("--cert FILE"), "{error}");
        foreign.cert = Some("b".into());
        foreign.key = Some("c".into());
        assert_eq!(
            find(&foreign, None, || Ok(Vec::new())).expect("found").seed,
            "https://seed:7"
        );
    }
}
