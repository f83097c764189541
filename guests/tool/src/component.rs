//! Components: made from core modules, and what they import and export.

use anyhow::{Context, Result, bail};
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

/// Wraps a core module that carries its world in a custom section, as wit-bindgen writes it.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context("the module says nothing about its world; does it use the SDK's macro?")?
        .encode()
        .context("the module does not fit its world")
}

/// Whether these bytes are a component (and not a core module).
pub fn is_component(wasm: &[u8]) -> bool {
    Parser::is_component(wasm)
}

/// Names at the outside of a component.
pub struct ComponentNames {
    /// Imports, in order.
    pub imports: Vec<String>,
    /// Exports, in order.
    pub exports: Vec<String>,
}

impl ComponentNames {
    /// Reads the names of the outermost component only.
    pub fn of(wasm: &[u8]) -> Result<Self> {
        let mut names = Self {
            imports: Vec::new(),
            exports: Vec::new(),
        };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    if depth == 1 && encoding == Encoding::Module {
                        bail!("a core module, not a component");
                    }
                }
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        let import = import?;
                        // Types that a world names are no things to be given.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            names.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        names.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// Prints one line for each name.
    pub fn print(&self) {
        for import in &self.imports {
            println!("  import {import}");
        }
        for export in &self.exports {
            println!("  export {export}");
        }
    }
}
