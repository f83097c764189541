mod upstreams;

use super::*;
use crate::defaults;
use protoplex_wire::manifest::{
    Balance, Ejection, HealthCheck, Isolation, ProxyProtocol, Retries, Role, Upstream,
    UpstreamProtocol, UpstreamTls,
};
use std::fs;

/// Inspects a stand-in component, whose content is its world's name.
fn inspect(content: &[u8]) -> Result<Inspected, String> {
    let (world, awaited) = match content {
        b"edge" => (World::Edge, vec![]),
        b"edge-wasi" => (World::EdgeWasi, vec!["wasi:cli/environment@0.2.6"]),
        b"app-0.2" => (World::App02, vec![]),
        b"app-0.3" => (World::App03, vec![]),
        _ => return Err("it is no component; build it with `just build-guests`".to_owned()),
    };
    let awaited_imports = awaited.into_iter().map(str::to_owned).collect();
    Ok(Inspected {
        world,
        awaited_imports,
    })
}

struct TestSite(tempfile::TempDir);

impl TestSite {
    fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for world in ["edge", "edge-wasi", "app-0.2", "app-0.3", "broken"] {
            fs::write(folder.path().join(format!("{world}.wasm")), world).expect("a file");
        }
        fs::create_dir(folder.path().join("site")).expect("a folder");
        fs::write(folder.path().join("site/index.html"), "<p>hello</p>").expect("a file");
        fs::write(folder.path().join("x.toml"), manifest).expect("a file");
        Self(folder)
    }

    fn package(&self, sets: &[(&str, &str)]) -> Result<Package, Vec<String>> {
        let sets: Vec<_> = sets
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let path = self.0.path().join("x.toml");
        let folder = format!("{}/", self.0.path().display());
        package(&path, &sets, &inspect).map_err(|faults| {
            let lines = faults.0.iter();
            lines.map(|f| f.to_string().replace(&folder, "")).collect()
        })
    }
}

#[track_caller]
fn refused(manifest: &str, expected: &[&str]) {
    let faults = TestSite::new(manifest).package(&[]).expect_err("a refusal");
    assert_eq!(faults, expected);
}

const GOOD: &str = r#"name = "site"
[settings]
greeting = "hello"
[handlers.router]
component = "edge.wasm"
[handlers.router.grants]
settings = ["greeting"]
relay = ["role:app", "back"]
assets = ["/"]
apps = ["page"]
[handlers.router.probe]
path = "/"
[handlers.page]
component = "app-0.3.wasm"
isolation = { concurrency = 16 }
requests_max = 10
[handlers.page.limits]
memory_bytes_max = 1_000_000
[[routes]]
role = "proxy"
path = "/*"
methods = ["GET"]
handler = "router"
[assets]
directory = "site"
[upstreams.back]
addresses = ["127.0.0.1:9000"]
"#;

#[test]
fn a_good_manifest_becomes_a_canonical_one_with_all_its_blobs() {
    let package = TestSite::new(GOOD).package(&[]).expect("a package");
    let manifest = &package.manifest;
    assert_eq!(
        Manifest::parse(&manifest.canonical()).expect("canonical"),
        *manifest
    );
    assert!(manifest.blobs().keys().eq(package.blobs.keys()));
    assert_eq!(
        manifest.handlers["page"].isolation,
        Isolation::Concurrent {
            concurrency: 16,
            requests_max: 10
        }
    );
    assert_eq!(manifest.handlers["page"].limits.memory_bytes_max, 1_000_000);
    assert_eq!(
        manifest.handlers["router"].limits,
        crate::defaults::limits(World::Edge)
    );
    assert_eq!(manifest.routes[0].role, Role::Proxy);
    assert_eq!(manifest.assets["/"], manifest.assets["/index.html"]);
    assert!(package.notes.is_empty());
}

#[test]
fn the_same_files_make_the_same_build() {
    let one = TestSite::new(GOOD).package(&[]).expect("a package");
    let two = TestSite::new(GOOD).package(&[]).expect("a package");
    assert_eq!(one.id(), two.id());
}

#[test]
fn a_set_makes_another_build() {
    let site = TestSite::new(GOOD);
    let one = site.package(&[]).expect("a package");
    let two = site.package(&[("greeting", "bye")]).expect("a package");
    assert_ne!(one.id(), two.id());
    assert_eq!(two.manifest.settings["greeting"], "bye");
}

#[test]
fn a_set_of_an_unknown_setting_is_refused_with_the_nearest() {
    let faults = TestSite::new(GOOD).package(&[("greetng", "x")]);
    assert_eq!(
        faults.expect_err("a refusal"),
        ["--set: unknown setting `greetng`; did you mean `greeting`?"]
    );
}

#[test]
fn an_edge_handler_with_wasi_is_told_of() {
    let manifest = "name = \"x\"\n[handlers.a]\ncomponent = \"edge-wasi.wasm\"\n";
    let package = TestSite::new(manifest).package(&[]).expect("a package");
    assert_eq!(
        package.notes,
        [
            "handler `a` runs asynchronously, which costs more for each request, because it imports wasi:cli/environment@0.2.6"
        ]
    );
}

#[test]
fn malformed_manifests_are_refused_with_line_and_remedy() {
    let cases: &[(&str, &[&str])] = &[
        (
            "name = ",
            &["x.toml:1: this is not TOML: string values must be quoted, expected literal string"],
        ),
        (
            "",
            &["x.toml:1: `name` is missing at the top level; write name = \"my-site\""],
        ),
        (
            "name = \"x\"\n[handlers.router]\ncomponnent = \"edge.wasm\"\n",
            &[
                "x.toml:2: `component` is missing in handlers.router; write component = \"builds/out/NAME.wasm\"",
                "x.toml:3: unknown key `componnent` in handlers.router; did you mean `component`?",
            ],
        ),
        (
            "name = \"x\"\nzzz = 1\n",
            &[
                "x.toml:2: unknown key `zzz` at the top level; it may be `name`, `settings`, `handlers`, `routes`, `assets`, `upstreams` or `live`",
            ],
        ),
        (
            "name = 7\n",
            &["x.toml:1: `name` at the top level must be a string in quotes, not the number 7"],
        ),
        (
            "name = \"x\"\n[settings]\nport = 80\n",
            &["x.toml:3: `port` in settings must be a string in quotes, not the number 80"],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"gone.wasm\"\n",
            &[
                "x.toml:3: component `gone.wasm` is not there; run `just build-guests` to make it (looked for gone.wasm and in the folder above)",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"broken.wasm\"\n",
            &["x.toml:3: handler `a`: it is no component; build it with `just build-guests`"],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\n[handlers.a.limits]\nmemory_bytes_max = \"16 MiB\"\ncpu_ms_max = 0\n",
            &[
                "x.toml:5: `memory_bytes_max` in handlers.a.limits must be a whole number without quotes or units, such as 16_777_216, not the string \"16 MiB\"",
                "x.toml:6: handler `a`: cpu_ms_max is 0, so nothing could ever run; leave it out for the default",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\n[handlers.a.limits]\nmemory_byte_max = 1\nqueue_max = -1\nin_flight_max = 5_000_000_000\n",
            &[
                "x.toml:5: unknown key `memory_byte_max` in handlers.a.limits; did you mean `memory_bytes_max`?",
                "x.toml:6: `queue_max` in handlers.a.limits must be a whole number without quotes or units, such as 16_777_216, not the number -1",
                "x.toml:7: `in_flight_max` in handlers.a.limits is 5000000000; 4294967295 is the most",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\nisolation = \"share\"\n",
            &["x.toml:4: isolation \"share\" is not known; did you mean `shared`?"],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\nisolation = 3\n",
            &[
                "x.toml:4: `isolation` in handlers.a must be \"shared\", \"per-request\" or { concurrency = 16 }, not the number 3",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\nisolation = { concurrency = 4 }\n",
            &[
                "x.toml:4: handler `a`: concurrency needs an app-0.3 or live-stateful handler, and this one is edge",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"app-0.2.wasm\"\nisolation = \"shared\"\n",
            &["x.toml:4: handler `a`: an app-0.2 handler runs per request only"],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\nrequests_max = 4\n",
            &[
                "x.toml:4: `requests_max` needs an `isolation` beside it: \"shared\" or { concurrency = 16 }",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\ngrants = { relay = [\"bakc\"] }\n[upstreams.back]\naddresses = [\"h\"]\n",
            &[
                "x.toml:4: handler `a`: grants.relay names upstream `bakc`, which the build does not have; did you mean `back`?",
                "x.toml:6: upstream `back`: address `h` must be host:port",
            ],
        ),
        (
            "name = \"x\"\n[handlers.A]\ncomponent = \"edge.wasm\"\n[handlers.b]\ncomponent = \"edge.wasm\"\nprobe = { path = \"x\" }\n",
            &[
                "x.toml:2: handler `A`: a name is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter",
                "x.toml:6: handler `b`: probe.path `x` must start with `/`",
            ],
        ),
        (
            "name = \"x\"\n[handlers.router]\ncomponent = \"edge.wasm\"\n[[routes]]\nrole = \"prxy\"\npath = \"/a*\"\nhandler = \"ruoter\"\nhost = \"A:1\"\nmethods = [\"get\"]\n",
            &[
                "x.toml:5: role \"prxy\" is not known; did you mean `proxy`?",
                "x.toml:6: route 1: path `/a*`: `*` may only be the whole last part, as in `/static/*`",
                "x.toml:7: route 1: there is no handler `ruoter`; did you mean `router`?",
                "x.toml:8: route 1: host `A:1` must be a lower-case name or `*.` and a name",
                "x.toml:9: route 1: method `get` must be upper-case letters, such as GET",
            ],
        ),
        (
            "name = \"x\"\n[handlers.a]\ncomponent = \"edge.wasm\"\n[[routes]]\nrole = \"app\"\npath = \"/\"\nhandler = \"a\"\n[[routes]]\nrole = \"app\"\npath = \"/\"\nhandler = \"a\"\n[[routes]]\n",
            &[
                "x.toml:8: route 2: app any any host/ has a route already, route 1",
                "x.toml:12: `role` is missing in routes.3; write role = \"proxy\"",
                "x.toml:12: `path` is missing in routes.3; write path = \"/*\"",
                "x.toml:12: `handler` is missing in routes.3; write handler = \"NAME\"",
            ],
        ),
        (
            "name = \"x\"\n[assets]\ndirectory = \"gone\"\nprefix = \"static\"\n",
            &[
                "x.toml:3: directory `gone` is not there; make it, or leave [assets] out (looked for gone and in the folder above)",
                "x.toml:4: prefix \"static\" must start and end with `/`, such as \"/static/\"",
            ],
        ),
        (
            "name = \"x\"\nroutes = 1\nhandlers = 2\n",
            &[
                "x.toml:2: `routes` at the top level must be a list of tables, each written [[routes]], not the number 1",
                "x.toml:3: `handlers` at the top level must be a table, written [handlers], not the number 2",
            ],
        ),
    ];
    for (manifest, expected) in cases {
        refused(manifest, expected);
    }
}

#[test]
fn a_file_that_is_not_there_is_refused_by_name() {
    let faults = package(Path::new("gone/x.toml"), &[], &inspect).expect_err("a refusal");
    assert_eq!(
        faults.to_string(),
        "gone/x.toml: there is no such file; name a manifest, such as builds/sample.toml"
    );
}

#[test]
fn a_path_is_beside_its_manifest_whatever_lies_elsewhere() {
    let site = TestSite::new("");
    let above = site.0.path();
    let own = above.join("builds");
    fs::create_dir(&own).expect("a folder");
    let manifest = own.join("x.toml");
    assert_eq!(locate(&manifest, "edge.wasm"), above.join("edge.wasm"));
    fs::write(own.join("edge.wasm"), "edge").expect("a file");
    assert_eq!(locate(&manifest, "edge.wasm"), own.join("edge.wasm"));
    // Tests run in this crate's folder.
    assert!(Path::new("Cargo.toml").exists());
    assert_eq!(locate(&manifest, "Cargo.toml"), own.join("Cargo.toml"));
    let said = searched_paths(&manifest, "Cargo.toml");
    assert!(
        said.ends_with("the one in the current folder does not count)"),
        "{said}"
    );
    let absolute = above.join("edge.wasm");
    assert_eq!(
        locate(&manifest, absolute.to_str().expect("text")),
        absolute
    );
}

/// Source of a handler of WASI; what follows it begins at line 4.
const WASI: &str = "name = \"x\"\n[handlers.a]\ncomponent = \"edge-wasi.wasm\"\n";

#[test]
fn an_environment_has_a_size_and_names_that_are_names() {
    let with = |variables: &[(String, String)]| {
        let lines = variables.iter();
        let lines = lines.map(|(name, value)| format!("\"{name}\" = \"{value}\"\n"));
        let lines: String = lines.collect();
        format!("{WASI}[handlers.a.environment]\n{lines}")
    };
    let many = |count: usize| -> Vec<_> {
        let numbers = 0..count;
        let named = numbers.map(|n| (format!("V{n}"), String::new()));
        named.collect()
    };
    // As many bytes as there may be, and one more: of names and values together.
    let large = |more: usize| {
        let value = |bytes| "v".repeat(bytes);
        let (one, two) = ("ONE".to_owned(), "OTHER".to_owned());
        vec![(one, value(16 << 10)), (two, value((16 << 10) - 8 + more))]
    };
    for fine in [many(128), large(0)] {
        TestSite::new(&with(&fine)).package(&[]).expect("a package");
    }
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (variables, line, fault) in [
        (
            many(129),
            4,
            "environment has 129 variables; 128 is the most",
        ),
        (
            large(1),
            4,
            "environment has 32769 bytes; 32768 is the most",
        ),
        (
            pair("A=B", "1"),
            5,
            "environment \"A=B\" is no name of a variable: it must not be empty nor have `=` in it",
        ),
        (
            pair("", "1"),
            5,
            "environment \"\" is no name of a variable: it must not be empty nor have `=` in it",
        ),
        (
            pair("A", "\\u0000"),
            5,
            "environment \"A\" has a NUL in its value",
        ),
    ] {
        refused(
            &with(&variables),
            &[&format!("x.toml:{line}: handler `a`: {fault}")],
        );
    }
}

#[test]
fn a_value_that_makes_no_sense_is_refused_or_has_a_meaning() {
    const ZERO: &str = "so nothing could ever run; leave it out for the default";
    let route = |line: &str| {
        format!("{WASI}[[routes]]\nrole = \"app\"\npath = \"/*\"\nhandler = \"a\"\n{line}\n")
    };
    let limit = |line: &str| format!("{WASI}[handlers.a.limits]\n{line}\n");
    let live = |line: &str| format!("name = \"x\"\n\n\n[live]\n{line}\n");
    for fine in [
        // None need come; a second; an hour.
        route("body_bytes_per_s_min = 0"),
        route("body_bytes_per_s_min = 125_000_000"),
        route("body_timeout_ms = 3_600_000"),
        limit("queue_max = 0"),
        limit("response_bytes_max = 0"),
        limit("streams_max = 1\noutgoing_max = 1"),
        live("received_per_s_max = 1\nreceived_burst_max = 1"),
        live("origins = []\nsubprotocols = []"),
    ] {
        TestSite::new(&fine).package(&[]).expect("a package");
    }
    let words = |text: &str| text.to_owned();
    for (manifest, fault) in [
        (
            route("body_timeout_ms = 0"),
            format!("8: route 1: body_timeout_ms is 0, {ZERO}"),
        ),
        (
            route("body_timeout_ms = 3_600_001"),
            words("8: route 1: body_timeout_ms is 3600001; 3600000 is the most"),
        ),
        (
            route("body_bytes_per_s_min = 125_000_001"),
            words("8: route 1: body_bytes_per_s_min is 125000001; 125000000 is the most"),
        ),
        (
            limit("streams_max = 0"),
            format!("5: handler `a`: streams_max is 0, {ZERO}"),
        ),
        (
            limit("streams_max = 100_001"),
            words("5: handler `a`: streams_max is 100001; 100000 is the most"),
        ),
        (
            limit("outgoing_max = 0"),
            format!("5: handler `a`: outgoing_max is 0, {ZERO}"),
        ),
        (
            limit("outgoing_max = 100_001"),
            words("5: handler `a`: outgoing_max is 100001; 100000 is the most"),
        ),
        (
            limit("in_flight_max = 0"),
            format!("5: handler `a`: in_flight_max is 0, {ZERO}"),
        ),
        (
            live("received_per_s_max = 0"),
            format!("5: live: received_per_s_max is 0, {ZERO}"),
        ),
        (
            live("received_per_s_max = 1_000_001"),
            words("5: live: received_per_s_max is 1000001; 1000000 is the most"),
        ),
        (
            live("received_burst_max = 0"),
            format!("5: live: received_burst_max is 0, {ZERO}"),
        ),
        (
            live("origins = [\"\"]"),
            words(
                "5: live: origins has ``; write it as a browser does, `https://app.example.com` or \
                 `http://localhost:5173`, without a path, or `*` for all",
            ),
        ),
        (
            live("origins = [\"http://localhost:99999\"]"),
            words(
                "5: live: origins has `http://localhost:99999`, which no browser says; it is a scheme and a host, with or \
                 without a port",
            ),
        ),
        (
            live("subprotocols = [\"two words\"]"),
            words(
                "5: live: subprotocols has `two words`; a subprotocol is one word without separators, and `protoplex.…` \
                 is for channels, which need no entry",
            ),
        ),
        (
            live("ping_ms = 0"),
            words("5: live: ping_ms is 0; it must be from 1000 to 3600000"),
        ),
    ] {
        refused(&manifest, &[&format!("x.toml:{fault}")]);
    }
}

#[test]
fn routes_alike_in_normal_form_are_refused_with_both_and_line() {
    let with = |routes: &[&str]| {
        let route =
            |lines: &&str| format!("[[routes]]\nrole = \"app\"\nhandler = \"a\"\n{lines}\n");
        let routes: String = routes.iter().map(route).collect();
        format!("{WASI}{routes}")
    };
    let end = "and only one of the two would be asked";
    for (routes, fault) in [
        (
            ["path = \"/a/../b\"", "path = \"/b\""],
            format!(
                "11: route 2: path makes `/b` the same as `/a/../b` of route 1, line 4: requests are matched in normal \
                 form, as `/b`, {end}; leave one out"
            ),
        ),
        (
            [
                "path = \"/%61\"\nmethods = [\"GET\", \"PUT\"]",
                "path = \"/a\"\nmethods = [\"PUT\"]",
            ],
            format!(
                "12: route 2: path makes `/a` the same as `/%61` of route 1, line 4: requests are matched in normal form, \
                 as `/a`, {end} by PUT; leave one out"
            ),
        ),
        (
            [
                "path = \"/\"\nhost = \"example.test.\"",
                "path = \"/\"\nhost = \"example.test\"",
            ],
            format!(
                "13: route 2: host makes `example.test/` the same as `example.test./` of route 1, line 4: requests are \
                 matched in normal form, as `example.test/`, {end}; leave one out"
            ),
        ),
        (
            [
                "path = \"/a\"\nmethods = [\"GET\", \"PUT\"]",
                "path = \"/a\"\nmethods = [\"PUT\", \"POST\"]",
            ],
            "9: route 2: app PUT any host/a has a route already, route 1".to_owned(),
        ),
        (
            [
                "path = \"/a\"\nmethods = [\"GET\", \"GET\"]",
                "path = \"/b\"",
            ],
            "4: route 1: app GET any host/a has a route already, route 1".to_owned(),
        ),
        (
            ["path = \"/a%00\"", "path = \"/b\""],
            "7: route 1: path `/a%00` has `%00` in it, which no request may have".to_owned(),
        ),
    ] {
        refused(&with(&routes), &[&format!("x.toml:{fault}")]);
    }
    let fine = with(&["path = \"/a\"", "path = \"/%61\"\nmethods = [\"GET\"]"]);
    TestSite::new(&fine).package(&[]).expect("a package");
}

#[test]
fn every_fault_stands_at_the_line_of_its_own_value() {
    let with = |lines: &str| format!("{WASI}{lines}");
    for (lines, faults) in [
        (
            "[handlers.a.grants]\nrelay = [\n  \"back\",\n  \"bakc\",\n]\n[upstreams.back]\naddresses = [\n  \"h:1\",\n  \
             \"h:1\",\n]",
            &[
                "7: handler `a`: grants.relay names upstream `bakc`, which the build does not have; did you mean `back`?",
                "12: upstream `back`: address `h:1` stands there twice",
            ][..],
        ),
        (
            "isolation = \"shared\"\nrequests_max = 0",
            &["5: handler `a`: requests_max is 0; it must be at least 1"],
        ),
        // A name with a dot is one name.
        (
            "[upstreams.\"a.b\"]\naddresses = [\"h:1\"]\nretries = { attempts_max = 11 }",
            &["6: upstream `a.b`: retries.attempts_max is 11; 10 is the most"],
        ),
        (
            "[live]\n[live.namespaces.chat]\npresence = true\nkeys_max = 100_001",
            &["7: live.namespaces.chat: keys_max is 100001; 100000 is the most"],
        ),
        (
            "grants = { channels = [\"caht\"] }\n[live.namespaces.chat]",
            &[
                "4: handler `a`: grants.channels names `caht`, and there is no [live.namespaces.caht]; did you mean `chat`?",
            ],
        ),
        // A key that is missing is told once, and one that is written empty is told as well.
        (
            "[upstreams.b]",
            &["4: `addresses` is missing in upstreams.b; write addresses = [\"127.0.0.1:9000\"]"],
        ),
        (
            "[upstreams.b]\naddresses = []",
            &["5: upstream `b`: it has no address"],
        ),
        (
            "[[routes]]\nrole = \"app\"\npath = \"\"\nhandler = \"\"",
            &[
                "6: route 1: path `` must start with `/`",
                "7: route 1: there is no handler ``; did you mean `a`?",
            ],
        ),
        (
            "[[routes]]\nrole = \"app\"\npath = 1\nhandler = \"a\"\nmethods = [\"GET\", 2,\n  \"get\"]",
            &[
                "6: `path` in routes.1 must be a string in quotes, not the number 1",
                "8: `methods` in routes.1 must be a list of strings, such as [\"a\", \"b\"], not the number 2",
                "9: route 1: method `get` must be upper-case letters, such as GET",
            ],
        ),
    ] {
        let faults: Vec<_> = faults
            .iter()
            .map(|fault| format!("x.toml:{fault}"))
            .collect();
        let faults: Vec<_> = faults.iter().map(String::as_str).collect();
        refused(&with(lines), &faults);
    }
    // A route that is none keeps its place.
    refused(
        "name = \"x\"\nroutes = [\n  1,\n  { role = \"app\", path = \"x\", handler = \"gone\" },\n]\n",
        &[
            "x.toml:3: `routes` at the top level must be a list of tables, each written [[routes]], not the number 1",
            "x.toml:4: route 2: there is no handler `gone`",
            "x.toml:4: route 2: path `x` must start with `/`",
        ],
    );
}
