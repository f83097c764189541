//! Guests of the workspace: which there are, and how each is made.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Target of guests without WASI: it has none, so nothing of WASI can be imported.
const TARGET_BARE: &str = "wasm32-unknown-unknown";
const TARGET_WASI: &str = "wasm32-wasip2";

/// Worlds that a guest in Rust can be written against. Guests of one world are built together, and apart from all
/// others: cargo would give each of them the features that any of them asks of the SDK.
pub const WORLDS: [World; 6] = [
    World::new("edge", TARGET_BARE, Output::Pure),
    World::new("live", TARGET_BARE, Output::Pure),
    World::new("live-stateful", TARGET_BARE, Output::Pure),
    World::new("module", TARGET_BARE, Output::Module),
    World::new("edge-wasi", TARGET_WASI, Output::Component),
    World::new("app", TARGET_WASI, Output::Component),
];

/// A world that a guest can be written against, see [`WORLDS`].
pub struct World {
    /// Name, as in `[package.metadata.protoplex]`.
    pub name: &'static str,
    /// The target triple.
    pub target: &'static str,
    output: Output,
}

impl World {
    const fn new(name: &'static str, target: &'static str, output: Output) -> Self {
        Self {
            name,
            target,
            output,
        }
    }
}

/// One guest.
pub struct Guest {
    /// Name of the guest's folder, and of its component.
    pub name: String,
    /// Name of the folder of guests that it stands in, `sample` for example.
    pub group: String,
    /// A line for people.
    pub description: String,
    /// Folder of the source.
    pub folder: PathBuf,
    /// Recipe by which the guest is made.
    pub recipe: Recipe,
}

/// Recipe by which a guest is made.
pub enum Recipe {
    /// The guest is made by cargo, from `[package.metadata.protoplex]` in its Cargo.toml.
    Cargo {
        /// World that the guest is written against.
        world: &'static World,
        /// Output that cargo's core module becomes.
        output: Output,
    },
    /// The guest is made by a tool of its own, from `guest.toml`.
    Command(GuestCommand),
}

/// Output of a guest in Rust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A component that may import `protoplex:*` and nothing else.
    Pure,
    /// A component with any imports.
    Component,
    /// The core module as it is.
    Module,
}

/// Content of a `guest.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestCommand {
    /// A line for people.
    pub description: String,
    /// The program, relative to the guest's folder when it contains a `/`; then its arguments. `{out}` stands for
    /// the file to write.
    pub command: Vec<String>,
    /// A file that is there when the program is installed.
    pub needs: String,
    /// Files and folders that the component is made from.
    pub inputs: Vec<String>,
}

#[derive(Deserialize)]
struct CargoToml {
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    description: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    protoplex: Option<Protoplex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Protoplex {
    /// Name of one of [`WORLDS`]; `module` is for a core module that stays one.
    world: String,
    /// Lets an edge guest import more than its world has (to see that refused).
    #[serde(default)]
    any_import: bool,
}

/// Finds all guests below the workspace's folder, by name. Each is a folder in a folder.
pub fn find(root: &Path) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for group in folders(root)? {
        for folder in folders(&group)? {
            if let Some(guest) = from_cargo(&folder)? {
                guests.push(guest);
            } else if let Some(guest) = from_command(&folder)? {
                guests.push(guest);
            }
        }
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    for pair in guests.windows(2) {
        if pair[0].name == pair[1].name {
            let [one, other] = [&pair[0], &pair[1]].map(|guest| guest.folder.display());
            bail!("{one} and {other} have one name; components are told apart by it");
        }
    }
    Ok(guests)
}

fn folders(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(parent)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.is_dir()).collect())
}

/// Name of the folder that a guest's folder stands in.
fn group(folder: &Path) -> String {
    let parent = folder.parent().and_then(Path::file_name);
    parent.unwrap_or_default().to_string_lossy().into_owned()
}

fn from_cargo(folder: &Path) -> Result<Option<Guest>> {
    let Some(manifest) = read::<CargoToml>(&folder.join("Cargo.toml"))? else {
        return Ok(None);
    };
    let Some(package) = manifest.package else {
        return Ok(None);
    };
    let Some(about) = package.metadata.and_then(|m| m.protoplex) else {
        return Ok(None);
    };
    ensure!(
        folder.ends_with(&package.name),
        "the package in {} is named `{}`; a guest has its folder's name",
        folder.display(),
        package.name
    );
    let Some(world) = WORLDS.iter().find(|world| world.name == about.world) else {
        let names = WORLDS.map(|world| world.name).join(", ");
        bail!(
            "{}: world `{}`; there are {names}",
            package.name,
            about.world
        );
    };
    let output = match about.any_import {
        true => Output::Component,
        false => world.output,
    };
    Ok(Some(Guest {
        name: package.name,
        group: group(folder),
        description: package.description,
        folder: folder.to_owned(),
        recipe: Recipe::Cargo { world, output },
    }))
}

fn from_command(folder: &Path) -> Result<Option<Guest>> {
    let Some(command) = read::<GuestCommand>(&folder.join("guest.toml"))? else {
        return Ok(None);
    };
    ensure!(
        !command.command.is_empty(),
        "{}: guest.toml has an empty command",
        folder.display()
    );
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(Guest {
        name: name.into_owned(),
        group: group(folder),
        description: command.description.clone(),
        folder: folder.to_owned(),
        recipe: Recipe::Command(command),
    }))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} cannot be read", path.display())),
        Err(_) => Ok(None),
    }
}
