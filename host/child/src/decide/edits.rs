//! A handler's edits of a relayed request's headers: `set-headers`, each replacing any of its name, and then
//! `remove-headers`. One place for all protocols.

use super::{
    refused::refused,
    respond::{check_own_header, trimmed},
};
use protoplex_handler::{HandlerError, decision};
use protoplex_http::{field, target};

/// Checked edits of one relay.
pub(super) struct Edits<'a> {
    decision: &'a decision::Relay,
    host: Option<&'a str>,
}

impl<'a> Edits<'a> {
    /// # Errors
    /// A header that a handler may not set or remove, or that cannot be one.
    pub(super) fn new(decision: &'a decision::Relay) -> Result<Self, HandlerError> {
        let mut host = None;
        for field in decision.set_headers.iter() {
            check_own_header(&field.name, &field.value)?;
            if is_host(&field.name) {
                if !target::is_authority(&field.value) {
                    return refused(format!(
                        "header `host` is set to `{}`; write a host, with a port or without",
                        field.value
                    ));
                }
                host = Some(&*field.value);
            }
        }
        if decision.remove_headers.iter().any(|name| is_host(name)) {
            return refused("header `host` cannot be removed; set the one that the server expects");
        }
        Ok(Self { decision, host })
    }

    /// The host that the server is to see, if it is another than the client's.
    pub(super) fn host(&self) -> Option<&'a str> {
        self.host
    }

    /// Whether the request's own header of that name, or the platform's, is replaced or removed.
    pub(super) fn covers(&self, name: &str) -> bool {
        let mut set = self.decision.set_headers.iter();
        set.any(|field| field::is_alike(&field.name, name)) || self.removes(name)
    }

    fn removes(&self, name: &str) -> bool {
        let mut removed = self.decision.remove_headers.iter();
        removed.any(|other| field::is_alike(other, name))
    }

    /// Names and values to add: the last of each name that is set, and not removed.
    pub(super) fn added(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let set = &self.decision.set_headers;
        let is_last = move |at: usize, name: &str| {
            let mut later = set[at + 1..].iter();
            !later.any(|field| field.name.eq_ignore_ascii_case(name))
        };
        let all = set.iter().enumerate();
        all.filter(move |(at, field)| {
            !is_host(&field.name) && !self.removes(&field.name) && is_last(*at, &field.name)
        })
        .map(|(_, field)| (&*field.name, trimmed(&field.value)))
    }
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_handler::decision::{Field, Retry};

    fn decision(set: &[(&str, &str)], removed: &[&str]) -> decision::Relay {
        let field = |(name, value): &(&str, &str)| Field {
            name: (*name).into(),
            value: (*value).into(),
        };
        decision::Relay {
            upstream: "origin".into(),
            key: None,
            path: None,
            set_headers: set.iter().map(field).collect(),
            remove_headers: removed.iter().map(|&name| name.into()).collect(),
            timeouts: None,
            retry: Retry::Default,
        }
    }

    #[test]
    fn what_is_set_replaces_any_of_its_name_and_removal_comes_last() {
        let set = [
            ("x-a", "1"),
            ("X-A", "2"),
            ("x-b", "1"),
            ("x-d", "\t1 2 "),
            ("Host", "b.example:8080"),
        ];
        let decision = decision(&set, &["x-B", "x-c"]);
        let edits = Edits::new(&decision).expect("they are sound");
        let added: Vec<_> = edits.added().collect();
        assert_eq!(added, [("X-A", "2"), ("x-d", "1 2")]);
        assert_eq!(edits.host(), Some("b.example:8080"));
        for name in ["x-a", "x-b", "x-c", "X_C", "host"] {
            assert!(edits.covers(name), "{name}");
        }
        assert!(!edits.covers("x-e"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (set, removed, named) in [
            (&[("host", "a b")][..], &[][..], "`host`"),
            (&[("host", "")], &[], "`host`"),
            (&[("content-length", "1")], &[], "`content-length`"),
            (&[("Content_Length", "1")], &[], "`Content_Length`"),
            (&[("protoplex-build", "1")], &[], "`protoplex-build`"),
            (&[], &["Host"], "`host`"),
        ] {
            let decision = decision(set, removed);
            let Err(HandlerError::Refused(why)) = Edits::new(&decision) else {
                panic!("{set:?} {removed:?} is taken");
            };
            assert!(why.contains(named), "{why}");
        }
    }
}
