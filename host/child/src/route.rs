//! (host, path, method) → handler. The most specific host wins, then the most specific path, then the method. Hosts and
//! paths are in normal form, those of routes and those of requests.
//!
//! Cost: one hash of the host, one for each `.` in as much of it as a wildcard has, and one for each `/` of the path,
//! however many routes there are.

use super::metrics::RouteMetrics;
use protoplex_http::{ClientPace, Head, Scheme, normal};
use protoplex_wire::manifest::{Role, Route};
use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

/// The target of a route.
#[derive(Clone, Debug)]
pub struct Target {
    /// Index of the handler.
    pub handler: usize,
    pub(super) metrics: Arc<RouteMetrics>,
    /// How fast a request's body has to come, where the route says so.
    pub(super) pace: Option<ClientPace>,
}

impl Target {
    /// The pace of bodies, as a route has it.
    pub(super) fn pace(route: &Route) -> Option<ClientPace> {
        let (timeout_ms, bytes_per_s_min) = (route.body_timeout_ms, route.body_bytes_per_s_min);
        (timeout_ms.is_some() || bytes_per_s_min.is_some()).then(|| ClientPace::Body {
            timeout: timeout_ms.map(Duration::from_millis),
            bytes_per_s_min,
        })
    }
}

/// What the router says.
#[derive(Debug)]
pub enum Found<'a> {
    /// The route takes it.
    Route(&'a Target),
    /// The path is known, the method is not; what `Allow` lists.
    WrongMethod(Vec<&'a str>),
    /// Nothing is there.
    Nothing,
}

/// The routes of one role.
#[derive(Debug, Default)]
pub struct Router {
    exact_hosts: HashMap<String, Paths>,
    /// Wildcard hosts by their suffix with its dot: `.example.com`.
    wildcard_hosts: HashMap<String, Paths>,
    /// Length of the longest of those suffixes: no longer one of a host needs to be looked up.
    suffix_bytes_max: usize,
    any_host: Paths,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Methods>,
    /// Paths that end in `/*`, without that; the empty one is `/*`.
    prefixes: HashMap<String, Methods>,
}

#[derive(Debug, Default)]
struct Methods {
    any: Option<Target>,
    named: Vec<(String, Target)>,
}

impl Router {
    /// Makes the router of a role; `target` resolves a route.
    pub(super) fn new<'a>(
        role: Role,
        routes: impl IntoIterator<Item = &'a Route>,
        target: impl Fn(&Route) -> Option<Target>,
    ) -> Self {
        let mut router = Self::default();
        for route in routes.into_iter().filter(|route| route.role == role) {
            let Some(target) = target(route) else {
                continue;
            };
            let host = route.host.as_deref();
            let host = host.map(|host| normal::authority(host, Scheme::Http));
            let path = normal::path(&route.path).unwrap_or(Cow::Borrowed(&route.path));
            let paths = match host.as_deref() {
                None => &mut router.any_host,
                Some(host) => match host.strip_prefix('*') {
                    Some(suffix) => {
                        router.suffix_bytes_max = router.suffix_bytes_max.max(suffix.len());
                        router.wildcard_hosts.entry(suffix.to_owned()).or_default()
                    }
                    None => router.exact_hosts.entry(host.to_owned()).or_default(),
                },
            };
            let methods = match path.strip_suffix("/*") {
                Some(prefix) => paths.prefixes.entry(prefix.to_owned()).or_default(),
                None => paths.exact.entry(path.into_owned()).or_default(),
            };
            if route.methods.is_empty() {
                methods.any = Some(target.clone());
            }
            methods.named.extend(
                route
                    .methods
                    .iter()
                    .map(|method| (method.clone(), target.clone())),
            );
        }
        router
    }

    /// Finds the handler of a request.
    pub fn find<'a>(&'a self, head: &Head<'_>) -> Found<'a> {
        let path = head.path_only();
        let mut wrong: Option<&Methods> = None;
        for paths in self.hosts(head.host()) {
            for methods in paths.candidates(path) {
                match methods.find(head.method) {
                    Some(target) => return Found::Route(target),
                    None => wrong = wrong.or(Some(methods)),
                }
            }
        }
        wrong.map_or(Found::Nothing, |methods| {
            Found::WrongMethod(methods.allowed())
        })
    }

    /// Whether a server that reads paths leniently takes the request's for one that leads to another handler than
    /// `found`, or to none.
    pub(super) fn is_ambiguous(&self, head: &Head<'_>, found: &Target) -> bool {
        normal::lenient(head.path_only()).is_some_and(|path| {
            let path = &path;
            match self.find(&Head { path, ..*head }) {
                Found::Route(other) => other.handler != found.handler,
                Found::WrongMethod(_) | Found::Nothing => true,
            }
        })
    }

    /// The tables that a host may use, most specific first.
    fn hosts<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Paths> + use<'a> {
        let mut tables = smallvec::SmallVec::<[&'a Paths; 4]>::new();
        if !self.exact_hosts.is_empty() || !self.wildcard_hosts.is_empty() {
            tables.extend(self.exact_hosts.get(host));
            let suffixes = self.suffixes(host);
            tables.extend(suffixes.filter_map(|suffix| self.wildcard_hosts.get(suffix)));
        }
        tables.push(&self.any_host);
        tables.into_iter()
    }

    /// The suffixes of a host that a wildcard may have, the longest first. Without a bound on their length, a host of
    /// nothing but dots would cost the square of its length.
    fn suffixes<'h>(&self, host: &'h str) -> impl Iterator<Item = &'h str> + use<'h> {
        let first = host.len().saturating_sub(self.suffix_bytes_max);
        let dots = host.match_indices('.').map(|(at, _)| at);
        dots.filter(move |at| *at >= first).map(|at| &host[at..])
    }
}

impl Paths {
    /// The entries that match, most specific first.
    fn candidates<'a, 'p>(
        &'a self,
        path: &'p str,
    ) -> impl Iterator<Item = &'a Methods> + use<'a, 'p> {
        let exact = (!self.exact.is_empty())
            .then(|| self.exact.get(path))
            .flatten();
        let mut rest = (!self.prefixes.is_empty()).then_some(path);
        let prefixes = std::iter::from_fn(move || {
            let current = rest?;
            rest = current.rfind('/').map(|at| &current[..at]);
            Some(self.prefixes.get(current))
        });
        exact.into_iter().chain(prefixes.flatten())
    }
}

impl Methods {
    /// HEAD is asked where GET is, unless a route names it.
    fn find(&self, method: &str) -> Option<&Target> {
        let named = |method: &str| self.named.iter().find(|(name, _)| name == method);
        let get = || (method == "HEAD").then(|| named("GET")).flatten();
        let found = named(method).or_else(get);
        found.map(|(_, target)| target).or(self.any.as_ref())
    }

    fn allowed(&self) -> Vec<&str> {
        self.named.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: Option<&str>, path: &str, methods: &[&str], handler: &str) -> Route {
        Route {
            role: Role::Proxy,
            host: host.map(str::to_owned),
            path: path.into(),
            methods: methods.iter().map(|&m| m.to_owned()).collect(),
            handler: handler.into(),
            body_timeout_ms: None,
            body_bytes_per_s_min: None,
        }
    }

    fn to(handler: usize) -> Target {
        Target {
            handler,
            metrics: Arc::default(),
            pace: None,
        }
    }

    fn target(route: &Route) -> Option<Target> {
        Some(to(route.handler.parse().ok()?))
    }

    fn head<'a>(method: &'a str, host: &'a str, path: &'a str) -> Head<'a> {
        Head {
            method,
            path,
            authority: host,
            scheme: Scheme::Http,
            version: 11,
            headers: &[],
            client: [127, 0, 0, 1].into(),
            client_port: 0,
            forwarder: None,
            notes: None,
            request_id: "",
            hop: Default::default(),
        }
    }

    fn find(router: &Router, method: &str, host: &str, path: &str) -> Option<usize> {
        match router.find(&head(method, host, path)) {
            Found::Route(target) => Some(target.handler),
            _ => None,
        }
    }

    #[test]
    fn a_host_of_dots_costs_at_most_a_lookup_per_wildcard_byte() {
        let routes = ["*.example.com", "*.b.example.com"];
        let routes = routes.map(|host| route(Some(host), "/*", &[], "4"));
        let router = Router::new(Role::Proxy, &routes, target);
        let longest = ".b.example.com".len();
        assert_eq!(
            router.suffixes(&".".repeat(30_000)).count(),
            longest,
            "of 30,000"
        );
        let suffixes: Vec<_> = router.suffixes("a.b.example.com").collect();
        assert_eq!(suffixes, [".b.example.com", ".example.com", ".com"]);
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = [
            route(None, "/*", &[], "0"),
            route(None, "/a", &[], "1"),
            route(None, "/a/*", &[], "2"),
            route(None, "/a/b/*", &["GET"], "3"),
            route(Some("*.example.com"), "/*", &[], "4"),
            route(Some("www.example.com"), "/x", &[], "5"),
        ];
        let router = Router::new(Role::Proxy, &routes, target);
        for (method, host, path, expected) in [
            ("GET", "h", "/", 0),
            ("GET", "h", "/zzz?a=/a/b", 0),
            ("GET", "h", "/a?q", 1),
            ("GET", "h", "/a/", 2),
            ("GET", "h", "/ab", 0),
            ("GET", "h", "/a/b/c", 3),
            ("HEAD", "h", "/a/b/c", 3),
            ("POST", "h", "/a/b/c", 2),
            ("GET", "www.example.com:8080", "/x", 5),
            ("GET", "www.example.com", "/y", 4),
            ("GET", "example.com", "/x", 0),
            ("OPTIONS", "h", "/", 0),
        ] {
            assert_eq!(
                find(&router, method, host, path),
                Some(expected),
                "{method} {host}{path}"
            );
        }
    }

    #[test]
    fn the_server_as_a_whole_is_no_path_of_any_route() {
        let router = Router::new(Role::Proxy, &[route(None, "/*", &[], "0")], target);
        assert_eq!(find(&router, "OPTIONS", "h", "*"), None);
    }

    #[test]
    fn routes_are_matched_in_normal_form_and_in_one_way() {
        let routes = [
            route(Some("Example.test."), "/*", &[], "0"),
            route(None, "/%61dmin//*", &[], "1"),
            route(None, "/*", &[], "2"),
        ];
        let router = Router::new(Role::Proxy, &routes, target);
        assert_eq!(find(&router, "GET", "example.test", "/x"), Some(0));
        assert_eq!(find(&router, "GET", "h", "/admin/x"), Some(1));
        for (path, ambiguous) in [
            ("/admin%2Fx", true),
            ("/admin;v=1/x", true),
            ("/x/..;/admin/y", true),
            ("/groups/a%2Fb", false),
            ("/admin/a%2Fb", false),
            ("/a;jsessionid=1", false),
        ] {
            let head = head("GET", "h", path);
            let Found::Route(found) = router.find(&head) else {
                panic!("{path} leads nowhere");
            };
            assert_eq!(router.is_ambiguous(&head, found), ambiguous, "{path}");
        }
    }

    #[test]
    fn a_route_that_names_head_has_it_wherever_it_stands() {
        let (get, head) = (
            route(None, "/a", &["GET"], "0"),
            route(None, "/a", &["HEAD"], "1"),
        );
        for routes in [[get.clone(), head.clone()], [head, get]] {
            let router = Router::new(Role::Proxy, &routes, target);
            assert_eq!(find(&router, "HEAD", "h", "/a"), Some(1));
            assert_eq!(find(&router, "GET", "h", "/a"), Some(0));
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let router = Router::new(
            Role::Proxy,
            &[route(None, "/a", &["GET", "PUT"], "0")],
            target,
        );
        assert_eq!(find(&router, "POST", "h", "/a"), None);
        let methods = Methods {
            any: None,
            named: ["GET", "PUT"].map(|name| (name.into(), to(0))).into(),
        };
        assert_eq!(methods.allowed(), ["GET", "PUT"]);
    }
}
