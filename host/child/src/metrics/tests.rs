use super::*;
use http::StatusCode;
use std::time::Duration;

const TOOK: Duration = Duration::from_millis(1);

fn text_of(metrics: &Metrics) -> String {
    let load = Load {
        idle: 3,
        ejected: 1,
        ..Load::default()
    };
    metrics.text(&Seen {
        child: 1,
        build: "b",
        gauges: vec![("protoplex_in_flight", "Requests being answered.", 7)],
        refused: vec![("handshake", 2)],
        role: RoleMetrics::default(),
        loads: [("role:app".to_owned(), load)].into(),
    })
}

fn ask(metrics: &Metrics, path: &str) {
    let route = metrics.route(None, path, "h");
    route.add(StatusCode::OK, TOOK);
}

#[test]
fn routes_and_upstreams_are_told_by_name_in_the_text() {
    let metrics = Metrics::default();
    let route = metrics.route(Some("*.a.test"), "/x\"/*", "web");
    route.add(StatusCode::NOT_FOUND, TOOK);
    metrics.unrouted.add(StatusCode::NOT_FOUND, TOOK);
    let upstream = metrics.upstreams.of("role:app".to_owned());
    upstream.count_request();
    upstream.count_failure(protoplex_upstream::FailureCause::Reset);
    let text = text_of(&metrics);
    let labels = r#"child="1",route="*.a.test/x\"/*",handler="web""#;
    for line in [
        format!(r#"protoplex_route_requests_total{{{labels},code="4xx"}} 1"#),
        format!(r#"protoplex_route_requests_total{{{labels},code="5xx"}} 0"#),
        format!(r#"protoplex_route_seconds_bucket{{{labels},le="0.005"}} 1"#),
        format!(r#"protoplex_route_seconds_bucket{{{labels},le="2"}} 1"#),
        format!(r#"protoplex_route_seconds_bucket{{{labels},le="+Inf"}} 1"#),
        format!("protoplex_route_seconds_sum{{{labels}}} 0.001"),
        format!("protoplex_route_seconds_count{{{labels}}} 1"),
    ]
    .iter()
    .map(String::as_str)
    .chain([
        r#"protoplex_route_requests_total{child="1",route="(none)",handler="",code="4xx"} 1"#,
        r#"protoplex_upstream_requests_total{child="1",upstream="role:app"} 1"#,
        r#"protoplex_upstream_failures_total{child="1",upstream="role:app",cause="reset"} 1"#,
        r#"protoplex_upstream_failures_total{child="1",upstream="role:app",cause="connect"} 0"#,
        r#"protoplex_upstream_connections{child="1",upstream="role:app",state="idle"} 3"#,
        r#"protoplex_upstream_servers{child="1",upstream="role:app",state="ejected"} 1"#,
        r#"protoplex_in_flight{child="1"} 7"#,
        r#"protoplex_refused_total{child="1",cause="handshake"} 2"#,
    ]) {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
}

#[test]
fn a_family_has_one_head_and_all_its_samples_follow_it() {
    let metrics = Metrics::default();
    ask(&metrics, "/a");
    let text = text_of(&metrics);
    let mut heads = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            heads.push(rest.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let family = heads.last().unwrap();
            assert!(line.starts_with(family), "{line} under {family}");
        }
    }
    let mut once = heads.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), heads.len(), "{heads:?}");
}

#[test]
fn metrics_stay_bounded_and_complete_with_any_number_of_routes() {
    let metrics = Metrics::default();
    let held: Vec<_> = (0..3 * ROUTES_LABELLED_MAX)
        .map(|n| metrics.route(None, &format!("/{n}"), "h"))
        .collect();
    for route in &held {
        route.add(StatusCode::OK, TOOK);
    }
    let text = text_of(&metrics);
    let sample = |line: &&str| line.starts_with("protoplex_route_seconds_count");
    let samples: Vec<_> = text.lines().filter(sample).collect();
    assert_eq!(samples.len(), ROUTES_LABELLED_MAX + 2);
    let other = r#"route="(other)",handler=""} "#;
    let other = samples.iter().find_map(|line| line.split_once(other));
    let count = other.unwrap().1.parse::<usize>().unwrap();
    assert_eq!(count, 2 * ROUTES_LABELLED_MAX);
    drop(held);
    // The next builds have other routes: those of the gone ones make room.
    for push in 0..20 {
        for n in 0..ROUTES_LABELLED_MAX {
            ask(&metrics, &format!("/{push}/{n}"));
        }
    }
    let text = text_of(&metrics);
    assert_eq!(text.lines().filter(sample).count(), ROUTES_LABELLED_MAX + 2);
    assert!(text.contains(r#"route="/19/199""#));
}
