use super::*;
use protoplex_wire::{
    Digest,
    manifest::{Isolation, Role, World},
};

fn build() -> Manifest {
    let handler = Handler {
        component: Digest::of(b"one"),
        component_bytes: 3,
        world: World::Edge,
        isolation: Isolation::PerRequest,
        limits: crate::defaults::limits(World::Edge),
        grants: Default::default(),
        tenant: None,
        environment: BTreeMap::new(),
        probe: None,
    };
    Manifest {
        format: 1,
        name: "x".to_owned(),
        handlers: [("a".to_owned(), handler)].into(),
        routes: vec![Route {
            role: Role::Proxy,
            host: None,
            path: "/*".to_owned(),
            methods: Vec::new(),
            handler: "a".to_owned(),
            body_timeout_ms: None,
            body_bytes_per_s_min: None,
        }],
        assets: Default::default(),
        upstreams: Default::default(),
        live: None,
        settings: [("color".to_owned(), "blue".to_owned())].into(),
    }
}

#[test]
fn equal_builds_have_no_difference() {
    assert_eq!(diff(&build(), &build()), Diff::default());
}

#[test]
fn each_kind_of_change_is_one_line() {
    let old = build();
    let mut new = build();
    let mut other = new.handlers["a"].clone();
    other.component = Digest::of(b"two");
    other.isolation = Isolation::Shared { requests_max: 1 };
    new.handlers.insert("b".to_owned(), other.clone());
    new.handlers.insert("a".to_owned(), other);
    new.routes[0].handler = "b".to_owned();
    new.settings = [("size".to_owned(), "1".to_owned())].into();
    let (one, two) = (Digest::of(b"one").short(), Digest::of(b"two").short());
    assert_eq!(
        diff(&old, &new).to_string(),
        format!(
            "  ~ handler a: component {one} → {two}, isolation\n  + handler b\n  ~ route proxy any /*: a → b\n  - setting color\n  + setting size"
        )
    );
}

#[test]
fn a_long_diff_is_counted() {
    let old = build();
    let mut new = build();
    new.settings = (0..30)
        .map(|i| (format!("s{i:02}"), String::new()))
        .collect();
    new.settings.insert("color".to_owned(), "blue".to_owned());
    let text = diff(&old, &new).to_string();
    assert!(text.ends_with("… and 10 more of kind setting"), "{text}");
}
