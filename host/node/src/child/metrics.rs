//! Counters of a child, and their Prometheus text. Each sample carries the label `child`; the parent merges.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Kinds of decisions, in the order of [`HandlerMetrics::decisions`].
pub(super) const DECISIONS: [&str; 6] = ["respond", "redirect", "relay", "asset", "app", "error"];

/// Which counter a decision raises.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Respond,
    Redirect,
    Relay,
    Asset,
    App,
    Error,
}

/// Counters of one handler name; they outlive builds.
#[derive(Debug, Default)]
pub(super) struct HandlerMetrics {
    decisions: [AtomicU64; DECISIONS.len()],
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl HandlerMetrics {
    pub(super) fn count(&self, kind: Kind) {
        self.decisions[kind as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_error(&self, kind: &'static str) {
        self.count(Kind::Error);
        *self.errors.lock().entry(kind).or_default() += 1;
    }
}

/// Counters of the child.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) traps: AtomicU64,
    /// Requests that named a build which is not held any more.
    pub(super) hop_misses: AtomicU64,
    /// Requests that outlived their build's drain deadline.
    pub(super) cut: AtomicU64,
    pub(super) swaps: AtomicU64,
    /// Nanoseconds that switches took, all together.
    pub(super) swap_ns: AtomicU64,
    handlers: Mutex<BTreeMap<String, Arc<HandlerMetrics>>>,
}

impl Metrics {
    /// The counters of a handler, by name.
    pub(super) fn handler(&self, name: &str) -> Arc<HandlerMetrics> {
        Arc::clone(self.handlers.lock().entry(name.to_owned()).or_default())
    }

    /// Prometheus text; `gauges` are read by the caller.
    pub(super) fn text(
        &self,
        child: usize,
        build: &str,
        gauges: &[(&str, &str, u64)],
        refused: impl Iterator<Item = (&'static str, u64)>,
    ) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let comma = if labels.is_empty() { "" } else { "," };
                let _ = writeln!(out, "{name}{{child=\"{child}\"{comma}{labels}}} {value}");
            }
        };
        let one = |counter: &AtomicU64| vec![(String::new(), counter.load(Relaxed).to_string())];
        family(
            "protoplex_requests_total",
            "counter",
            "Requests.",
            &one(&self.requests),
        );
        family(
            "protoplex_request_errors_total",
            "counter",
            "Answers with 5xx.",
            &one(&self.errors),
        );
        family(
            "protoplex_handler_traps_total",
            "counter",
            "Instances that died.",
            &one(&self.traps),
        );
        family(
            "protoplex_hop_build_misses_total",
            "counter",
            "Requests for a build not held.",
            &one(&self.hop_misses),
        );
        family(
            "protoplex_requests_cut_total",
            "counter",
            "Requests past their drain deadline.",
            &one(&self.cut),
        );
        family(
            "protoplex_swaps_total",
            "counter",
            "Switches of the build.",
            &one(&self.swaps),
        );
        let seconds = self.swap_ns.load(Relaxed) as f64 / 1e9;
        let swap = [(String::new(), seconds.to_string())];
        family(
            "protoplex_swap_seconds_total",
            "counter",
            "Time that switches took.",
            &swap,
        );
        family(
            "protoplex_build_info",
            "gauge",
            "The build that answers.",
            &[(format!("build=\"{build}\""), "1".into())],
        );
        for (name, help, value) in gauges {
            family(name, "gauge", help, &[(String::new(), value.to_string())]);
        }
        let refused: Vec<_> = refused
            .map(|(cause, count)| (format!("cause=\"{cause}\""), count.to_string()))
            .collect();
        family(
            "protoplex_refused_total",
            "counter",
            "Connections and requests that were refused or cut, by cause.",
            &refused,
        );
        let (mut decisions, mut errors) = (Vec::new(), Vec::new());
        for (name, handler) in self.handlers.lock().iter() {
            for (kind, count) in DECISIONS.iter().zip(&handler.decisions) {
                let count = count.load(Relaxed);
                decisions.push((
                    format!("handler=\"{name}\",decision=\"{kind}\""),
                    count.to_string(),
                ));
            }
            for (kind, count) in handler.errors.lock().iter() {
                errors.push((
                    format!("handler=\"{name}\",kind=\"{kind}\""),
                    count.to_string(),
                ));
            }
        }
        family(
            "protoplex_decisions_total",
            "counter",
            "Decisions by handler.",
            &decisions,
        );
        family(
            "protoplex_handler_errors_total",
            "counter",
            "Failed calls by handler and cause.",
            &errors,
        );
        out
    }
}
