//! Pages of other origins. A browser sends a visitor's cookies with whatever any page asks for: so a live route answers
//! pages of its own host, and of the origins that the build lists. Clients that are no browsers send no `Origin`.

use http::{HeaderName, HeaderValue, StatusCode, header};
use protoplex_child::{build::LoadedBuild, reply, request::Request};
use protoplex_http::{Answer, Head, Reply, Scheme, normal};

/// Any origin, where no answer depends on who asks.
const ANY: &str = "*";
/// Browsers ask again after this, and no later.
const PREFLIGHT_AGE_S: &str = "7200";
/// Methods that the client for pages uses.
const METHODS: &str = "GET, POST";

/// Whether a page of the origin that a request names may read the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// The request is of no browser, or of a page of this host.
    Own,
    /// A page of an origin that the build lists.
    Listed(HeaderValue),
    /// A page of any other origin; the build lists all of them. Without cookies.
    Any,
}

/// A page of an origin that the build does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign;

impl Allowed {
    /// Looks where a request comes from.
    ///
    /// # Errors
    /// The request is of a page whose origin is not listed.
    pub(super) fn of(
        origins: &[String],
        head: &Head<'_>,
        from_our_node: bool,
    ) -> Result<Self, Foreign> {
        let mut lines = head.header_lines("origin");
        let Some(origin) = lines.next() else {
            return Ok(Self::Own);
        };
        // A browser sends one: of two, whoever reads the other would be told that it may (RFC 6454, section 7.3).
        if lines.next().is_some() {
            return Err(Foreign);
        }
        let origin = std::str::from_utf8(origin).map_err(|_| Foreign)?;
        let known = |one: &&String| one.eq_ignore_ascii_case(origin);
        if origins.iter().any(|one| known(&one)) {
            let origin = HeaderValue::from_str(origin).map_err(|_| Foreign)?;
            return Ok(Self::Listed(origin));
        }
        if is_own(origin, head, from_our_node) {
            return Ok(Self::Own);
        }
        match origins.iter().any(|one| one == ANY) {
            true => Ok(Self::Any),
            false => Err(Foreign),
        }
    }

    /// Says so in a reply.
    pub(super) fn on(&self, mut reply: Reply) -> Reply {
        let origin = match self {
            Self::Own => return reply,
            Self::Listed(origin) => origin.clone(),
            Self::Any => HeaderValue::from_static(ANY),
        };
        let mut push = |name, value| reply.headers.push((name, value));
        push(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if matches!(self, Self::Listed(_)) {
            let yes = HeaderValue::from_static("true");
            push(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        push(header::VARY, HeaderValue::from_static("origin"));
        reply
    }

    /// Says so in a reply that may come later.
    pub(super) fn on_answer(self, answer: Answer) -> Answer {
        match (self, answer) {
            (Self::Own, answer) => answer,
            (allowed, Answer::Ready(reply)) => Answer::Ready(allowed.on(reply)),
            (allowed, Answer::Later(reply)) => {
                Answer::Later(Box::pin(async move { allowed.on(reply.await) }))
            }
        }
    }

    /// The answer to a browser that asks whether a page may ask; `None` where that is not what it asks.
    pub(super) fn preflight(&self, head: &Head<'_>) -> Option<Reply> {
        if head.method != "OPTIONS" || head.header("access-control-request-method").is_none() {
            return None;
        }
        let mut reply = self.on(Reply::empty(StatusCode::NO_CONTENT));
        let mut push = |name: HeaderName, value| reply.headers.push((name, value));
        push(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(METHODS),
        );
        push(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static(PREFLIGHT_AGE_S),
        );
        // Whatever the page of an origin that is trusted wants to say.
        for names in head.header_lines("access-control-request-headers") {
            if let Ok(names) = HeaderValue::from_bytes(names) {
                push(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
            }
        }
        push(
            header::VARY,
            HeaderValue::from_static(
                "access-control-request-method, access-control-request-headers",
            ),
        );
        Some(reply)
    }
}

/// Text of the refusal for a page of a foreign origin.
pub(super) fn refused(head: &Head<'_>) -> Reply {
    tracing::debug!(
        request = head.request_id,
        origin = head.header_str("origin"),
        "a page of this origin may not connect; list it in `origins` of [live]"
    );
    reply::status(StatusCode::FORBIDDEN, head.request_id)
        .with(header::VARY, HeaderValue::from_static("origin"))
}

/// The origin of a request, by the rules of that build.
pub(super) fn of_request(request: &Request<'_>, build: &LoadedBuild) -> Result<Allowed, Foreign> {
    let live = build.manifest.live.as_ref();
    let origins = live.map_or(&[][..], |live| &live.origins);
    Allowed::of(origins, request.head, request.from_our_node)
}

/// Whether an origin is the host that the client asked, however many proxies of ours lie between. Its scheme is not
/// compared: a balancer that ends TLS need not say so.
fn is_own(origin: &str, head: &Head<'_>, from_our_node: bool) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return false,
    };
    let host = normal::authority(host, scheme);
    let is_told = from_our_node || head.forwarder.is_some();
    let told = is_told
        .then(|| head.header_str("x-forwarded-host"))
        .flatten();
    let told = told.and_then(|hosts| hosts.split(',').next());
    let mut asked = [Some(head.authority), told.map(str::trim)].into_iter();
    asked.any(|asked| asked.is_some_and(|asked| normal::authority(asked, scheme) == host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_http::HeaderField;
    use std::net::Ipv4Addr;

    fn of(
        origins: &[&str],
        authority: &str,
        headers: &[(&str, &str)],
        from_our_node: bool,
    ) -> Result<Allowed, Foreign> {
        let fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| HeaderField {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let head = Head {
            method: "GET",
            path: "/",
            authority,
            scheme: Scheme::Http,
            version: 11,
            headers: &fields,
            client: Ipv4Addr::LOCALHOST.into(),
            client_port: 0,
            forwarder: None,
            notes: None,
            request_id: "",
            hop: Default::default(),
        };
        let origins: Vec<_> = origins.iter().map(|&one| one.to_owned()).collect();
        Allowed::of(&origins, &head, from_our_node)
    }

    #[test]
    fn a_page_of_this_host_is_no_foreign_one_however_it_came() {
        for (origin, authority) in [
            ("http://example.test", "example.test"),
            ("https://example.test", "Example.Test:443"),
            ("http://example.test", "example.test:80"),
            ("http://example.test:8080", "example.test:8080"),
            ("http://[2001:db8::1]:8080", "[2001:db8::1]:8080"),
            ("https://example.test.", "example.test"),
        ] {
            let found = of(&[], authority, &[("origin", origin)], false);
            assert_eq!(found, Ok(Allowed::Own), "{origin} {authority}");
        }
        for origin in [
            "http://other.test",
            "http://example.test:8080",
            "http://example.test.evil.test",
            "null",
            "",
            "file://example.test",
        ] {
            let found = of(&[], "example.test", &[("origin", origin)], false);
            assert_eq!(found, Err(Foreign), "{origin}");
        }
        assert_eq!(of(&[], "example.test", &[], false), Ok(Allowed::Own));
    }

    #[test]
    fn the_host_that_a_proxy_was_asked_for_counts_where_it_is_ours() {
        let headers = [
            ("origin", "http://example.test"),
            ("x-forwarded-host", "example.test"),
        ];
        assert_eq!(of(&[], "live.internal", &headers, true), Ok(Allowed::Own));
        assert_eq!(of(&[], "live.internal", &headers, false), Err(Foreign));
    }

    #[test]
    fn two_origins_are_none_that_may_connect() {
        let (own, other) = ("http://example.test", "http://evil.test");
        for (first, second) in [(own, other), (other, own), (own, own)] {
            let headers = [("origin", first), ("Origin", second)];
            let found = of(&[own, "*"], "example.test", &headers, false);
            assert_eq!(found, Err(Foreign), "{first} {second}");
        }
    }

    #[test]
    fn cors_names_a_listed_origin_and_others_only_by_wildcard() {
        let origin = [("origin", "https://app.test")];
        let listed = Allowed::Listed(HeaderValue::from_static("https://app.test"));
        let listed_alone = of(&["https://app.test"], "example.test", &origin, false);
        assert_eq!(listed_alone, Ok(listed.clone()));
        let beside = of(&["*", "https://app.test"], "example.test", &origin, false);
        assert_eq!(beside, Ok(listed));
        let any = of(&["*"], "example.test", &origin, false);
        assert_eq!(any, Ok(Allowed::Any));
        let other = of(&["https://other.test"], "example.test", &origin, false);
        assert_eq!(other, Err(Foreign));
    }
}
