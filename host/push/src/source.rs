//! `builds/*.toml` as people write it: shapes and spelling are checked here, nothing on disk is touched.

use crate::{
    defaults,
    fault::instead,
    reader::{FaultReport, Located, StringOrSection, TomlSection},
    words,
};
use protoplex_wire::{
    manifest::{Grants, Isolation, Limits, Live, ManifestPath, PathSegment, Probe, Route, World},
    role::Role,
};
use std::collections::BTreeMap;
use toml::de::DeTable;

mod live;
mod upstream;

pub(crate) use upstream::SourceUpstream;

/// The manifest file as it was written.
pub(crate) struct SourceManifest {
    pub(crate) name: String,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) handlers: BTreeMap<String, SourceHandler>,
    pub(crate) routes: Vec<Route>,
    pub(crate) assets: Option<SourceAssets>,
    pub(crate) upstreams: BTreeMap<String, SourceUpstream>,
    pub(crate) live: Option<Live>,
}

/// A handler before its component was looked at.
pub(crate) struct SourceHandler {
    pub(crate) component: Option<Located<String>>,
    isolation: Option<SourceIsolation>,
    limits: SourceLimits,
    pub(crate) grants: Grants,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) tenant: Option<String>,
    pub(crate) probe: Option<Probe>,
}

enum SourceIsolation {
    PerRequest,
    Shared(Option<u64>),
    Concurrent(u32, Option<u64>),
}

#[derive(Default)]
struct SourceLimits {
    memory_bytes_max: Option<u64>,
    table_elements_max: Option<u64>,
    instances_max: Option<u32>,
    cpu_ms_max: Option<u64>,
    deadline_ms: Option<u64>,
    response_bytes_max: Option<u64>,
    hostcall_bytes_max: Option<u64>,
    in_flight_max: Option<u32>,
    queue_max: Option<u32>,
    streams_max: Option<u32>,
    outgoing_max: Option<u32>,
}

/// Folder of files that become assets.
pub(crate) struct SourceAssets {
    pub(crate) directory: Located<String>,
    pub(crate) prefix: String,
}

/// Reads the text. Faults go to `report`; `None` when it is no TOML at all.
pub(crate) fn read(report: &FaultReport, text: &str) -> Option<SourceManifest> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in &errors {
            let line = error.span().map_or(0, |span| report.line_at(span.start));
            report.fault(line, format!("this is not TOML: {}", error.message()));
        }
        return None;
    }
    let mut top = TomlSection::top(report, document.get_ref());
    let name = top.string("name");
    let name = top.required("name", name, "name = \"my-site\"");
    let source = SourceManifest {
        name: name.map(|name| name.value).unwrap_or_default(),
        settings: top.named_strings("settings"),
        handlers: handlers(&mut top),
        routes: routes(&mut top),
        assets: assets(&mut top),
        upstreams: upstreams(&mut top),
        live: top.section("live").map(live::read),
    };
    top.finish();
    Some(source)
}

/// Path at which people write what stands at `path` in a manifest. Beside the readers of this module: what they put
/// elsewhere than it was written stands here.
pub(crate) fn written_at(path: &ManifestPath) -> ManifestPath {
    let keys = path.segments().iter().map(|segment| match segment {
        PathSegment::Key(key) => Some(&**key),
        PathSegment::Index(_) => None,
    });
    let keys: Vec<_> = keys.map(Option::unwrap_or_default).collect();
    let top = ManifestPath::default();
    match keys.as_slice() {
        ["handlers", name, "isolation", "requests_max"] => {
            let handler = top.key("handlers").key((*name).to_owned());
            handler.key("requests_max")
        }
        ["live", "limits", key] => top.key("live").key((*key).to_owned()),
        ["upstreams", name, "tls", "ca_pem"] => {
            let upstream = top.key("upstreams").key((*name).to_owned());
            upstream.key("tls").key("ca")
        }
        // Their files are found in a folder.
        ["assets", ..] => top.key("assets").key("directory"),
        _ => path.clone(),
    }
}

fn handlers(top: &mut TomlSection<'_>) -> BTreeMap<String, SourceHandler> {
    let sections = top.named_sections("handlers");
    sections
        .into_iter()
        .map(|(name, s)| (name, handler(s)))
        .collect()
}

fn handler(mut section: TomlSection<'_>) -> SourceHandler {
    let component = section.string("component");
    let component = section.required(
        "component",
        component,
        "component = \"builds/out/NAME.wasm\"",
    );
    let handler = SourceHandler {
        component,
        isolation: isolation(&mut section),
        limits: section.section("limits").map(limits).unwrap_or_default(),
        grants: section.section("grants").map(grants).unwrap_or_default(),
        environment: section.named_strings("environment"),
        tenant: section.string("tenant").map(|tenant| tenant.value),
        probe: section.section("probe").and_then(probe),
    };
    section.finish();
    handler
}

fn isolation(section: &mut TomlSection<'_>) -> Option<SourceIsolation> {
    const WANTED: &str = "\"shared\", \"per-request\" or { concurrency = 16 }";
    let written = section.string_or_section("isolation", WANTED);
    let requests_max = section.integer("requests_max");
    let requests = requests_max.as_ref().map(|at| at.value);
    match written {
        Some(StringOrSection::String(at)) => match at.value.as_str() {
            "shared" => Some(SourceIsolation::Shared(requests)),
            "per-request" => {
                if let Some(at) = requests_max {
                    let text = "`requests_max` has no meaning with isolation \"per-request\"; leave it out, or write isolation = \"shared\"";
                    section.fault(at.line, text);
                }
                Some(SourceIsolation::PerRequest)
            }
            other => {
                let hint = instead(other, &["shared", "per-request"]);
                let text = format!("isolation {other:?} is not known; {hint}");
                section.fault(at.line, text);
                None
            }
        },
        Some(StringOrSection::Section(mut table)) => {
            let concurrency = table.integer_u32("concurrency");
            let concurrency = table.required("concurrency", concurrency, "{ concurrency = 16 }");
            table.finish();
            concurrency.map(|at| SourceIsolation::Concurrent(at.value, requests))
        }
        None => {
            if let Some(at) = requests_max {
                let text = "`requests_max` needs an `isolation` beside it: \"shared\" or { concurrency = 16 }";
                section.fault(at.line, text);
            }
            None
        }
    }
}

fn limits(mut section: TomlSection<'_>) -> SourceLimits {
    let limits = SourceLimits {
        memory_bytes_max: section.integer("memory_bytes_max").map(|at| at.value),
        table_elements_max: section.integer("table_elements_max").map(|at| at.value),
        instances_max: section.integer_u32("instances_max").map(|at| at.value),
        cpu_ms_max: section.integer("cpu_ms_max").map(|at| at.value),
        deadline_ms: section.integer("deadline_ms").map(|at| at.value),
        response_bytes_max: section.integer("response_bytes_max").map(|at| at.value),
        hostcall_bytes_max: section.integer("hostcall_bytes_max").map(|at| at.value),
        in_flight_max: section.integer_u32("in_flight_max").map(|at| at.value),
        queue_max: section.integer_u32("queue_max").map(|at| at.value),
        streams_max: section.integer_u32("streams_max").map(|at| at.value),
        outgoing_max: section.integer_u32("outgoing_max").map(|at| at.value),
    };
    section.finish();
    limits
}

/// Reads grants, each of which is a list of texts.
fn grants(mut section: TomlSection<'_>) -> Grants {
    let keys = words::keys::<Grants>();
    let lists: Vec<_> = keys
        .iter()
        .map(|key| (*key, section.strings(key)))
        .collect();
    section.finish();
    words::table(lists.into_iter()).unwrap_or_default()
}

fn probe(mut section: TomlSection<'_>) -> Option<Probe> {
    let path = section.string("path");
    let path = section.required("path", path, "path = \"/\"");
    let host = section.string("host").map(|host| host.value);
    section.finish();
    path.map(|path| Probe {
        path: path.value,
        host,
    })
}

fn routes(top: &mut TomlSection<'_>) -> Vec<Route> {
    top.sections("routes").into_iter().map(route).collect()
}

/// Reads a route. One that cannot be read keeps its place, so that later ones keep their numbers in messages.
fn route(section: Option<TomlSection<'_>>) -> Route {
    let Some(mut section) = section else {
        return Route {
            role: Role::Proxy,
            host: None,
            path: String::new(),
            methods: Vec::new(),
            handler: String::new(),
            body_timeout_ms: None,
            body_bytes_per_s_min: None,
        };
    };
    let role = upstream::word(&mut section, "role");
    let role = section.required("role", role, "role = \"proxy\"");
    let path = section.string("path");
    let path = section.required("path", path, "path = \"/*\"");
    let handler = section.string("handler");
    let handler = section.required("handler", handler, "handler = \"NAME\"");
    let route = Route {
        role: role.unwrap_or(Role::Proxy),
        host: section.string("host").map(|host| host.value),
        path: path.map(|path| path.value).unwrap_or_default(),
        methods: section.strings("methods"),
        handler: handler.map(|handler| handler.value).unwrap_or_default(),
        body_timeout_ms: section.integer("body_timeout_ms").map(|at| at.value),
        body_bytes_per_s_min: section
            .integer_u32("body_bytes_per_s_min")
            .map(|at| at.value),
    };
    section.finish();
    route
}

fn assets(top: &mut TomlSection<'_>) -> Option<SourceAssets> {
    let mut section = top.section("assets")?;
    let directory = section.string("directory");
    let directory = section.required("directory", directory, "directory = \"guests/sample/site\"");
    let prefix = section.string("prefix");
    if let Some(at) = &prefix
        && !(at.value.starts_with('/') && at.value.ends_with('/'))
    {
        section.fault(
            at.line,
            format!(
                "prefix {:?} must start and end with `/`, such as \"/static/\"",
                at.value
            ),
        );
    }
    section.finish();
    Some(SourceAssets {
        directory: directory?,
        prefix: prefix.map_or_else(|| "/".to_owned(), |prefix| prefix.value),
    })
}

fn upstreams(top: &mut TomlSection<'_>) -> BTreeMap<String, SourceUpstream> {
    let sections = top.named_sections("upstreams");
    sections
        .into_iter()
        .map(|(name, s)| (name, upstream::read(s)))
        .collect()
}

impl SourceHandler {
    /// Isolation that was written, else the default of the world.
    pub(crate) fn isolation(&self, world: World) -> Isolation {
        match self.isolation {
            None => defaults::isolation(world),
            Some(SourceIsolation::PerRequest) => Isolation::PerRequest,
            Some(SourceIsolation::Shared(requests)) => Isolation::Shared {
                requests_max: requests.unwrap_or(defaults::SHARED_REQUESTS_MAX),
            },
            Some(SourceIsolation::Concurrent(concurrency, requests)) => Isolation::Concurrent {
                concurrency,
                requests_max: requests.unwrap_or(defaults::CONCURRENT_REQUESTS_MAX),
            },
        }
    }

    /// Limits that were written, over the defaults of the world.
    pub(crate) fn limits(&self, world: World) -> Limits {
        let default = defaults::limits(world);
        let written = &self.limits;
        Limits {
            memory_bytes_max: written.memory_bytes_max.unwrap_or(default.memory_bytes_max),
            table_elements_max: written
                .table_elements_max
                .unwrap_or(default.table_elements_max),
            instances_max: written.instances_max.unwrap_or(default.instances_max),
            cpu_ms_max: written.cpu_ms_max.unwrap_or(default.cpu_ms_max),
            deadline_ms: written.deadline_ms.unwrap_or(default.deadline_ms),
            response_bytes_max: written
                .response_bytes_max
                .unwrap_or(default.response_bytes_max),
            hostcall_bytes_max: written
                .hostcall_bytes_max
                .unwrap_or(default.hostcall_bytes_max),
            in_flight_max: written.in_flight_max.unwrap_or(default.in_flight_max),
            queue_max: written.queue_max.unwrap_or(default.queue_max),
            streams_max: written.streams_max.or(default.streams_max),
            outgoing_max: written.outgoing_max.or(default.outgoing_max),
        }
    }
}
