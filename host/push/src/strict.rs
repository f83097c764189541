//! Further checks of a manifest that is consistent, by `push` alone: slips of the pen that would go unnoticed. Nodes do not check
//! this: a build that an earlier version has pushed goes on.

use protoplex_http::{Scheme, normal};
use protoplex_wire::manifest::{Manifest, ManifestPath, Route};
use std::{borrow::Cow, collections::HashMap, fmt};

/// Most bytes a second that a body may have to bring: a line of a gigabit brings no more.
const BODY_BYTES_PER_S_MAX: u32 = 125_000_000;

/// A slip of the pen in a consistent manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slip {
    /// Path of the value that is wrong.
    pub(crate) at: ManifestPath,
    /// Text that says what is wrong, and what to write instead.
    pub(crate) text: String,
}

impl Slip {
    fn new(at: ManifestPath, what: impl fmt::Display) -> Self {
        let text = format!("{}{what}", at.subject());
        Self { at, text }
    }
}

/// Finds every slip. `line` says where something stands.
pub(crate) fn slips(
    manifest: &Manifest,
    line: impl Fn(&ManifestPath) -> Option<usize>,
) -> Vec<Slip> {
    let mut slips = shadows(&manifest.routes, line);
    for (index, route) in manifest.routes.iter().enumerate() {
        if normal::path(&route.path).is_err() {
            let path = &route.path;
            slips.push(Slip::new(
                route_at(index).key("path"),
                format!("path `{path}` has `%00` in it, which no request may have"),
            ));
        }
        let bytes_per_s = route.body_bytes_per_s_min.unwrap_or_default();
        if bytes_per_s > BODY_BYTES_PER_S_MAX {
            slips.push(Slip::new(
                route_at(index).key("body_bytes_per_s_min"),
                format!(
                    "body_bytes_per_s_min is {bytes_per_s}; {BODY_BYTES_PER_S_MAX} is the most"
                ),
            ));
        }
    }
    let origins = manifest.live.iter().flat_map(|live| &live.origins);
    for (index, origin) in origins.enumerate() {
        if !is_reachable(origin) {
            let at = ManifestPath::default().key("live").key("origins");
            slips.push(Slip::new(
                at.index(index),
                format!(
                    "origins has `{origin}`, which no browser says; it is a scheme and a host, with or without a port"
                ),
            ));
        }
    }
    slips
}

fn route_at(index: usize) -> ManifestPath {
    ManifestPath::default().key("routes").index(index)
}

/// Finds routes that are one in normal form, in which requests are matched: only one of them would ever be asked.
/// Routes that are written alike make a manifest inconsistent, and are not told here.
fn shadows(routes: &[Route], line: impl Fn(&ManifestPath) -> Option<usize>) -> Vec<Slip> {
    let mut slips = Vec::new();
    let mut seen = HashMap::new();
    let any = [String::new()];
    for (index, route) in routes.iter().enumerate() {
        let host = route.host.as_deref();
        let host = host.map(|host| normal::authority(host, Scheme::Http));
        let path = normal::path(&route.path).unwrap_or(Cow::Borrowed(&route.path));
        let methods = match route.methods.is_empty() {
            true => &any[..],
            false => &route.methods,
        };
        let mut told = None;
        for method in methods {
            let key = (route.role, host.clone(), path.clone(), method);
            let first: usize = *seen.entry(key).or_insert(index);
            let other = &routes[first];
            let is_alike = (&other.host, &other.path) == (&route.host, &route.path);
            if first == index || is_alike || told == Some(first) {
                continue;
            }
            told = Some(first);
            let number = first + 1;
            let at = line(&route_at(first));
            let at = at.map_or_else(String::new, |line| format!(", line {line}"));
            let by = match &**method {
                "" => String::new(),
                method => format!(" by {method}"),
            };
            let (this, that) = (written(route), written(other));
            let same = written_as(host.as_deref(), &path);
            let key = match other.path == route.path {
                true => "host",
                false => "path",
            };
            slips.push(Slip::new(
                route_at(index).key(key),
                format!(
                    "{key} makes `{this}` the same as `{that}` of route {number}{at}: requests are matched in normal form, \
                     as `{same}`, and only one of the two would be asked{by}; leave one out"
                ),
            ));
        }
    }
    slips
}

fn written(route: &Route) -> String {
    written_as(route.host.as_deref(), &route.path)
}

fn written_as(host: Option<&str>, path: &str) -> String {
    format!("{}{path}", host.unwrap_or_default())
}

/// Whether a page can have this origin: there is a host, and the port is a number that ports have.
fn is_reachable(origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return true; // `*`, or what is refused anyway.
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_address = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => is_address(address),
        None => !host.is_empty() && !host.contains(['[', ']', ':']),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_wire::manifest::{PathSegment, Role};

    fn route(host: &str, path: &str, methods: &[&str]) -> Route {
        Route {
            role: Role::Proxy,
            host: (!host.is_empty()).then(|| host.to_owned()),
            path: path.to_owned(),
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            handler: "a".to_owned(),
            body_timeout_ms: None,
            body_bytes_per_s_min: None,
        }
    }

    fn told(routes: &[Route]) -> Vec<String> {
        let line = |at: &ManifestPath| match at.segments() {
            [_, PathSegment::Index(index)] => Some(10 * (index + 1)),
            other => panic!("{other:?} is no route"),
        };
        let slips = shadows(routes, line).into_iter();
        slips.map(|slip| slip.text).collect()
    }

    #[test]
    fn two_routes_that_are_one_in_normal_form_are_told_by_name() {
        let get = &["GET"];
        for (first, second) in [
            (route("", "/a/../b", &[]), route("", "/b", &[])),
            (route("", "/a", get), route("", "/%61", get)),
            (route("", "/a%2fb", &[]), route("", "/a%2Fb", &[])),
            (route("", "//static/*", &[]), route("", "/./static/*", &[])),
            (
                route("example.test", "/", &[]),
                route("example.test.", "/", &[]),
            ),
            (
                route("*.example.test.", "/", &[]),
                route("*.example.test", "/", &[]),
            ),
            (
                route("[2001:db8::1]", "/", &[]),
                route("[2001:db8:0::1]", "/", &[]),
            ),
            // A list that overlaps another.
            (
                route("", "/a", &["GET", "PUT"]),
                route("", "/%61", &["POST", "PUT", "GET"]),
            ),
        ] {
            let faults = told(&[first.clone(), second.clone()]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("route 2: "), "{faults:?}");
            for text in [&written(&first), &written(&second), "of route 1, line 10"] {
                assert!(faults[0].contains(text), "{faults:?}");
            }
        }
        let faults = told(&[route("", "/a/../b", &[]), route("", "/b", &[])]);
        assert_eq!(
            faults,
            [
                "route 2: path makes `/b` the same as `/a/../b` of route 1, line 10: requests are matched in normal form, as \
              `/b`, and only one of the two would be asked; leave one out"
            ]
        );
    }

    #[test]
    fn routes_that_differ_in_anything_that_counts_are_no_shadows() {
        let mut live = route("", "/%61", &[]);
        live.role = Role::Live;
        let routes = [
            route("", "/a", &[]),
            live,
            route("", "/%61", &["GET"]),
            route("", "/a/", &[]),
            route("", "/a/*", &[]),
            route("", "/a%2Fb", &[]),
            route("", "/a/b", &[]),
            route("", "/A", &[]),
            route("example.test", "/a", &[]),
            route("*.example.test", "/a", &[]),
        ];
        assert_eq!(told(&routes), Vec::<String>::new());
    }

    #[test]
    fn an_origin_is_one_that_a_page_can_have() {
        for (origin, fine) in [
            ("*", true),
            ("https://app.example.com", true),
            ("http://localhost:5173", true),
            ("http://[::1]:8080", true),
            ("http://[2001:db8::1]", true),
            ("http://:8080", false),
            ("http://a:b", false),
            ("http://a:0", false),
            ("http://a:65536", false),
            ("http://a:", false),
            ("http://[::1", false),
            ("http://[a]", false),
            ("http://a:1:2", false),
        ] {
            assert_eq!(is_reachable(origin), fine, "{origin}");
        }
    }
}
