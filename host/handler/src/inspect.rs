//! World and faults of a component, by its imports and exports alone: cheap, and without compiling it.

use crate::BuildFault;
use protoplex_wire::{manifest::World, release::Stage};
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};

/// Packages that an edge handler imports where it is called synchronously: none of their functions waits.
const EDGE_PACKAGES: [&str; 2] = ["protoplex:host/", "protoplex:edge/"];
/// Packages that a live handler imports.
const LIVE_PACKAGES: [&str; 2] = ["protoplex:host/", "protoplex:live/"];

/// The finding of `inspect`.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The world, told by the exports (and, for edge components, by the imports).
    pub world: World,
    /// Imports for which an edge component is called asynchronously. Empty for other worlds.
    pub awaited_imports: Vec<String>,
}

impl Inspection {
    fn of(world: World) -> Self {
        Self {
            world,
            awaited_imports: Vec::new(),
        }
    }
}

/// Tells a component's world.
///
/// # Errors
/// Stage `compile` when the bytes are no component, `link` when it exports no world of ours; the reason says what
/// to do.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, BuildFault> {
    let (imports, exports) = names(wasm)?;
    let exports_any = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let exports_one = |wanted: &str| exports.iter().any(|name| name == wanted);
    if exports_any("wasi:http/handler@0.3") {
        return Ok(Inspection::of(World::App03));
    }
    if exports_any("wasi:http/incoming-handler@0.2") {
        return Ok(Inspection::of(World::App02));
    }
    if exports_one("decide") {
        let awaited_imports: Vec<String> = foreign(imports, &EDGE_PACKAGES).collect();
        let world = match awaited_imports.is_empty() {
            true => World::Edge,
            false => World::EdgeWasi,
        };
        return Ok(Inspection {
            world,
            awaited_imports,
        });
    }
    if ["opened", "received", "closed"].map(exports_one) == [true; 3] {
        let stateful = ["save", "restore"].map(exports_one);
        return live_world(imports, stateful).map(Inspection::of);
    }
    let exported = match exports.is_empty() {
        true => "nothing".to_owned(),
        false => exports.join(", "),
    };
    Err(fault(
        Stage::Link,
        format!(
            "it exports {exported}, and no world of ours; a handler exports `decide` (world protoplex:edge/edge), \
             `opened`, `received` and `closed` (world protoplex:live/live), `wasi:http/handler@0.3` or \
             `wasi:http/incoming-handler@0.2`"
        ),
    ))
}

/// Imports from outside these packages.
fn foreign(imports: Vec<String>, packages: &[&str]) -> impl Iterator<Item = String> {
    let is_foreign = |name: &String| !packages.iter().any(|package| name.starts_with(package));
    imports.into_iter().filter(is_foreign)
}

/// The world of a live component, of which `stateful` says whether it exports `save`, and whether `restore`.
fn live_world(imports: Vec<String>, stateful: [bool; 2]) -> Result<World, BuildFault> {
    if let Some(foreign) = foreign(imports, &LIVE_PACKAGES).next() {
        return Err(fault(
            Stage::Link,
            format!(
                "it imports `{foreign}`; a live handler imports what world protoplex:live/live names and nothing \
                 else, since its calls cannot wait: build it for wasm32-unknown-unknown, as `just build-guests` does"
            ),
        ));
    }
    match stateful {
        [true, true] => Ok(World::LiveStateful),
        [false, false] => Ok(World::Live),
        _ => Err(fault(
            Stage::Link,
            "it exports one of `save` and `restore`; export both (world protoplex:live/live-stateful) or none"
                .into(),
        )),
    }
}

/// Names of the outermost component's imports and exports.
fn names(wasm: &[u8]) -> Result<(Vec<String>, Vec<String>), BuildFault> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload
            .map_err(|error| fault(Stage::Compile, format!("not a WebAssembly binary: {error}")))?
        {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => {
                return Err(fault(
                    Stage::Compile,
                    "it is a core module; a handler is a component (wrap it with wit-component, as `just build-guests` does)".into(),
                ));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import =
                        import.map_err(|error| fault(Stage::Compile, error.to_string()))?;
                    // Types that a world names are no things to be given.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export =
                        export.map_err(|error| fault(Stage::Compile, error.to_string()))?;
                    exports.push(export.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn fault(stage: Stage, reason: String) -> BuildFault {
    BuildFault { stage, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that imports and exports empty instances of these names.
    fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let instance_type: &[u8] = &[7, 3, 1, 0x42, 0];
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        wasm.extend(instance_type);
        wasm.extend(section(10, imports, &[5, 0]));
        wasm.extend(section(11, exports, &[5, 0, 0]));
        wasm
    }

    /// A section of names, each with what it is.
    fn section(id: u8, names: &[&str], item: &[u8]) -> Vec<u8> {
        let byte = |length: usize| u8::try_from(length).expect("tests are small");
        let mut content = vec![byte(names.len())];
        for name in names {
            content.extend([0, byte(name.len())]);
            content.extend(name.as_bytes());
            content.extend(item);
        }
        let size = content.len();
        // Two bytes of LEB128, whatever the size.
        let mut section = vec![id, byte(size & 0x7f) | 0x80, byte(size >> 7)];
        section.extend(content);
        section
    }

    const LOG: &str = "protoplex:host/log@0.1.0";
    const TYPES: &str = "protoplex:edge/types@0.1.0";
    const CHANNELS: &str = "protoplex:live/channels@0.1.0";
    const WASI: &str = "wasi:cli/environment@0.2.6";
    const LIVE: [&str; 3] = ["opened", "received", "closed"];

    #[test]
    fn imports_of_other_packages_make_edge_handlers_asynchronous() {
        for (imports, world, awaited) in [
            (vec![LOG, TYPES], World::Edge, vec![]),
            (vec![LOG, WASI, TYPES], World::EdgeWasi, vec![WASI]),
            (vec![CHANNELS], World::EdgeWasi, vec![CHANNELS]),
        ] {
            let found = inspect(&component(&imports, &["decide"])).expect("a world");
            assert_eq!(found.world, world, "{imports:?}");
            assert_eq!(found.awaited_imports, awaited, "{imports:?}");
        }
    }

    #[test]
    fn a_live_handler_imports_nothing_that_waits() {
        let found = inspect(&component(&[LOG, CHANNELS], &LIVE)).expect("a world");
        assert_eq!(found.world, World::Live);
        for foreign in [WASI, TYPES] {
            let fault = inspect(&component(&[LOG, foreign], &LIVE)).expect_err("foreign");
            assert!(fault.reason.contains(foreign), "{fault}");
        }
    }
}
