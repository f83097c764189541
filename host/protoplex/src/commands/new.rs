//! `new`: makes a guest that works, from a template, in the guests' workspace.

use crate::{
    cli::{self, Template},
    exit::CommandExit,
    output,
};
use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path};

const MANIFEST: &str = include_str!("../../templates/Cargo.toml.in");
const EDGE: &str = include_str!("../../templates/edge.rs.in");
const APP: &str = include_str!("../../templates/app.rs.in");
/// The folder for new guests, relative to the repository: `up` and `dev` build what is in it.
const NEW_GUESTS: &str = "guests/sample";
/// Names that a guest may not have: folders beside the guests and around them, and one that cargo keeps for itself.
const TAKEN: [&str; 8] = [
    "target", "test", "sdk", "tool", "site", "sample", "examples", "fixtures",
];
/// Most bytes of a guest's name: long names make long host names and metrics.
const NAME_BYTES_MAX: usize = 64;

/// Runs `new`: writes the guest and says what to add to a manifest.
///
/// # Errors
/// When the name or the folder will not do.
pub fn run(args: &cli::NewArgs) -> Result<CommandExit> {
    check_name(&args.name)?;
    let default = || Path::new(NEW_GUESTS).join(&args.name);
    let folder = args.dir.clone().unwrap_or_else(default);
    check_folder(&folder, &args.name)?;
    let (world, description, source) = match args.template {
        Template::Edge => ("edge", "An edge handler", EDGE),
        Template::App => ("app", "An app handler", APP),
    };
    let manifest = MANIFEST
        .replace("{name}", &args.name)
        .replace("{description}", description)
        .replace("{world}", world);
    let source = source.replace("{name}", &args.name);
    let write = || {
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::write(folder.join("src/lib.rs"), source)
    };
    write().with_context(|| format!("writing {}", folder.display()))?;
    output::say(format_args!(
        "made {}\nbuild it with `just build-guests {}`, and add this to a manifest in builds/:\n",
        folder.display(),
        args.name
    ));
    output::line(manifest_lines(&args.name, args.template))?;
    Ok(CommandExit::Done)
}

fn manifest_lines(name: &str, template: Template) -> String {
    let role = match template {
        Template::Edge => "proxy",
        Template::App => "app",
    };
    format!(
        "[handlers.{name}]\ncomponent = \"builds/out/{name}.wasm\"\n\n\
         [[routes]]\nrole = \"{role}\"\npath = \"/{name}/*\"\nhandler = \"{name}\""
    )
}

fn check_name(name: &str) -> Result<()> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ensure!(
        name.len() <= NAME_BYTES_MAX
            && name.bytes().all(ok)
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-'),
        "`{name}` cannot be a name: use small letters, digits and `-`, and start with a letter"
    );
    ensure!(
        !TAKEN.contains(&name),
        "`{name}` is taken; choose another name"
    );
    Ok(())
}

/// Checks that the folder is new, called like the guest, and stands in a folder of the guests' workspace, whose
/// settings it shares.
fn check_folder(folder: &Path, name: &str) -> Result<()> {
    ensure!(
        folder.file_name().is_some_and(|last| last == name),
        "the folder {} must be called `{name}`, as the guest is",
        folder.display()
    );
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let mut above = folder.ancestors().skip(2);
    let workspace = above.next().unwrap_or(folder).join("Cargo.toml");
    let text = fs::read_to_string(&workspace).unwrap_or_default();
    ensure!(
        text.contains("[workspace]") && text.contains("protoplex-sdk"),
        "{} is not the workspace of the guests; run this in the repository's root, and name a folder such as \
         {NEW_GUESTS}/{name}",
        workspace.display()
    );
    let group = folder.parent().and_then(Path::file_name);
    let group = group.unwrap_or_default().to_string_lossy();
    ensure!(
        text.contains(&format!("\"{group}/*\"")),
        "{} has no members in {group}/; name a folder in {NEW_GUESTS}, or add \"{group}/*\" to the members",
        workspace.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_workspace(template: Template) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let workspace = "[workspace]\nmembers = [\"mine/*\"]\n[workspace.dependencies]\nprotoplex-sdk = { path = \"sdk\" }\n";
        fs::write(root.path().join("Cargo.toml"), workspace).expect("written");
        run(&new(root.path(), template)).expect("made");
        root
    }

    fn new(root: &Path, template: Template) -> cli::NewArgs {
        cli::NewArgs {
            name: "my-page".to_owned(),
            template,
            dir: Some(root.join("mine/my-page")),
        }
    }

    #[test]
    fn every_template_is_filled_in() {
        for template in [Template::Edge, Template::App] {
            let root = in_workspace(template);
            for file in ["Cargo.toml", "src/lib.rs"] {
                let text = fs::read_to_string(root.path().join("mine/my-page").join(file));
                let text = text.expect("it was written");
                assert!(text.contains("my-page"), "{text}");
                assert!(
                    !text.contains("{name}") && !text.contains("{world}"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let root = in_workspace(Template::Edge);
        let error = run(&new(root.path(), Template::App)).expect_err("it is there");
        assert!(error.to_string().contains("is there already"), "{error}");
    }

    #[test]
    fn a_folder_outside_the_members_is_refused() {
        let root = in_workspace(Template::Edge);
        let mut args = new(root.path(), Template::Edge);
        args.dir = Some(root.path().join("yours/my-page"));
        let error = run(&args).expect_err("no member");
        assert!(error.to_string().contains("yours/*"), "{error}");
    }

    #[test]
    fn names_that_are_no_crate_names_are_refused() {
        for name in ["", "A", "1a", "a/b", "..", "a-", "sdk"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
