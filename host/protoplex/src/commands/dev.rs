//! `dev`: from saving a file to the new response. Watches, rebuilds the guest that changed, pushes.

use super::push::finish;
use crate::{
    cli,
    exit::CommandExit,
    inspect, output,
    progress::{EventFormat, ShownRelease},
    target::FoundSeed,
};
use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use protoplex_push::{Blob, PushError, PushOptions, ReleaseEnd, package, push};
use protoplex_seed_client::SeedClient;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{process::Command, sync::mpsc};

/// Time without changes after which a file is whole: editors write it in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// Longest time of a push: nobody works on while one hangs longer than this.
const PUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// Folder of the workspace of all guests.
const GUESTS: &str = "guests";
/// Folders that tools make, and nobody edits.
const MADE: [&str; 4] = ["target", "node_modules", "__pycache__", "out"];
/// Name of the guest that every other one is made of.
const SDK: &str = "sdk";

/// Runs `dev`: watches until Ctrl-C.
///
/// # Errors
/// When there is nothing to watch, or no Seed to push to. What goes wrong later is said, and watching goes on.
pub async fn run(args: &cli::DevArgs) -> Result<CommandExit> {
    ensure!(
        Path::new(GUESTS).join("Cargo.toml").exists(),
        "there is no {GUESTS}/Cargo.toml here; run this in the repository's root"
    );
    let found = FoundSeed::by(&args.target)?;
    let session = DevSession {
        client: found.client()?,
        key: found.release_key(args.release_key.as_deref())?,
        args,
    };
    let (mut watch, mut events) = FolderWatch::start()?;
    watch.add(Path::new(GUESTS));
    watch.add(
        args.file
            .parent()
            .filter(|folder| *folder != Path::new(""))
            .unwrap_or(Path::new(".")),
    );
    for folder in session.asset_folders() {
        watch.add(&folder);
    }
    session.push(Instant::now()).await;
    output::say(format_args!(
        "watching {GUESTS}/ and {}; Ctrl-C ends it",
        args.file.display()
    ));
    while let Some(changed) = next_change(&mut watch, &mut events).await {
        session.rebuild_and_push(&changed).await;
    }
    Ok(CommandExit::Done)
}

struct DevSession<'a> {
    client: SeedClient,
    key: SigningKey,
    args: &'a cli::DevArgs,
}

impl DevSession<'_> {
    /// Folders of the build's files. None while its manifest is malformed, which the push will say.
    fn asset_folders(&self) -> BTreeSet<PathBuf> {
        let package = package(&self.args.file, &self.args.sets, &inspect::inspect);
        let blobs = package
            .into_iter()
            .flat_map(|package| package.blobs.into_values());
        let folders = blobs.filter_map(|blob| match blob {
            Blob::File(path) => path.parent().map(Path::to_owned),
            Blob::Bytes(_) => None,
        });
        folders.collect()
    }

    async fn rebuild_and_push(&self, changed: &BTreeSet<PathBuf>) {
        let start = Instant::now();
        if let Some(first) = changed.first() {
            let more = match changed.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            output::say(format_args!("\nchanged  {}{more}", first.display()));
        }
        match guests_of(changed) {
            Rebuild::Nothing => {}
            Rebuild::Guests(names) => {
                let step = Instant::now();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                if let Err(error) = rebuild(&names).await {
                    output::say(format_args!("{error:#}"));
                    return;
                }
                let what = if names.is_empty() {
                    "all".to_owned()
                } else {
                    names.join(", ")
                };
                print_step("built", &what, step);
            }
        }
        self.push(start).await;
    }

    async fn push(&self, start: Instant) {
        match self.try_push().await {
            Ok(true) => print_step("total", "", start),
            Ok(false) => {}
            Err(error) => output::say(format_args!("{error:#}")),
        }
    }

    /// Pushes, and returns whether a new build runs now.
    async fn try_push(&self) -> Result<bool> {
        let step = Instant::now();
        let package = package(&self.args.file, &self.args.sets, &inspect::inspect)?;
        let active = self.client.status().await?.active;
        if active == Some(package.id()) {
            output::say("nothing that the build holds has changed");
            return Ok(false);
        }
        print_step("packaged", &package.id().short(), step);
        let step = Instant::now();
        let options = PushOptions {
            made_against: Some(active),
            timeout: PUSH_TIMEOUT,
        };
        let shown = Arc::new(ShownRelease::new(EventFormat::Quiet));
        let end = push(&self.client, &package, &self.key, &options, shown).await;
        let end = end.map_err(|error| match error {
            PushError::Refused { .. } => anyhow::Error::new(error),
            other => anyhow::Error::new(other).context("pushing"),
        })?;
        if let ReleaseEnd::Promoted(record) = &end {
            print_step("pushed", &format!("{} nodes", record.switched()), step);
        }
        Ok(finish(&end, EventFormat::Quiet, PUSH_TIMEOUT) == CommandExit::Done)
    }
}

/// Prints a step and how long it took: `built    router                 612 ms`
fn print_step(step: &str, what: &str, since: Instant) {
    output::say(format_args!(
        "{step:<8} {what:<24} {:>6} ms",
        since.elapsed().as_millis()
    ));
}

#[derive(Debug, PartialEq, Eq)]
enum Rebuild {
    /// Nothing: only files or the manifest changed.
    Nothing,
    /// Only these guests; empty is all.
    Guests(BTreeSet<String>),
}

/// Finds the guests whose sources are among the changed files: `guests/FOLDER/NAME`, with a Cargo.toml or a
/// guest.toml.
fn guests_of(changed: &BTreeSet<PathBuf>) -> Rebuild {
    let mut names = BTreeSet::new();
    for path in changed {
        let Ok(inside) = path.strip_prefix(GUESTS) else {
            continue;
        };
        let mut parts = inside.iter();
        let (Some(group), Some(name)) = (parts.next(), parts.next()) else {
            continue;
        };
        if group == SDK {
            return Rebuild::Guests(BTreeSet::new());
        }
        let folder = Path::new(GUESTS).join(group).join(name);
        if folder.join("Cargo.toml").exists() || folder.join("guest.toml").exists() {
            names.extend(name.to_str().map(str::to_owned));
        }
    }
    if names.is_empty() {
        Rebuild::Nothing
    } else {
        Rebuild::Guests(names)
    }
}

/// Rebuilds guests as `just build-guests` does, without needing `just`.
async fn rebuild(names: &[&str]) -> Result<()> {
    let manifest = format!("{GUESTS}/Cargo.toml");
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--manifest-path", &manifest])
        .args(["--package", "protoplex-guest-tool", "--", "build"])
        .args(names)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .context("cargo could not be started")?;
    ensure!(status.success(), "not built; the fleet runs on as before");
    Ok(())
}

/// Watches of folders. Each folder has its own, so that `node_modules` and `target` are left out.
struct FolderWatch {
    watcher: RecommendedWatcher,
    root: PathBuf,
}

impl FolderWatch {
    fn start() -> Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        // Unbounded: the kernel's queue before it is bounded, and `next_change` empties it at once.
        let (sender, receiver) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(
            move |event: notify::Result<Event>| match event {
                Ok(event) => {
                    // Nobody listens any more when the command ends.
                    let _ = sender.send(event);
                }
                Err(error) => {
                    tracing::warn!(%error, "the watcher of files failed; a change may have been missed")
                }
            },
        )?;
        let root = std::env::current_dir()?;
        Ok((Self { watcher, root }, receiver))
    }

    /// Watches a folder and those in it.
    fn add(&mut self, folder: &Path) {
        if is_made(folder) {
            return;
        }
        if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(folder = %folder.display(), %error, "a folder cannot be watched; changes in it are missed");
        }
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path());
            }
        }
    }

    /// Files that the event changed, relative to the repository.
    fn changed(&mut self, event: Event) -> Vec<PathBuf> {
        let matters = matches!(
            event.kind,
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
        );
        if !matters {
            return Vec::new();
        }
        let mut files = Vec::new();
        for path in event.paths {
            let path = path
                .strip_prefix(&self.root)
                .map_or(path.clone(), Path::to_owned);
            if path.is_dir() {
                self.add(&path);
            } else if !is_made(&path) {
                files.push(path);
            }
        }
        files
    }
}

/// Whether a tool or an editor makes this file beside the sources.
fn is_made(path: &Path) -> bool {
    let hidden = |part: &str| part.starts_with('.') && part.len() > 2;
    path.iter()
        .filter_map(|part| part.to_str())
        .any(|part| MADE.contains(&part) || hidden(part))
        || path.extension().is_some_and(|ending| ending == "swp")
        || path.to_string_lossy().ends_with('~')
        || path
            .file_name()
            .is_some_and(|name| name == "Cargo.lock" || name == "4913")
}

/// Waits until nothing changes any more. Returns all files that changed since the last call.
async fn next_change(
    watch: &mut FolderWatch,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> Option<BTreeSet<PathBuf>> {
    let mut changed = BTreeSet::new();
    loop {
        let event = if changed.is_empty() {
            events.recv().await?
        } else {
            match tokio::time::timeout(QUIET, events.recv()).await {
                Ok(event) => event?,
                Err(_) => return Some(changed),
            }
        };
        changed.extend(watch.changed(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_make_is_not_watched() {
        for path in [
            "guests/target/x",
            "guests/examples/js-app/node_modules/a.js",
            "guests/sample/a/src/.lib.rs.swp",
            "guests/Cargo.lock",
            "guests/sample/a/lib.rs~",
            "builds/out/a.wasm",
        ] {
            assert!(is_made(Path::new(path)), "{path}");
        }
        for path in [
            "guests/sample/a/src/lib.rs",
            "./builds/x.toml",
            "../x/a.html",
        ] {
            assert!(!is_made(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn files_of_the_site_rebuild_nothing() {
        let changed = [
            "builds/sample.toml".into(),
            "guests/sample/no-such-guest/index.html".into(),
        ];
        assert_eq!(guests_of(&changed.into()), Rebuild::Nothing);
    }

    #[tokio::test]
    async fn a_saved_file_is_heard_of_once_and_new_folders_are_watched() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        // Hidden folders are not watched, and temporary ones are.
        let site = root.join("site");
        fs::create_dir(&site).expect("made");
        let (mut watch, mut events) = FolderWatch::start().expect("a watcher");
        watch.root = root.clone();
        watch
            .watcher
            .watch(&site, RecursiveMode::NonRecursive)
            .expect("watched");
        fs::write(site.join("a.html"), "1").expect("written");
        fs::write(site.join("a.html"), "2").expect("written");
        let changed = next_change(&mut watch, &mut events)
            .await
            .expect("a change");
        assert_eq!(changed, [PathBuf::from("site/a.html")].into());
    }
}
