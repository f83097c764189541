//! The command line, as clap sees it. What a command does stands in the module of its name.

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use protoplex_native::COMPILE_MEMORY_BYTES_MAX;
use protoplex_wire::role::{NoRole, ROLES, Role, RoleSpec};
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// Default of `--timeout`: seconds that `push`, `rollback` and `adopt` wait for a release before they say that it
/// still runs.
pub const TIMEOUT_S: u64 = 60;
/// Default of `--drain-timeout`: a person who pressed Ctrl-C waits for the longest request, but not for ever.
pub const DRAIN_TIMEOUT_S: u32 = 10;
/// Default of `--port-base`.
pub const PORT_BASE: u16 = 8080;
/// Most nodes that `up` starts, of all roles: the port layout has room for these.
pub const NODES_MAX: u16 = 99;

/// Web nodes whose behaviour is WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "protoplex", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 2 usage, 3 reverted, 4 timed out and still running, 5 refused, 6 no node (of some role) runs it yet, 1 anything else.\n\
    PROTOPLEX_LOG filters the log (default: info). NO_COLOR turns colours off."
)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Start a Seed and nodes on this machine
    Up(UpArgs),
    /// Make a build of a manifest and release it
    Push(PushArgs),
    /// Run an earlier build again
    Rollback(RollbackArgs),
    /// Make what the nodes run the Seed's own, when it holds because its disk is older than they are
    Adopt(AdoptArgs),
    /// List releases, newest first
    Releases(ShowArgs),
    /// List nodes
    Nodes(ShowArgs),
    /// Say how the fleet is
    Status(ShowArgs),
    /// Print the nodes' recent log lines
    Logs(LogsArgs),
    /// Remove builds that the Seed does not have to keep
    Gc(GcArgs),
    /// Make a build without pushing it, and say what is in it
    Build(BuildArgs),
    /// Make a new guest from a template
    New(NewArgs),
    /// Watch guests and files; rebuild and push what changed
    Dev(DevArgs),
    /// Run a Seed (started by `up`, or by an init system)
    #[command(hide = true)]
    Seed(SeedArgs),
    /// Run a node (started by `up`, or by an init system)
    #[command(hide = true)]
    Node(ProcessArgs),
    /// Answer requests (started by a node)
    #[command(hide = true)]
    Child,
    /// Make native code of a component (started by a node or a Seed)
    #[command(hide = true)]
    Compile(CompileArgs),
}

/// Help text about the effects of signals on every process that runs on.
const SIGNALS: &str = "Signals: TERM, INT and QUIT finish what is in flight and end; a second one ends at once.\n\
    HUP reads the certificates of HTTPS and the live secrets again. A log file that was moved away is begun anew by\n\
    itself; USR1 may say so, too.";

/// Arguments of `up`
#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub struct UpArgs {
    /// Where everything is kept; a HOME is needed only without it [default: ~/.local/state/protoplex/up]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// First port: HTTP at N and up, HTTPS at N+363, relays among nodes at N+500, Seed at N+1000, health at N+1100, meta at N+1200, children that take keys at N+1300; 0 takes free ports
    #[arg(long, value_name = "N", default_value_t = PORT_BASE, value_parser = port_base)]
    pub port_base: u16,
    /// Address of the proxies' HTTP, HTTPS and health ports: 0.0.0.0 is every IPv4 address, `[::]` every address; all other ports stay on this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = address)]
    pub bind: IpAddr,
    /// Print one line of JSON once everything serves
    #[arg(long)]
    pub json: bool,
    /// Manifest to push when the Seed has no build yet [default: builds/sample.toml]
    #[arg(long, value_name = "FILE")]
    pub build: Option<PathBuf>,
    /// Numbers of nodes by role, as ROLE=N,…; of a role that is named twice the last counts [default: one of each]
    #[arg(long, value_name = "ROLE=N", value_delimiter = ',', value_parser = nodes_of_role)]
    pub nodes: Vec<(Role, u16)>,
    /// Where the nodes stand; a node relays to its own region first
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = region)]
    pub region: String,
    /// How long requests in flight may go on after a drain or a switch began
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_TIMEOUT_S, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub drain_timeout: u32,
    /// Instances of handlers that each child may have at once [default: 1000]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub instances_max: u32,
    /// Write a line of JSON for each request to logs/NODE.access.log
    #[arg(long)]
    pub access_log: bool,
    /// Section `ingress`, JSON: limits of all nodes; who is believed, and certificates, of the proxies
    #[arg(long, value_name = "FILE")]
    pub ingress: Option<PathBuf>,
    /// Cache of native code [default: ~/.cache/protoplex/native]
    #[arg(long, value_name = "DIR", env = "PROTOPLEX_NATIVE", hide = true)]
    pub native: Option<PathBuf>,
}

impl UpArgs {
    /// Counts the nodes of each role to start, in the order of the table of roles.
    ///
    /// # Errors
    /// They are more than [`NODES_MAX`].
    pub fn nodes_by_role(&self) -> Result<Vec<(&'static RoleSpec, u16)>> {
        let by_role = ROLES.iter().map(|spec| {
            let mut said = self.nodes.iter().rev();
            let count = said.find(|(role, _)| *role == spec.role);
            (spec, count.map_or(spec.up_nodes, |(_, count)| *count))
        });
        let by_role: Vec<_> = by_role.collect();
        let all: u32 = by_role.iter().map(|(_, count)| u32::from(*count)).sum();
        ensure!(
            all <= NODES_MAX.into(),
            "--nodes asks for {all} nodes; at most {NODES_MAX} have ports here"
        );
        Ok(by_role)
    }
}

/// Which Seed to talk to.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// The Seed's URL [default: PROTOPLEX_SEED, else the newest running `up`]
    // The variable is read in `target`: clap would take it for a flag, and refuse it beside --data.
    #[arg(long, value_name = "URL")]
    pub seed: Option<String>,
    /// The data folder of a running `up`
    #[arg(long, value_name = "DIR", conflicts_with = "seed")]
    pub data: Option<PathBuf>,
    /// PEM of the fleet's authority, with --seed
    #[arg(long, value_name = "FILE", env = "PROTOPLEX_CA")]
    pub ca: Option<PathBuf>,
    /// PEM of an operator's certificate, with --seed
    #[arg(long, value_name = "FILE", env = "PROTOPLEX_CERT")]
    pub cert: Option<PathBuf>,
    /// PEM of that certificate's private key, with --seed
    #[arg(long, value_name = "FILE", env = "PROTOPLEX_KEY")]
    pub key: Option<PathBuf>,
}

/// Options of a command that follows the release that it orders.
#[derive(Clone, Debug, Args)]
pub struct FollowArgs {
    /// Seconds to wait for the nodes
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_S)]
    timeout: u64,
    /// Print the events of the release, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Seed that the command talks to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Arguments of `push`
#[derive(Clone, Debug, Args)]
pub struct PushArgs {
    /// The manifest, such as builds/sample.toml
    pub file: PathBuf,
    /// Override a setting of the manifest
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<(String, String)>,
    /// Release key that signs the build [default: the development key of the running `up`]
    #[arg(long, value_name = "FILE", env = "PROTOPLEX_RELEASE_KEY")]
    pub release_key: Option<PathBuf>,
    /// Build (the start of its id) or release that must be active now; `none` for none [default: whichever is]
    #[arg(long, value_name = "BUILD")]
    pub against: Option<String>,
    /// Options of following the release.
    #[command(flatten)]
    pub following: FollowArgs,
}

/// Arguments of `rollback`
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Build (the start of its id) or release (such as 1.7) to run again [default: the build before the active one]
    pub build: Option<String>,
    /// Options of following the release.
    #[command(flatten)]
    pub following: FollowArgs,
}

/// Arguments of `adopt`
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Build (the start of its id) that a node runs [default: the one that all run]
    pub build: Option<String>,
    /// Options of following the release.
    #[command(flatten)]
    pub following: FollowArgs,
}

/// Commands that only look.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Seed that the command talks to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Arguments of `logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Print the lines of this node only
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Print the lines as the nodes wrote them
    #[arg(long)]
    pub json: bool,
    /// Seed that the command talks to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Arguments of `gc`
#[derive(Debug, Args)]
#[command(
    after_help = "The Seed does this by itself after each release, every hour, and when its disk is full. It keeps what runs, what a \
    rollback goes to, and the newest builds: `retention` in its configuration (`up`: retention.json in the data folder) sets builds_max \
    (20), unreleased_hours_max (24) and bytes_max (20 GiB)."
)]
pub struct GcArgs {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Seed that the command talks to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Arguments of `build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The manifest, such as builds/sample.toml
    pub file: PathBuf,
    /// Override a setting of the manifest
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<(String, String)>,
    /// Print the canonical manifest
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `new`
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The handler's name: small letters, digits and `-`
    pub name: String,
    /// Kind of handler
    #[arg(long, value_enum)]
    pub template: Template,
    /// Folder to make [default: guests/sample/NAME]
    pub dir: Option<PathBuf>,
}

/// Template of `new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Decides on request heads, in Rust
    Edge,
    /// Answers with streams by `wasi:http` 0.3, in Rust
    App,
}

/// Arguments of `dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The manifest
    #[arg(default_value = "builds/sample.toml")]
    pub file: PathBuf,
    /// Override a setting of the manifest
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<(String, String)>,
    /// Release key that signs the builds [default: the development key of the running `up`]
    #[arg(long, value_name = "FILE", env = "PROTOPLEX_RELEASE_KEY")]
    pub release_key: Option<PathBuf>,
    /// Seed that the command talks to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Arguments of `seed`
#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub struct SeedArgs {
    /// Options of every process.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Cache of native code [default: in its data folder]
    #[arg(long, value_name = "DIR")]
    pub native: Option<PathBuf>,
}

/// Arguments of `node`, and those of `seed` that are alike
#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub struct ProcessArgs {
    /// Configuration of the process, JSON
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Log to this file instead of standard error; another is begun when it is moved away
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Stop when this process is gone
    #[arg(long, value_name = "PID")]
    pub parent: Option<i32>,
}

/// Arguments of `compile`
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// The component
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// File to write the native code to
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Most bytes of memory for compiling
    #[arg(long, value_name = "N", default_value_t = COMPILE_MEMORY_BYTES_MAX)]
    pub memory_bytes_max: u64,
}

impl FollowArgs {
    /// Time to wait for the nodes.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as greeting=hello".to_owned()),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .map_err(|_| "it must be an IP address, such as 0.0.0.0, [::] or 192.0.2.7".to_owned())
}

fn region(text: &str) -> Result<String, String> {
    match protoplex_wire::directory::is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("a region is at most 64 of a-z, 0-9 and `-`, such as eu-west".to_owned()),
    }
}

fn nodes_of_role(text: &str) -> Result<(Role, u16), String> {
    let (name, count) = text
        .split_once('=')
        .ok_or("write ROLE=N, such as live=2".to_owned())?;
    let role: Role = name
        .parse()
        .map_err(|error: NoRole| format!("{name:?}: {error}"))?;
    match count.parse() {
        Ok(count) if count <= NODES_MAX => Ok((role, count)),
        _ => Err(format!("{count:?} is no number from 0 to {NODES_MAX}")),
    }
}

fn port_base(text: &str) -> Result<u16, String> {
    let most = u16::MAX - crate::up::ports::SPAN;
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(base) if (1..=most).contains(&base) => Ok(base),
        _ => Err(format!("it must be 0 (free ports) or 1 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sets_are_pairs_and_may_hold_equal_signs() {
        let cli = parse("protoplex push x.toml --set a=b=c --set d=").expect("it parses");
        let CliCommand::Push(push) = cli.command else {
            panic!("another command");
        };
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(push.sets, [pair("a", "b=c"), pair("d", "")]);
        assert!(parse("protoplex push x.toml --set nothing").is_err());
    }

    #[test]
    fn a_port_base_leaves_room_for_all_ports() {
        assert!(parse("protoplex up --port-base 0").is_ok());
        assert!(parse("protoplex up --port-base 61000").is_ok());
        assert!(parse("protoplex up --port-base 65000").is_err());
    }

    #[test]
    fn nodes_are_counted_by_role_and_have_a_limit() {
        let counts = |line: &str| {
            let CliCommand::Up(up) = parse(line).expect("it parses").command else {
                panic!("another command");
            };
            let by_role = up.nodes_by_role().map_err(|error| error.to_string())?;
            Ok::<_, String>(by_role.iter().map(|(_, count)| *count).collect::<Vec<_>>())
        };
        assert_eq!(counts("protoplex up"), Ok(vec![1; ROLES.len()]));
        let some = counts("protoplex up --nodes app=3,live=0 --nodes app=2").unwrap();
        let of = |name: &str| some[ROLES.iter().position(|row| row.name == name).unwrap()];
        assert_eq!([of("proxy"), of("app"), of("live")], [1, 2, 0]);
        assert!(
            counts("protoplex up --nodes app=99").is_err_and(|text| text.contains("at most 99"))
        );
        for wrong in ["mail=1", "app", "app=100", "app=-1", "app=x"] {
            assert!(
                parse(&format!("protoplex up --nodes {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_address_to_bind_may_stand_in_brackets() {
        for (text, bound) in [("[::]", "::"), ("::1", "::1"), ("0.0.0.0", "0.0.0.0")] {
            let cli = parse(&format!("protoplex up --bind {text}")).expect("it parses");
            let CliCommand::Up(up) = cli.command else {
                panic!("another command");
            };
            assert_eq!(up.bind.to_string(), bound);
        }
        assert!(parse("protoplex up --bind example.test").is_err());
        assert!(parse("protoplex up --bind 0.0.0.0:80").is_err());
    }

    #[test]
    fn a_seed_and_a_data_folder_exclude_each_other() {
        assert!(parse("protoplex status --seed https://x --data y").is_err());
    }

    #[test]
    fn usage_errors_exit_with_two() {
        assert_eq!(
            parse("protoplex nonsense").expect_err("usage").exit_code(),
            2
        );
    }
}
