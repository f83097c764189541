//! What `push` refuses of a manifest that is consistent: slips of the pen that would go unnoticed. Nodes do not check this:
//! a build that one of before has pushed goes on.

use protoplex_http::{Scheme, normal};
use protoplex_wire::manifest::{Manifest, Route};
use std::{borrow::Cow, collections::HashMap};

/// What a line of a gigabit brings: nobody's body comes faster.
const BODY_BYTES_PER_S_MAX: u32 = 125_000_000;

/// Every such slip. `line` says where a route stands, counted from 1.
pub(crate) fn faults(manifest: &Manifest, line: impl Fn(usize) -> Option<usize>) -> Vec<String> {
    let mut faults = shadows(&manifest.routes, line);
    for (index, route) in manifest.routes.iter().enumerate() {
        let number = index + 1;
        if normal::path(&route.path).is_err() {
            let path = &route.path;
            faults.push(format!(
                "route {number}: path `{path}` has `%00` in it, which no request may have"
            ));
        }
        let bytes_per_s = route.body_bytes_per_s_min.unwrap_or_default();
        if bytes_per_s > BODY_BYTES_PER_S_MAX {
            faults.push(format!(
                "route {number}: body_bytes_per_s_min is {bytes_per_s}; {BODY_BYTES_PER_S_MAX} is the most"
            ));
        }
    }
    if let Some(live) = &manifest.live {
        let odd = live.origins.iter().filter(|origin| !is_reachable(origin));
        faults.extend(odd.map(|origin| {
            format!("live: origins has `{origin}`, which no browser says; it is a scheme and a host, with or without a port")
        }));
    }
    faults
}

/// Routes that are one in normal form, in which requests are matched: only one of them would ever be asked. Routes that
/// are written alike make a manifest inconsistent, and are not told here.
fn shadows(routes: &[Route], line: impl Fn(usize) -> Option<usize>) -> Vec<String> {
    let mut faults = Vec::new();
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
            let (number, other_number) = (index + 1, first + 1);
            let at = line(other_number).map_or_else(String::new, |line| format!(", line {line}"));
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
            faults.push(format!(
                "route {number}: {key} makes `{this}` the same as `{that}` of route {other_number}{at}: requests are matched \
                 in normal form, as `{same}`, and only one of the two would be asked{by}; leave one out"
            ));
        }
    }
    faults
}

fn written(route: &Route) -> String {
    written_as(route.host.as_deref(), &route.path)
}

fn written_as(host: Option<&str>, path: &str) -> String {
    format!("{}{path}", host.unwrap_or_default())
}

/// Whether a page can have that origin: there is a host, and the port is a number that ports have.
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
    use protoplex_wire::manifest::Role;

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
        shadows(routes, |number| Some(10 * number))
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
