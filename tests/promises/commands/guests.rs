//! `new` and `dev`: from a template to a handler that answers, and from saving a file to the new answer.

use super::SWAP;
use protoplex_tests::{Connection, Fleet, program, repository, said, signal};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// A guest is built in between, on a busy machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(120);

/// A copy of the guests' workspace without its guests. It keeps its target folder for the next run, and is used by
/// one test at a time.
struct Workspace {
    root: PathBuf,
    _lock: File,
}

impl Workspace {
    fn open() -> Self {
        let target = program().unwrap().ancestors().nth(2).unwrap().to_owned();
        let root = target.join("test-guests");
        fs::create_dir_all(root.join("builds")).unwrap();
        let lock = File::create(root.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let guests = root.join("guests");
        for entry in fs::read_dir(&guests).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = ["target", "sdk", "tool"].iter().any(|kept| name == *kept);
            if entry.path().is_dir() && !kept {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        for name in [
            "guests/sdk",
            "guests/tool",
            "guests/Cargo.toml",
            "guests/Cargo.lock",
            // A folder of the workspace must have a member.
            "guests/fixtures/hello",
            "wit",
        ] {
            copy(&repository().join(name), &root.join(name));
        }
        start_from(&repository().join("guests/target"), &guests.join("target"));
        Self { root, _lock: lock }
    }

    /// `protoplex new`, and what it says to add to a manifest.
    fn make(&self, name: &str, template: &str) -> String {
        let mut command = Command::new(program().unwrap());
        command.args(["new", name, "--template", template]);
        let made = said(command.current_dir(&self.root)).unwrap();
        assert_eq!(made.code, 0, "{made:?}");
        made.out
    }

    /// Runs `just build-guests NAME…`.
    fn build(&self, names: &[&str]) {
        let mut command = Command::new("cargo");
        command
            .args(["run", "--quiet", "--manifest-path", "guests/Cargo.toml"])
            .args(["--package", "protoplex-guest-tool", "--", "build"])
            .args(names)
            .current_dir(&self.root);
        let built = said(&mut command).unwrap();
        assert_eq!(built.code, 0, "{}", built.err);
    }

    fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.root.join("builds").join(format!("{name}.toml"));
        fs::write(&path, format!("name = \"{name}\"\n\n{text}")).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Starts from what the guests' own workspace has compiled of other people's crates.
fn start_from(made: &Path, target: &Path) {
    let partial = target.with_extension("partial");
    if target.exists() || !made.exists() {
        return;
    }
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"]).args([made, &partial]);
    if said(&mut copy).unwrap().code == 0 {
        fs::rename(&partial, target).unwrap();
    }
}

/// Makes `to` the same as `from`. Files that are the same already keep their times, so that cargo builds nothing anew.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(to).unwrap().flatten() {
            if !from.join(entry.file_name()).exists() {
                match entry.path() {
                    folder if folder.is_dir() => fs::remove_dir_all(folder).unwrap(),
                    file => fs::remove_file(file).unwrap(),
                }
            }
        }
        for entry in fs::read_dir(from).unwrap().flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
        return;
    }
    let content = fs::read(from).unwrap();
    if !fs::read(to).is_ok_and(|old| old == content) {
        fs::write(to, content).unwrap();
    }
}

async fn get(address: &str, path: &str) -> String {
    let answer = Connection::get_once(address, path).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_makes_an_edge_guest_and_an_app_guest_that_build_push_and_answer() {
    let workspace = Workspace::open();
    let lines = [
        workspace.make("new-page", "edge"),
        workspace.make("new-service", "app"),
    ];
    workspace.build(&["new-page", "new-service"]);
    let file = workspace.manifest("new", &lines.join("\n"));
    let fleet = Fleet::start(SWAP).unwrap();
    let pushed = fleet.push(&file, &[]).unwrap();
    assert_eq!((pushed.code, pushed.err.as_str()), (0, ""), "{pushed:?}");
    let page = get(&fleet.node("proxy").http, "/new-page/").await;
    assert_eq!(page, "hello from new-page\n");
    let service = get(&fleet.node("app").http, "/new-service/x").await;
    assert_eq!(service, "hello from new-service\n");
}

/// A running `protoplex dev`, which says everything on stderr.
struct Dev {
    process: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(workspace: &Workspace, fleet: &Fleet, file: &str) -> Self {
        let mut command = fleet.command(&["dev", file, "--data"]).unwrap();
        command.arg(fleet.data()).current_dir(&workspace.root);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = process.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// All lines up to the first that starts with `word`.
    fn until(&self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(LINE_TIMEOUT) {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{error} before {word:?}, after {lines:#?}"),
            }
            if lines.last().is_some_and(|line| line.starts_with(word)) {
                return lines;
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = signal(pid, Signal::INT);
        }
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_brings_a_saved_guest_to_the_new_answer_and_shows_the_time_of_each_step() {
    let workspace = Workspace::open();
    let lines = workspace.make("saved-page", "edge");
    workspace.build(&["saved-page"]);
    let file = workspace.manifest("dev", &lines);
    let fleet = Fleet::start(SWAP).unwrap();
    let address = fleet.node("proxy").http;
    let dev = Dev::start(&workspace, &fleet, "builds/dev.toml");
    dev.until("watching ");
    assert_eq!(
        get(&address, "/saved-page/").await,
        "hello from saved-page\n"
    );

    let source = workspace.root.join("guests/sample/saved-page/src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("hello from", "changed in")).unwrap();
    let steps = dev.until("total");
    assert_eq!(
        get(&address, "/saved-page/").await,
        "changed in saved-page\n"
    );
    for step in [
        "changed  guests/sample/saved-page/src/lib.rs",
        "built    saved-page",
        "packaged",
        "pushed",
        "total",
    ] {
        let said = steps.iter().find(|line| line.starts_with(step));
        let said = said.unwrap_or_else(|| panic!("{step:?} is not in {steps:#?}"));
        assert!(
            step.starts_with("changed") || said.ends_with(" ms"),
            "{said:?}"
        );
    }
    #[expect(clippy::print_stderr, reason = "the times are for whoever looks")]
    {
        eprintln!("{}", steps.join("\n"));
    }

    // What does not compile is said, the fleet runs on, and the next save is heard.
    fs::write(&source, "not Rust").unwrap();
    dev.until("not built; the fleet runs on as before");
    assert_eq!(
        get(&address, "/saved-page/").await,
        "changed in saved-page\n"
    );
    fs::write(&source, text.replace("hello from", "mended in")).unwrap();
    dev.until("total");
    assert_eq!(
        get(&address, "/saved-page/").await,
        "mended in saved-page\n"
    );
    assert!(fs::read_to_string(file).unwrap().contains("saved-page"));
}
