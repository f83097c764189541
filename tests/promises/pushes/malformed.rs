//! Each kind of malformed manifest, refused by the real program: the file, the line, what is wrong, what to write.

use super::{SWAP, assert_said, greeting, plain, releases};
use protoplex_tests::{Fleet, repository};
use std::{fs, path::Path};

/// One edge handler and one app handler that are right; each case breaks one thing after line 8.
const GOOD: &str = r#"name = "x"
[settings]
greeting = "hello"
[upstreams.back]
addresses = ["127.0.0.1:9000"]
[handlers.app]
component = "OUT/app02.wasm"
[handlers.edge]
component = "OUT/hello.wasm"
"#;

/// What follows [`GOOD`], so it begins at line 10 in `[handlers.edge]`; the line of the fault; what is said of it.
const CASES: &[(&str, usize, &str)] = &[
    (
        "isolaton = \"shared\"",
        10,
        "unknown key `isolaton` in handlers.edge; did you mean `isolation`?",
    ),
    (
        "isolation = \"per-requset\"",
        10,
        "isolation \"per-requset\" is not known; did you mean `per-request`?",
    ),
    (
        "isolation = { concurrency = 4 }",
        10,
        "concurrency needs an app-0.3 or live-stateful handler, and this one is edge",
    ),
    (
        "limits = { memory_bytes_max = 2_000_000_000_000 }",
        10,
        "memory_bytes_max is 2000000000000; it must be from 1 to 1073741824",
    ),
    (
        "limits = { cpu_ms_max = 0 }",
        10,
        "cpu_ms_max is 0, so nothing could ever run",
    ),
    (
        "\n[handlers.edge.limits]\ntable_elements_max = 10_000_000",
        12,
        "table_elements_max is 10000000; 1048576 is the most",
    ),
    (
        "limits = { deadline_ms = \"1 s\" }",
        10,
        "must be a whole number without quotes or units",
    ),
    (
        "limits = { in_flight_max = -1 }",
        10,
        "must be a whole number without quotes or units",
    ),
    (
        "grants = { relay = [\"bakc\"] }",
        10,
        "names upstream `bakc`, which the build does not have; did you mean `back`?",
    ),
    (
        "grants = { relay = [\"role:ap\"] }",
        10,
        "grants.relay names `role:ap`; there are `role:proxy`, `role:app`",
    ),
    (
        "grants = { settings = [\"greting\"] }",
        10,
        "names setting `greting`, which the build does not have; did you mean `greeting`?",
    ),
    (
        "grants = { assets = [\"static\"] }",
        10,
        "a prefix of assets starts with `/`",
    ),
    (
        "grants = { apps = [\"edge\"] }",
        10,
        "grants.apps names `edge`, which is no app handler of the build",
    ),
    (
        "grants = { outgoing = [\"https://example.com/\"] }",
        10,
        "grants.outgoing has `https://example.com/`; write `host`",
    ),
    (
        "grants = { outgoing = \"example.com\" }",
        10,
        "must be a list of strings",
    ),
    (
        "grants = { filesystem = [\"/\"] }",
        10,
        "unknown key `filesystem` in handlers.edge.grants; it may be `settings`",
    ),
    (
        "environment = { COLOR = \"blue\" }",
        10,
        "`environment` needs a handler that imports WASI, and this one is edge; it reads `settings`",
    ),
    (
        "environment = { COLOR = 7 }",
        10,
        "must be a string in quotes",
    ),
    ("limits = { streams_max = 0 }", 10, "streams_max is 0"),
    (
        "limits = { outgoing_max = 100001 }",
        10,
        "outgoing_max is 100001; 100000 is the most",
    ),
    ("limits = { outgoing_max = 0 }", 10, "outgoing_max is 0"),
    (
        "\n[live]\nreceived_per_s_max = 0",
        12,
        "received_per_s_max is 0",
    ),
    (
        "\n[[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"edge\"\nbody_timeout_ms = 0",
        15,
        "body_timeout_ms is 0",
    ),
    (
        "\n[[routes]]\nrole = \"proxy\"\npath = \"/a/../b\"\nhandler = \"edge\"\n[[routes]]\nrole = \"proxy\"\npath = \"/b\"\nhandler = \"edge\"",
        17,
        "route 2: path makes `/b` the same as `/a/../b` of route 1, line 11",
    ),
    (
        "probe = { path = \"hello\" }",
        10,
        "probe.path `hello` must start with `/`",
    ),
    (
        "probe = { path = \"/a b\" }",
        10,
        "probe.path `/a b`: write path and query as they stand",
    ),
    (
        "probe = { path = \"/\", host = \"a/b\" }",
        10,
        "probe.host `a/b` must be a name",
    ),
    (
        "probe = { host = \"a\" }",
        10,
        "`path` is missing in handlers.edge.probe; write path = \"/\"",
    ),
    ("probe = \"/\"", 10, "must be a table"),
    (
        "\n[[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"egde\"",
        14,
        "there is no handler `egde`; did you mean `edge`?",
    ),
    (
        "\n[[routes]]\nrole = \"prxy\"\npath = \"/*\"\nhandler = \"edge\"",
        12,
        "role \"prxy\" is not known; did you mean `proxy`?",
    ),
    (
        "\n[[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"edge\"\n[[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"edge\"",
        15,
        "route 2: proxy any any host/* has a route already, route 1",
    ),
    (
        "\n[[routes]]\nrole = \"proxy\"\npath = \"x\"\nhandler = \"edge\"",
        13,
        "path `x` must start with `/`",
    ),
    (
        "\n[assets]\ndirectory = \"no/such/folder\"",
        12,
        "directory `no/such/folder` is not there",
    ),
    (
        "\n[upstreams.other]\naddresses = [\"nowhere\"]",
        12,
        "address `nowhere` must be host:port",
    ),
    (
        "\n[upstreams.other]\naddresses = [\"a:1\"]\nidle_timeout_ms = 0",
        13,
        "idle_timeout_ms is 0",
    ),
    (
        "\n[upstreams.other]\naddresses = [\"a:1\"]\nbalance = \"leastloaded\"",
        13,
        "balance \"leastloaded\" is not known; did you mean `least-loaded`?",
    ),
    (
        "\n[upstreams.other]\naddresses = [\"a:1\"]\nprotocol = \"h2c\"\nproxy_protocol = \"v2\"",
        14,
        "proxy_protocol names one client for each connection",
    ),
    (
        "\n[upstreams.other]\naddresses = [\"a:1\"]\ntls = { server_name = \"b\" }",
        13,
        "tls has no meaning with a plain protocol",
    ),
    (
        "\n[handlers.Loud]\ncomponent = \"OUT/hello.wasm\"",
        11,
        "handler `Loud`: a name is 1 to 64 of a-z",
    ),
    (
        "\n[handlers.gone]\ncomponent = \"OUT/gone.wasm\"",
        12,
        "gone.wasm` is not there; run `just build-guests` to make it",
    ),
    (
        "\n[handlers.two]\ncomponent = \"OUT/app02.wasm\"\nisolation = \"shared\"",
        13,
        "an app-0.2 handler runs per request only",
    ),
    (
        "\n[handlers.two]\n",
        11,
        "`component` is missing in handlers.two",
    ),
    (
        "\n[handlers.edge]\ncomponent = \"x\"",
        11,
        "this is not TOML: duplicate key",
    ),
    ("\nthis is no TOML", 11, "this is not TOML"),
];

fn write(folder: &Path, text: &str) -> String {
    let out = repository().join("builds/out");
    let path = folder.join("broken.toml");
    fs::write(&path, text.replace("OUT", out.to_str().unwrap())).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_malformed_manifest_is_refused_with_file_line_and_remedy() {
    let fleet = Fleet::start(SWAP).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let good = plain(&fleet, &["build", &write(folder.path(), GOOD)]);
    assert_eq!(good.code, 0, "what the cases break must be right: {good:?}");
    let before = releases(&fleet);
    for (broken, line, words) in CASES {
        let file = write(folder.path(), &format!("{GOOD}{broken}\n"));
        let pushed = fleet.push(&file, &[]).unwrap();
        assert_said(&pushed, 5, &[&format!("{file}:{line}: "), words]);
        assert_eq!(pushed.out, "", "nothing is released: {broken}");
    }
    assert_eq!(releases(&fleet), before);
    assert_eq!(greeting(&fleet).await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_no_world_is_refused_before_anything_is_released() {
    let fleet = Fleet::start(SWAP).unwrap();
    let before = releases(&fleet);
    for (file, words) in [
        (
            "tests/builds/broken-module.toml",
            ["broken-module.toml:5: handler `broken`: ", "core module"],
        ),
        (
            "tests/builds/broken-export.toml",
            [
                "broken-export.toml:5: handler `broken`: ",
                "no world of ours",
            ],
        ),
        // Only a linker can tell what a world lacks, so the Seed says this, and no line.
        (
            "tests/builds/broken-import.toml",
            [
                "refused (link): handler `broken`: component imports",
                "sample:weird/machine",
            ],
        ),
    ] {
        assert_said(&fleet.push(file, &[]).unwrap(), 5, &words);
    }
    assert_eq!(releases(&fleet), before);
    assert_eq!(greeting(&fleet).await, "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_cannot_be_read_is_usage_and_exits_with_two() {
    let fleet = Fleet::start(SWAP).unwrap();
    for (args, words) in [
        (&["push"][..], "<FILE>"),
        (&["push", SWAP, "--set", "greeting"], "KEY=VALUE"),
        (&["push", SWAP, "--sett", "a=b"], "--set"),
        (&["up", "--port-base", "65000"], "it must be 0"),
        (&["new", "page"], "--template"),
        (&["nonsense"], "unrecognized subcommand"),
    ] {
        assert_said(&plain(&fleet, args), 2, &[words]);
    }
    assert_said(
        &fleet.push(SWAP, &["greting=x"]).unwrap(),
        5,
        &["--set: unknown setting `greting`; did you mean `greeting`?"],
    );
    assert_said(
        &fleet.push("no/such.toml", &[]).unwrap(),
        5,
        &["no/such.toml: there is no such file"],
    );
    assert_eq!(greeting(&fleet).await, "blue");
}
