//! World and faults of a component, by its imports and exports alone: cheap, and without compiling it.

use crate::BuildFault;
use protoplex_wire::{manifest::World, release::Stage};
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};

/// The finding of `inspect`.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The world, told by the exports (and, for edge components, by the imports).
    pub world: World,
    /// Names of everything it imports.
    pub imports: Vec<String>,
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
    let world = if exports_any("wasi:http/handler@0.3") {
        World::App03
    } else if exports_any("wasi:http/incoming-handler@0.2") {
        World::App02
    } else if exports_one("decide") {
        let foreign = imports
            .iter()
            .any(|name| !name.starts_with("protoplex:edge/"));
        if foreign {
            World::EdgeWasi
        } else {
            World::Edge
        }
    } else if ["opened", "received", "closed"].map(exports_one) == [true; 3] {
        let is_ours =
            |name: &str| name.starts_with("protoplex:edge/") || name.starts_with("protoplex:live/");
        if let Some(foreign) = imports.iter().find(|name| !is_ours(name)) {
            return Err(fault(
                Stage::Link,
                format!(
                    "it imports `{foreign}`; a live handler imports what world protoplex:live/live names and nothing \
                     else, since its calls cannot wait: build it for wasm32-unknown-unknown, as `just build-guests` does"
                ),
            ));
        }
        match ["save", "restore"].map(exports_one) {
            [true, true] => World::LiveStateful,
            [false, false] => World::Live,
            _ => {
                return Err(fault(
                    Stage::Link,
                    "it exports one of `save` and `restore`; export both (world protoplex:live/live-stateful) or none"
                        .into(),
                ));
            }
        }
    } else {
        return Err(fault(
            Stage::Link,
            format!(
                "it exports {}, and no world of ours; a handler exports `decide` (world protoplex:edge/edge), \
                 `opened`, `received` and `closed` (world protoplex:live/live), `wasi:http/handler@0.3` or \
                 `wasi:http/incoming-handler@0.2`",
                if exports.is_empty() {
                    "nothing".to_owned()
                } else {
                    exports.join(", ")
                }
            ),
        ));
    };
    Ok(Inspection { world, imports })
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
