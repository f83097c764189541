//! Build of guests: from their sources to `builds/out/NAME.wasm`.

use crate::{
    component::{self, ComponentNames},
    guest::{self, Guest, GuestCommand, Output, Recipe, WORLDS, World},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process,
    time::Instant,
};

/// Name of the target folder below the guests' workspace.
const TARGET_DIR: &str = "target";

/// Builds the guests of those names and in folders of those names, or all of them.
pub fn build(root: &Path, names: &[&str]) -> Result<()> {
    let guests = chosen(guest::find(root)?, names)?;
    let out = root.with_file_name("builds").join("out");
    fs::create_dir_all(&out)?;
    for world in &WORLDS {
        let packages = packages(&guests, world);
        let started = Instant::now();
        cargo(root, "build", world.target, &packages, &[])?;
        if !packages.is_empty() {
            let time = started.elapsed().as_millis();
            eprintln!("{:30} {time:>8} ms", format!("cargo, {}", world.name));
        }
        for (guest, output) in packages {
            let started = Instant::now();
            let wasm = finish(root, world.target, guest, output)
                .with_context(|| format!("guest `{}`", guest.name))?;
            place(&out, &guest.name, &wasm, started)?;
        }
    }
    for guest in &guests {
        if let Recipe::Command(command) = &guest.recipe {
            by_command(&out, guest, command, names.contains(&guest.name.as_str()))
                .with_context(|| format!("guest `{}`", guest.name))?;
        }
    }
    Ok(())
}

/// Lints everything in Rust here. Guests are looked at as what they are built for; the rest for this machine.
pub fn clippy(root: &Path) -> Result<()> {
    let guests = guest::find(root)?;
    let strict = ["--", "-D", "warnings"];
    for world in &WORLDS {
        let packages = packages(&guests, world);
        cargo(root, "clippy", world.target, &packages, &strict)?;
    }
    let tool = ["--package", env!("CARGO_PKG_NAME"), "--all-targets"];
    run_cargo(root, &[&["clippy", "--quiet"], &tool[..], &strict].concat())
}

fn packages<'a>(guests: &'a [Guest], world: &World) -> Vec<(&'a Guest, Output)> {
    let of_world = |guest: &'a Guest| match &guest.recipe {
        Recipe::Cargo { world: of, output } if of.name == world.name => Some((guest, *output)),
        _ => None,
    };
    guests.iter().filter_map(of_world).collect()
}

fn chosen(guests: Vec<Guest>, names: &[&str]) -> Result<Vec<Guest>> {
    if names.is_empty() {
        return Ok(guests);
    }
    for name in names {
        if !guests.iter().any(|guest| is_meant(guest, name)) {
            let all = guests.iter().map(|guest| guest.name.as_str());
            let mut groups: Vec<&str> = guests.iter().map(|guest| guest.group.as_str()).collect();
            groups.sort_unstable();
            groups.dedup();
            bail!(
                "there is no guest `{name}`, and no folder of guests; the guests are {}, the folders {}",
                all.collect::<Vec<_>>().join(", "),
                groups.join(", ")
            );
        }
    }
    Ok(guests
        .into_iter()
        .filter(|guest| names.iter().any(|name| is_meant(guest, name)))
        .collect())
}

fn is_meant(guest: &Guest, name: &str) -> bool {
    guest.name == name || guest.group == name
}

fn cargo(
    root: &Path,
    verb: &str,
    target: &str,
    guests: &[(&Guest, Output)],
    more: &[&str],
) -> Result<()> {
    if guests.is_empty() {
        return Ok(());
    }
    // Where the outputs are looked for, whatever the environment says.
    let mut arguments = vec![verb, "--quiet", "--release", "--target", target];
    arguments.extend(["--target-dir", TARGET_DIR]);
    for (guest, _) in guests {
        arguments.extend(["--package", &guest.name]);
    }
    arguments.extend(more);
    run_cargo(root, &arguments)
}

fn run_cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(root)
        .args(arguments)
        // Flags meant for the host's compiler have no place in a guest.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo could not be started")?;
    ensure!(status.success(), "cargo {} failed", arguments[0]);
    Ok(())
}

/// Makes the bytes that are handed out from cargo's output.
fn finish(root: &Path, target: &str, guest: &Guest, output: Output) -> Result<Vec<u8>> {
    let file = format!("{}.wasm", guest.name.replace('-', "_"));
    let path = root
        .join(TARGET_DIR)
        .join(target)
        .join("release")
        .join(file);
    let wasm = fs::read(&path).with_context(|| format!("{} is not there", path.display()))?;
    if output == Output::Module || component::is_component(&wasm) {
        return Ok(wasm);
    }
    let wrapped = component::wrap(&wasm)?;
    if output == Output::Pure {
        for import in ComponentNames::of(&wrapped)?.imports {
            ensure!(
                import.starts_with("protoplex:"),
                "an edge or live guest imports only protoplex:*, and this one imports {import}"
            );
        }
    }
    Ok(wrapped)
}

/// Writes the component if it differs from what is there, by way of a second file, so that a reader never sees half.
fn place(out: &Path, name: &str, wasm: &[u8], started: Instant) -> Result<()> {
    let path = out.join(format!("{name}.wasm"));
    let same = fs::read(&path).is_ok_and(|old| old == wasm);
    if !same {
        let partial = out.join(format!(".{name}.partial"));
        fs::write(&partial, wasm)?;
        fs::rename(&partial, &path)?;
    }
    let note = if same { "unchanged" } else { "written" };
    report(name, wasm.len(), started, note);
    Ok(())
}

fn report(name: &str, bytes: usize, started: Instant, note: &str) {
    let size = format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024);
    let time = started.elapsed().as_millis();
    eprintln!("{name:14} {size:>15} {time:>8} ms  {note}");
}

/// Runs a guest's own tool, which takes seconds, so only when an input changed. A tool that is not installed is an
/// error when the guest was asked for by name and a note otherwise.
fn by_command(out: &Path, guest: &Guest, command: &GuestCommand, named: bool) -> Result<()> {
    let started = Instant::now();
    let path = out.join(format!("{}.wasm", guest.name));
    let stamp_path = out.join(format!(".{}.stamp", guest.name));
    if !guest.folder.join(&command.needs).exists() {
        ensure!(
            !named,
            "its tool is not installed ({}); run `just setup`",
            command.needs
        );
        eprintln!(
            "{:14} left out: its tool is not installed; run `just setup`",
            guest.name
        );
        return Ok(());
    }
    let stamp = stamp(guest, command)?;
    if path.exists() && fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp) {
        let bytes = fs::metadata(&path)?.len() as usize;
        report(&guest.name, bytes, started, "unchanged");
        return Ok(());
    }
    let partial = out.join(format!(".{}.partial", guest.name));
    run(guest, command, &partial)?;
    let wasm = fs::read(&partial).context("its tool left no component")?;
    fs::remove_file(&partial)?;
    place(out, &guest.name, &wasm, started)?;
    Ok(fs::write(stamp_path, stamp)?)
}

fn run(guest: &Guest, command: &GuestCommand, partial: &Path) -> Result<()> {
    let program = &command.command[0];
    let program: PathBuf = if program.contains('/') {
        guest.folder.join(program)
    } else {
        program.into()
    };
    let output = process::Command::new(&program)
        .current_dir(&guest.folder)
        .args(
            command.command[1..]
                .iter()
                .map(|argument| argument.replace("{out}", &partial.to_string_lossy())),
        )
        .stdin(process::Stdio::null())
        .output()
        .with_context(|| format!("{} could not be started", program.display()))?;
    ensure!(
        output.status.success(),
        "{} failed\n{}{}",
        program.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Makes a text that changes when an input does.
fn stamp(guest: &Guest, command: &GuestCommand) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    command.command.hash(&mut hasher);
    for input in &command.inputs {
        hash(&guest.folder.join(input), &mut hasher)
            .with_context(|| format!("input {input} of guest.toml"))?;
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| hash(entry, hasher));
    }
    path.file_name().hash(hasher);
    fs::read(path)?.hash(hasher);
    Ok(())
}
