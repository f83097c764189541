//! (host, path, method) → handler. The most specific host wins, then the most specific path, then the method. Hosts and
//! paths are in normal form, those of routes and those of requests.
//!
//! Cost: a hash of the host and one of the path, and one of each label and each segment as far as some route goes along,
//! however many routes there are, and whatever a request is made of.

mod tree;

use super::metrics::RouteMetrics;
use protoplex_http::{ClientPace, Head, Scheme, normal};
use protoplex_wire::manifest::{Role, Route};
use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};
use tree::Tree;

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
    /// Length of the longest of those: no longer host needs to be looked up.
    host_bytes_max: usize,
    /// Wildcard hosts by the labels behind `*.`, the last one first.
    wildcard_hosts: Tree<Paths>,
    any_host: Paths,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Methods>,
    /// Length of the longest of those: no longer path needs to be looked up.
    exact_bytes_max: usize,
    /// Paths that end in `/*`, by their segments before that; `/*` has none.
    prefixes: Tree<Methods>,
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
                Some(host) => match host.strip_prefix("*.") {
                    Some(suffix) => router.wildcard_hosts.entry(suffix.rsplit('.')),
                    None => {
                        router.host_bytes_max = router.host_bytes_max.max(host.len());
                        router.exact_hosts.entry(host.to_owned()).or_default()
                    }
                },
            };
            let methods = match path.strip_suffix("/*") {
                Some(prefix) => paths.prefixes.entry(segments(prefix)),
                None => {
                    paths.exact_bytes_max = paths.exact_bytes_max.max(path.len());
                    paths.exact.entry(path.into_owned()).or_default()
                }
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
        let is_usual = host.len() <= self.host_bytes_max;
        let exact = is_usual.then(|| self.exact_hosts.get(host)).flatten();
        // A wildcard stands for one label or more.
        let behind_first = host.split_once('.').map(|(_, labels)| labels.rsplit('.'));
        let wildcards = self
            .wildcard_hosts
            .along(behind_first.into_iter().flatten());
        let wildcards = wildcards.into_iter().rev();
        exact.into_iter().chain(wildcards).chain([&self.any_host])
    }
}

/// The segments of a path: what stands behind each `/`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

impl Paths {
    /// The entries that match, most specific first.
    fn candidates<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Methods> + use<'a> {
        let is_usual = path.len() <= self.exact_bytes_max;
        let exact = is_usual.then(|| self.exact.get(path)).flatten();
        // `*`, the server as a whole, is beneath no prefix.
        let is_path = path.starts_with('/');
        let prefixes = is_path.then(|| self.prefixes.along(segments(path)));
        exact
            .into_iter()
            .chain(prefixes.into_iter().flatten().rev())
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

    /// A router with wildcards and prefixes, but none that goes far.
    fn shallow() -> Router {
        let routes = [
            route(Some("*.example.com"), "/a/b/*", &[], "1"),
            route(Some("*.b.example.com"), "/a/*", &[], "2"),
            route(Some("www.example.com"), "/a", &[], "3"),
            route(None, "/*", &[], "4"),
        ];
        Router::new(Role::Proxy, &routes, target)
    }

    #[test]
    fn no_host_or_path_costs_more_than_the_routes_go_along_with_it() {
        let router = shallow();
        let looked_up = |host: &str, path: &str| {
            tree::looked_up();
            assert_eq!(find(&router, "GET", host, path), Some(4));
            tree::looked_up()
        };
        let usual = looked_up("other.test", "/x/y");
        for (host, path) in [
            (&*".".repeat(30_000), "/x/y"),
            (&"a.".repeat(15_000), "/x/y"),
            ("other.test", &"/".repeat(8_000)),
            ("other.test", &"/x".repeat(4_000)),
        ] {
            assert!(looked_up(host, path) <= usual, "{host:.9} {path:.9}");
        }
        assert_eq!(find(&router, "GET", "a.b.example.com", "/a/b/c"), Some(2));
        assert_eq!(find(&router, "GET", "a.c.example.com", "/a/b/c"), Some(1));
        assert_eq!(find(&router, "GET", ".example.com", "/a/b"), Some(1));
        assert_eq!(find(&router, "GET", "example.com", "/a/b"), Some(4));
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
