//! Decisions of an edge handler.

use super::bindings::{
    self as raw,
    protoplex::{
        edge::types::{Asset, Redirect, Relay, Response, Retry, Timeouts},
        host::types::Field,
    },
};

/// A decision: what should happen to a request. The constructors name the kinds of decision; the methods after them refine those
/// that they name, and leave the others as they are.
#[derive(Debug)]
pub struct Decision(raw::Decision);

impl Decision {
    /// Decides on a small inline response with that status and content type (none when empty).
    pub fn respond(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = if content_type.is_empty() {
            Vec::new()
        } else {
            vec![header("content-type", content_type)]
        };
        Self(raw::Decision::Respond(Response {
            status,
            headers,
            body: body.into(),
        }))
    }

    /// Decides on an inline response of 200 with plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::respond(200, "text/plain; charset=utf-8", body.into())
    }

    /// Decides on an inline response of 200 with a page.
    pub fn html(body: impl Into<String>) -> Self {
        Self::respond(200, "text/html; charset=utf-8", body.into())
    }

    /// Decides on an inline response of 200 with JSON that the caller has written.
    pub fn json(body: impl Into<String>) -> Self {
        Self::respond(200, "application/json", body.into())
    }

    /// Decides on an inline response of 404 with a line of text.
    pub fn not_found() -> Self {
        Self::respond(404, "text/plain; charset=utf-8", "not found\n")
    }

    /// Decides on a redirect to that place by 302; see [`status`](Self::status) for the other kinds.
    pub fn redirect(location: impl Into<String>) -> Self {
        Self(raw::Decision::Redirect(Redirect {
            status: 302,
            location: location.into(),
        }))
    }

    /// Decides to relay the request to an upstream of the build, or to a built-in one such as `role:app`, and its
    /// response back.
    pub fn relay(upstream: impl Into<String>) -> Self {
        Self(raw::Decision::Relay(Relay {
            upstream: upstream.into(),
            key: None,
            path: None,
            set_headers: Vec::new(),
            remove_headers: Vec::new(),
            timeouts: None,
            retry: Retry::Default,
        }))
    }

    /// Decides to relay the request to the live node that a key of a namespace is placed on.
    pub fn live(namespace: &str, key: impl Into<String>) -> Self {
        Self::relay(format!("live:{namespace}")).key(key)
    }

    /// Decides on a file of this build, from memory.
    pub fn asset(path: impl Into<String>) -> Self {
        Self(raw::Decision::Asset(Asset {
            path: path.into(),
            status: None,
            headers: Vec::new(),
        }))
    }

    /// Decides to run an app handler of this build. On nodes of role app only.
    pub fn app(handler: impl Into<String>) -> Self {
        Self(raw::Decision::App(handler.into()))
    }

    /// Sets the status of an inline response, an asset or a redirect.
    pub fn status(mut self, code: u16) -> Self {
        match &mut self.0 {
            raw::Decision::Respond(response) => response.status = code,
            raw::Decision::Asset(asset) => asset.status = Some(code),
            raw::Decision::Redirect(redirect) => redirect.status = code,
            raw::Decision::Relay(_) | raw::Decision::App(_) => {}
        }
        self
    }

    /// Adds a header: to the response for inline responses, assets and redirects, to the request that is sent on for a
    /// relay (where it replaces any of that name). An app writes its own: there it is left out, and the log says so.
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let header = header(name, value.as_ref());
        match &mut self.0 {
            raw::Decision::Respond(response) => response.headers.push(header),
            raw::Decision::Asset(asset) => asset.headers.push(header),
            raw::Decision::Relay(relay) => relay.set_headers.push(header),
            // A `redirect` has none; an inline answer with the same status and place does what it does.
            raw::Decision::Redirect(redirect) => {
                let location = self::header("location", &redirect.location);
                self.0 = raw::Decision::Respond(Response {
                    status: redirect.status,
                    headers: vec![location, header],
                    body: Vec::new(),
                });
            }
            raw::Decision::App(app) => {
                crate::host::log::warn!(
                    "header `{name}` is left out: app `{app}` writes the answer's"
                );
            }
        }
        self
    }

    /// Takes a header out of a relayed request.
    pub fn without_header(mut self, name: &str) -> Self {
        if let raw::Decision::Relay(relay) = &mut self.0 {
            relay.remove_headers.push(name.to_owned());
        }
        self
    }

    /// Sets the path and query that a relay asks for, instead of the request's own.
    pub fn path(mut self, path_and_query: impl Into<String>) -> Self {
        if let raw::Decision::Relay(relay) = &mut self.0 {
            relay.path = Some(path_and_query.into());
        }
        self
    }

    /// Sets the key that a relay keeps on one server of an upstream that is balanced by key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        if let raw::Decision::Relay(relay) = &mut self.0 {
            relay.key = Some(key.into());
        }
        self
    }

    /// Sets the milliseconds until the head of a relay's response.
    pub fn first_byte_timeout_ms(self, ms: u32) -> Self {
        self.timeouts(|timeouts| timeouts.first_byte_ms = Some(ms))
    }

    /// Sets the milliseconds between two reads of a relay's body.
    pub fn idle_timeout_ms(self, ms: u32) -> Self {
        self.timeouts(|timeouts| timeouts.idle_ms = Some(ms))
    }

    /// Sets the milliseconds for all of a relay.
    pub fn total_timeout_ms(self, ms: u32) -> Self {
        self.timeouts(|timeouts| timeouts.total_ms = Some(ms))
    }

    fn timeouts(mut self, set: impl FnOnce(&mut Timeouts)) -> Self {
        if let raw::Decision::Relay(relay) = &mut self.0 {
            set(relay.timeouts.get_or_insert(Timeouts {
                first_byte_ms: None,
                idle_ms: None,
                total_ms: None,
            }));
        }
        self
    }

    /// Forbids to send a relayed request a second time.
    pub fn without_retry(self) -> Self {
        self.retry(Retry::Never)
    }

    /// Takes a relayed request for idempotent, whatever its method: it may be sent again when no response came.
    pub fn retry_always(self) -> Self {
        self.retry(Retry::Always)
    }

    fn retry(mut self, retry: Retry) -> Self {
        if let raw::Decision::Relay(relay) = &mut self.0 {
            relay.retry = retry;
        }
        self
    }

    pub(super) fn into_raw(self) -> raw::Decision {
        self.0
    }
}

impl From<raw::Decision> for Decision {
    fn from(decision: raw::Decision) -> Self {
        Self(decision)
    }
}

fn header(name: &str, value: &str) -> Field {
    Field {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}
