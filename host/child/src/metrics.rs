//! Counters of a child, and their Prometheus text. Each sample carries the label `child`; the parent merges.

mod decision_kind;
mod named;
mod role_metrics;
mod route;
mod text;

pub use decision_kind::DecisionKind;
pub use role_metrics::{Labelled, RoleMetrics, Sample};
pub(super) use route::{Moment, RouteMetrics};

use named::Named;
use parking_lot::Mutex;
use protoplex_upstream::{Load, UpstreamCounters};
use route::BOUNDS_MS;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use text::Text;

/// Routes with counters of their own: each has 14 samples, in each child, and is read every few seconds.
const ROUTES_LABELLED_MAX: usize = 200;
/// Upstreams with counters of their own: each has some 20 samples.
pub(super) const UPSTREAMS_LABELLED_MAX: usize = 200;
/// Handlers with counters of their own.
const HANDLERS_LABELLED_MAX: usize = 1_000;
/// The label of everything above these.
pub(super) const OTHER: &str = "(other)";
/// The label of requests that no route takes.
const NO_ROUTE: &str = "(none)";

/// Counters of one handler name; they outlive builds.
#[derive(Debug, Default)]
pub struct HandlerMetrics {
    decisions: [AtomicU64; DecisionKind::COUNT],
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl HandlerMetrics {
    /// Counts a decision.
    pub fn count(&self, kind: DecisionKind) {
        self.decisions[kind.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn count_error(&self, kind: &'static str) {
        self.count(DecisionKind::ERROR);
        *self.errors.lock().entry(kind).or_default() += 1;
    }
}

/// A route by host and path, and its handler.
type RouteName = (String, String);

/// Counters of the child.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) traps: AtomicU64,
    /// Requests that named a build which is not held any more.
    pub(super) hop_misses: AtomicU64,
    /// Requests that went round in circles among nodes.
    pub(super) loops: AtomicU64,
    pub(super) hop_tokens_refused: AtomicU64,
    /// Internal requests whose client's address and headers were not believed.
    pub(super) hop_origins_refused: AtomicU64,
    /// Requests that outlived their build's drain deadline.
    pub(super) cut: AtomicU64,
    pub(super) swaps: AtomicU64,
    /// Nanoseconds that switches took, all together.
    pub(super) swap_ns: AtomicU64,
    pub(super) handlers: Named<String, HandlerMetrics>,
    pub(super) upstreams: Named<String, UpstreamCounters>,
    /// Requests that no route takes.
    pub(super) unrouted: Arc<RouteMetrics>,
    routes: Named<RouteName, RouteMetrics>,
}

/// What others know, at the moment of a scrape.
pub(super) struct Seen<'a> {
    pub(super) child: usize,
    pub(super) build: &'a str,
    pub(super) gauges: Vec<Sample>,
    pub(super) refused: Vec<(&'static str, u64)>,
    /// Metrics that the child's role adds.
    pub(super) role: RoleMetrics,
    /// Load by the name of the upstream.
    pub(super) loads: BTreeMap<String, Load>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            errors: AtomicU64::default(),
            traps: AtomicU64::default(),
            hop_misses: AtomicU64::default(),
            loops: AtomicU64::default(),
            hop_tokens_refused: AtomicU64::default(),
            hop_origins_refused: AtomicU64::default(),
            cut: AtomicU64::default(),
            swaps: AtomicU64::default(),
            swap_ns: AtomicU64::default(),
            handlers: Named::new(HANDLERS_LABELLED_MAX),
            upstreams: Named::new(UPSTREAMS_LABELLED_MAX),
            unrouted: Arc::default(),
            routes: Named::new(ROUTES_LABELLED_MAX),
        }
    }
}

impl Metrics {
    /// The counters of a route.
    pub(super) fn route(&self, host: Option<&str>, path: &str, handler: &str) -> Arc<RouteMetrics> {
        let route = format!("{}{path}", host.unwrap_or_default());
        self.routes.of((route, handler.to_owned()))
    }

    /// Prometheus text.
    pub(super) fn text(&self, seen: &Seen<'_>) -> String {
        let mut text = Text::new(seen.child);
        self.whole(&mut text, seen);
        self.by_handler(&mut text);
        self.by_route(&mut text);
        self.by_upstream(&mut text, &seen.loads);
        text.done()
    }

    fn whole(&self, text: &mut Text, seen: &Seen<'_>) {
        for (name, help, counter) in [
            ("protoplex_requests_total", "Requests.", &self.requests),
            (
                "protoplex_request_errors_total",
                "Answers with 5xx.",
                &self.errors,
            ),
            (
                "protoplex_handler_traps_total",
                "Instances that died.",
                &self.traps,
            ),
            (
                "protoplex_hop_build_misses_total",
                "Requests for a build not held.",
                &self.hop_misses,
            ),
            (
                "protoplex_hop_loops_total",
                "Requests that were relayed among nodes too often.",
                &self.loops,
            ),
            (
                "protoplex_hop_tokens_refused_total",
                "Requests of other nodes whose token was forged, or of another time.",
                &self.hop_tokens_refused,
            ),
            (
                "protoplex_hop_origins_refused_total",
                "Requests of other nodes that did not prove where they came in.",
                &self.hop_origins_refused,
            ),
            (
                "protoplex_requests_cut_total",
                "Requests past their drain deadline.",
                &self.cut,
            ),
            (
                "protoplex_swaps_total",
                "Switches of the build.",
                &self.swaps,
            ),
        ] {
            text.family(name, "counter", help)
                .sample(&[], counter.load(Relaxed));
        }
        text.family(
            "protoplex_swap_seconds_total",
            "counter",
            "Time that switches took.",
        )
        .sample(&[], self.swap_ns.load(Relaxed) as f64 / 1e9);
        text.family("protoplex_build_info", "gauge", "The build that answers.")
            .sample(&[("build", seen.build)], 1);
        let role = &seen.role;
        for (kind, samples) in [
            ("gauge", &seen.gauges),
            ("gauge", &role.gauges),
            ("counter", &role.counters),
        ] {
            for (name, help, value) in samples {
                text.family(name, kind, help).sample(&[], value);
            }
        }
        for family in role.labelled.iter().filter(|all| !all.samples.is_empty()) {
            text.family(family.name, "gauge", family.help);
            for (label, value) in &family.samples {
                text.sample(&[(family.label, label)], value);
            }
        }
        text.family(
            "protoplex_refused_total",
            "counter",
            "Connections and requests that were refused or cut, by cause.",
        );
        for (cause, count) in seen.refused.iter().chain(&role.refused) {
            text.sample(&[("cause", cause)], count);
        }
    }

    fn by_handler(&self, text: &mut Text) {
        let handlers = self.handlers.all(OTHER.to_owned());
        text.family(
            "protoplex_decisions_total",
            "counter",
            "Decisions by handler.",
        );
        for (name, handler) in &handlers {
            for (kind, count) in DecisionKind::names().zip(&handler.decisions) {
                let labels = [("handler", &**name), ("decision", kind)];
                text.sample(&labels, count.load(Relaxed));
            }
        }
        text.family(
            "protoplex_handler_errors_total",
            "counter",
            "Failed calls by handler and cause.",
        );
        for (name, handler) in &handlers {
            for (kind, count) in handler.errors.lock().iter() {
                text.sample(&[("handler", name), ("kind", kind)], count);
            }
        }
    }

    fn by_route(&self, text: &mut Text) {
        let mut routes = self.routes.all((OTHER.to_owned(), String::new()));
        let none = (NO_ROUTE.to_owned(), String::new());
        routes.push((none, Arc::clone(&self.unrouted)));
        text.family(
            "protoplex_route_requests_total",
            "counter",
            "Answers by route and class of status.",
        );
        for ((route, handler), counters) in &routes {
            for (class, count) in counters.classes() {
                let labels = [("route", &**route), ("handler", handler), ("code", class)];
                text.sample(&labels, count);
            }
        }
        text.family(
            "protoplex_route_seconds",
            "histogram",
            "Time until the head of the answer was there, by route.",
        );
        for ((route, handler), counters) in &routes {
            let labels = [("route", &**route), ("handler", &**handler)];
            let bounds = BOUNDS_MS.map(|ms| (ms as f64 / 1e3).to_string());
            let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
            let mut count = 0;
            for (bound, below) in bounds.zip(counters.cumulative()) {
                let [route, handler] = labels;
                text.suffixed("_bucket", &[route, handler, ("le", bound)], below);
                count = below;
            }
            text.suffixed("_sum", &labels, counters.took().as_secs_f64());
            text.suffixed("_count", &labels, count);
        }
    }

    fn by_upstream(&self, text: &mut Text, loads: &BTreeMap<String, Load>) {
        let upstreams = self.upstreams.all(OTHER.to_owned());
        text.family(
            "protoplex_upstream_requests_total",
            "counter",
            "Requests that were to be relayed, by upstream.",
        );
        for (name, counters) in &upstreams {
            text.sample(&[("upstream", name)], counters.requests());
        }
        text.family(
            "protoplex_upstream_retries_total",
            "counter",
            "Tries after the first, by upstream.",
        );
        for (name, counters) in &upstreams {
            text.sample(&[("upstream", name)], counters.retries());
        }
        text.family(
            "protoplex_upstream_failures_total",
            "counter",
            "Tries that failed or could not be made, by upstream and cause.",
        );
        for (name, counters) in &upstreams {
            for (cause, count) in counters.failures() {
                text.sample(&[("upstream", name), ("cause", cause)], count);
            }
        }
        let mut states = |family, help, of: fn(&Load) -> Vec<(&'static str, usize)>| {
            text.family(family, "gauge", help);
            for (name, load) in loads {
                for (state, value) in of(load) {
                    let labels = [("upstream", &**name), ("state", state)];
                    text.sample(&labels, value);
                }
            }
        };
        states(
            "protoplex_upstream_connections",
            "Open connections by upstream: of HTTP/1.1 with a request or without, and of HTTP/2.",
            |load| {
                vec![
                    ("busy", load.busy),
                    ("idle", load.idle),
                    ("http2", load.multiplexed),
                ]
            },
        );
        states(
            "protoplex_upstream_requests",
            "Requests by upstream: at its servers, and waiting for one of them.",
            |load| vec![("in-flight", load.in_flight), ("waiting", load.waiting)],
        );
        states(
            "protoplex_upstream_servers",
            "Servers by upstream, as this child knows them.",
            |load| {
                vec![
                    ("well", load.healthy),
                    ("unhealthy", load.unhealthy),
                    ("ejected", load.ejected),
                ]
            },
        );
    }
}

#[cfg(test)]
mod tests;
