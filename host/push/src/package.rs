//! From `builds/*.toml` and the files it names to a canonical manifest and its blobs.
//!
//! Reads the disk, never the network. Nothing is sent and nothing is signed here.

use crate::{
    assets,
    fault::{SourceFaults, instead, nearest},
    reader::{FaultReport, Located},
    source::{self, SourceHandler, SourceManifest, SourceUpstream},
    strict::{self, Slip},
};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use protoplex_disk::read_bounded;
use protoplex_wire::{
    BuildId, Digest, Manifest,
    manifest::{
        ASSET_BYTES_MAX, COMPONENT_BYTES_MAX, FORMAT, FaultKind, Handler, ManifestError,
        ManifestPath, UnknownName, World,
    },
    signature::Envelope,
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Most bytes of a manifest file, which is a page or a few; above this the file is something else.
pub const SOURCE_BYTES_MAX: u64 = 4 << 20;

/// Facts that a component's imports and exports tell.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// World of the component.
    pub world: World,
    /// Imports for which an edge component is called asynchronously.
    pub awaited_imports: Vec<String>,
}

/// Function that tells a component's world, or why it has none. A parameter, so that this crate does not need the
/// runtime: the binary passes the handler crate's `inspect`.
pub type Inspect<'a> = &'a dyn Fn(&[u8]) -> Result<Inspected, String>;

/// Content of a blob, or the file that has it.
#[derive(Clone, Debug)]
pub enum Blob {
    /// The content was made here.
    Bytes(Bytes),
    /// The content is in a file on the disk, unchanged since it was read: the Seed checks the digest anyway.
    File(PathBuf),
}

impl Blob {
    /// Reads the content.
    ///
    /// # Errors
    /// When the file is gone or cannot be read.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => read_bounded(path, ASSET_BYTES_MAX).map(Bytes::from),
        }
    }
}

/// A build, ready to be signed and sent.
#[derive(Clone, Debug)]
pub struct Package {
    /// The build's canonical manifest.
    pub manifest: Manifest,
    /// Blobs that the manifest names; the manifest itself is not among them.
    pub blobs: BTreeMap<Digest, Blob>,
    /// Notes for the author although nothing is wrong.
    pub notes: Vec<String>,
}

impl Package {
    /// The build's id.
    pub fn id(&self) -> BuildId {
        self.manifest.id()
    }

    /// Signs the build with a release key.
    pub fn sign(&self, key: &SigningKey) -> Envelope {
        Envelope::sign(self.id(), key)
    }
}

/// Makes a package of the manifest at `path`. `sets` override settings (`--set KEY=VALUE`), and so make another
/// build.
///
/// # Errors
/// Every fault that could be found, each with its line and what to write instead.
pub fn package(
    path: &Path,
    sets: &[(String, String)],
    inspect: Inspect<'_>,
) -> Result<Package, SourceFaults> {
    let file = path.display().to_string();
    let text = read_source(path, &file)?;
    let report = FaultReport::new(&file, &text);
    let package = source::read(&report, &text).and_then(|mut source| {
        override_settings(&report, &mut source.settings, sets);
        assemble(&report, path, source, inspect)
    });
    let faults = report.into_faults();
    match package {
        Some(package) if faults.is_empty() => Ok(package),
        _ => Err(SourceFaults(faults)),
    }
}

fn read_source(path: &Path, file: &str) -> Result<String, SourceFaults> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SourceFaults::one(
            file,
            "there is no such file; name a manifest, such as builds/sample.toml",
        ),
        io::ErrorKind::FileTooLarge => {
            SourceFaults::one(file, format!("{SOURCE_BYTES_MAX} bytes are the most"))
        }
        _ => SourceFaults::one(file, format!("cannot be read: {error}")),
    };
    let bytes = read_bounded(path, SOURCE_BYTES_MAX).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|_| SourceFaults::one(file, "this is not UTF-8 text"))
}

fn override_settings(
    report: &FaultReport,
    settings: &mut BTreeMap<String, String>,
    sets: &[(String, String)],
) {
    for (key, value) in sets {
        if let Some(setting) = settings.get_mut(key) {
            setting.clone_from(value);
            continue;
        }
        let known: Vec<&str> = settings.keys().map(String::as_str).collect();
        let text = format!("unknown setting `{key}`; {}", instead(key, &known));
        report.fault_elsewhere("--set", text);
    }
}

fn assemble(
    report: &FaultReport,
    path: &Path,
    source: SourceManifest,
    inspect: Inspect<'_>,
) -> Option<Package> {
    let mut package = Package {
        manifest: Manifest {
            format: FORMAT,
            name: source.name,
            handlers: BTreeMap::new(),
            routes: source.routes,
            assets: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            live: source.live,
            settings: source.settings,
        },
        blobs: BTreeMap::new(),
        notes: Vec::new(),
    };
    for (name, handler) in source.handlers {
        let made = component(report, path, &name, &handler, inspect, &mut package);
        package.manifest.handlers.insert(name, made);
    }
    for (name, SourceUpstream { mut upstream, ca }) in source.upstreams {
        upstream.tls.ca_pem = ca.and_then(|at| read_authorities(report, path, &at));
        package.manifest.upstreams.insert(name, upstream);
    }
    if let Some(from) = source.assets {
        add_assets(report, path, &from.directory, &from.prefix, &mut package);
    }
    match package.manifest.check() {
        Ok(()) => {
            for Slip { at, text } in strict::slips(&package.manifest, |at| report.line_of(at)) {
                report_at(report, &at, text);
            }
        }
        Err(ManifestError::Inconsistent(faults)) => {
            for fault in faults {
                let hint = nearest_hint(&package.manifest, &fault.kind);
                report_at(report, &fault.at, format!("{fault}{hint}"));
            }
        }
        Err(other) => report.fault(0, other.to_string()),
    }
    Some(package)
}

/// Reads a handler's component. One that is missing or wrong gives a stand-in, so that the rest of the manifest is
/// still checked; the fault refuses the package anyway.
fn component(
    report: &FaultReport,
    manifest: &Path,
    name: &str,
    handler: &SourceHandler,
    inspect: Inspect<'_>,
    package: &mut Package,
) -> Handler {
    let content = handler
        .component
        .as_ref()
        .and_then(|at| read_component(report, manifest, at));
    let world = content.as_ref().and_then(|content| {
        let line = handler.component.as_ref().map_or(0, |at| at.line);
        match inspect(content) {
            Ok(inspection) => {
                package.notes.extend(note(name, &inspection));
                Some(inspection.world)
            }
            Err(fault) => {
                report.fault(line, format!("handler `{name}`: {fault}"));
                None
            }
        }
    });
    // App 0.3 takes every isolation, so the stand-in raises no fault of its own.
    let world = world.unwrap_or(World::App03);
    let content = content.unwrap_or_default();
    let digest = Digest::of(&content);
    let component_bytes = content.len() as u64;
    package.blobs.insert(digest, Blob::Bytes(content));
    Handler {
        component: digest,
        component_bytes,
        world,
        isolation: handler.isolation(world),
        limits: handler.limits(world),
        grants: handler.grants.clone(),
        tenant: handler.tenant.clone(),
        environment: handler.environment.clone(),
        probe: handler.probe.clone(),
    }
}

fn read_component(report: &FaultReport, manifest: &Path, at: &Located<String>) -> Option<Bytes> {
    let path = locate(manifest, &at.value);
    match read_bounded(&path, COMPONENT_BYTES_MAX) {
        Ok(content) => Some(content.into()),
        Err(error) => {
            let text = match error.kind() {
                io::ErrorKind::NotFound => format!(
                    "component `{}` is not there; run `just build-guests` to make it{}",
                    at.value,
                    searched_paths(manifest, &at.value)
                ),
                _ => format!("component `{}` cannot be read: {error}", at.value),
            };
            report.fault(at.line, text);
            None
        }
    }
}

/// Reads the text of `tls.ca`. What it must be is checked with the manifest.
fn read_authorities(report: &FaultReport, manifest: &Path, at: &Located<String>) -> Option<String> {
    let read = read_bounded(&locate(manifest, &at.value), SOURCE_BYTES_MAX);
    let text = read.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    });
    text.map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::NotFound => format!(
                "tls.ca `{}` is not there{}",
                at.value,
                searched_paths(manifest, &at.value)
            ),
            io::ErrorKind::InvalidData => format!("tls.ca `{}` is no PEM", at.value),
            _ => format!("tls.ca `{}` cannot be read: {error}", at.value),
        };
        report.fault(at.line, text);
    })
    .ok()
}

fn add_assets(
    report: &FaultReport,
    manifest: &Path,
    directory: &Located<String>,
    prefix: &str,
    package: &mut Package,
) {
    let path = locate(manifest, &directory.value);
    if !path.is_dir() {
        let text = format!(
            "directory `{}` is not there; make it, or leave [assets] out{}",
            directory.value,
            searched_paths(manifest, &directory.value)
        );
        report.fault(directory.line, text);
        return;
    }
    let collected = assets::collect(&path, prefix);
    for fault in collected.faults {
        report.fault(directory.line, fault);
    }
    package.manifest.assets = collected.assets;
    package.blobs.extend(collected.blobs);
}

/// Resolves a path of the manifest: from the manifest's own folder, else from the one above it (which is the
/// repository's root when manifests are in `builds/`). Where a command is run makes no difference.
pub fn locate(manifest: &Path, named: &str) -> PathBuf {
    let [own, above] = candidates(manifest, named);
    match !own.exists() && above.exists() {
        true => above,
        false => own,
    }
}

/// Paths where [`locate`] looks, in this order.
fn candidates(manifest: &Path, named: &str) -> [PathBuf; 2] {
    let absolute = std::path::absolute(manifest).unwrap_or_else(|_| manifest.to_owned());
    let mut folders = absolute.ancestors().skip(1);
    // `join` leaves an absolute path as it is.
    [(); 2].map(|()| folders.next().unwrap_or(Path::new("/")).join(named))
}

/// Text that says where a path of the manifest was looked for, for a message that it is not there.
fn searched_paths(manifest: &Path, named: &str) -> String {
    if Path::new(named).is_absolute() {
        return String::new();
    }
    let [own, _] = candidates(manifest, named);
    let elsewhere = match Path::new(named).exists() {
        true => "; the one in the current folder does not count",
        false => "",
    };
    let own = own.display();
    format!(" (looked for {own} and in the folder above{elsewhere})")
}

/// Note that says why an edge handler is not called synchronously.
fn note(name: &str, inspection: &Inspected) -> Option<String> {
    if inspection.world != World::EdgeWasi {
        return None;
    }
    Some(format!(
        "handler `{name}` runs asynchronously, which costs more for each request, because it imports {}",
        inspection.awaited_imports.join(", ")
    ))
}

/// Reports a fault of the finished manifest at the line that it comes from.
fn report_at(report: &FaultReport, at: &ManifestPath, text: String) {
    let at = source::written_at(at);
    if !report.is_unread(&at) {
        report.fault(report.line_of(&at).unwrap_or(0), text);
    }
}

/// Text that names the nearest name that the build has, for one that it has not.
fn nearest_hint(manifest: &Manifest, kind: &FaultKind) -> String {
    fn among<'a, T>(name: &str, known: &'a BTreeMap<String, T>) -> Option<&'a str> {
        nearest(name, known.keys().map(String::as_str))
    }
    let FaultKind::Unknown(unknown) = kind else {
        return String::new();
    };
    let near = match unknown {
        UnknownName::Handler(name) | UnknownName::App(name) => among(name, &manifest.handlers),
        UnknownName::Upstream(name) => among(name, &manifest.upstreams),
        UnknownName::Setting(name) => among(name, &manifest.settings),
        UnknownName::Namespace(name) => {
            let live = manifest.live.as_ref();
            live.and_then(|live| among(name, &live.namespaces))
        }
    };
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests;
