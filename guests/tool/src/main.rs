//! Builds the guests and puts the components into `builds/out`.
//!
//! Guests in Rust go through one `cargo build` for each target; a core module comes out, which is wrapped into a
//! component here. Guests in other languages have a `guest.toml` that names their own tool. A file of `builds/out`
//! is written only when its bytes change, so that whoever watches that folder sees changes and nothing else.

mod build;
mod component;
mod guest;

use anyhow::{Result, bail};
use std::{path::Path, process::ExitCode};

const USAGE: &str = "\
guest-tool build [NAME…]          build these guests, those of these folders, or all
guest-tool clippy                 lint every guest for its own target, and the tool and the SDK
guest-tool list                   name every guest
guest-tool wrap MODULE COMPONENT  make a component of a core module
guest-tool inspect FILE…          print what components import and export";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build", names @ ..] => build::build(&root(), names),
        ["clippy"] => build::clippy(&root()),
        ["list"] => {
            for guest in guest::find(&root())? {
                println!("{:9} {:14} {}", guest.group, guest.name, guest.description);
            }
            Ok(())
        }
        ["wrap", module, target] => {
            let wasm = component::wrap(&std::fs::read(module)?)?;
            Ok(std::fs::write(target, wasm)?)
        }
        ["inspect", files @ ..] if !files.is_empty() => {
            for file in files {
                println!("{file}");
                component::ComponentNames::of(&std::fs::read(file)?)?.print();
            }
            Ok(())
        }
        _ => bail!("usage:\n{USAGE}"),
    }
}

/// Finds the folder `guests` that `cargo run` was asked for, else the one where this tool was compiled: a copied or
/// moved checkout brings its target folder along.
fn root() -> std::path::PathBuf {
    let running = std::env::var_os("CARGO_MANIFEST_DIR");
    Path::new(&running.unwrap_or(env!("CARGO_MANIFEST_DIR").into()))
        .parent()
        .expect("the tool has a folder of its own inside guests")
        .to_owned()
}
