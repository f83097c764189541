//! A request, as an app handler sees it.

use super::Body;
use wasip3::http::types::{self, Scheme};

pub use wasip3::http::types::Method;

/// A request whose body has not been read.
#[derive(Debug)]
pub struct Request {
    raw: types::Request,
    target: String,
}

impl Request {
    #[doc(hidden)]
    pub fn new(raw: types::Request) -> Self {
        let target = raw.get_path_with_query().unwrap_or_else(|| "/".to_owned());
        Self { raw, target }
    }

    /// Method of the request.
    pub fn method(&self) -> Method {
        self.raw.get_method()
    }

    /// Path of the request, without the query: `/a/b`.
    pub fn path(&self) -> &str {
        self.split().0
    }

    /// Query of the request, which stands behind the `?`, if there is one: `c=d`.
    pub fn query(&self) -> Option<&str> {
        self.split().1
    }

    /// Path and query, the path in normal form (RFC 3986, section 6.2.2).
    pub fn path_and_query(&self) -> &str {
        &self.target
    }

    /// Host and port as the client named them, in lower case and without the scheme's own port.
    pub fn authority(&self) -> String {
        self.raw.get_authority().unwrap_or_default()
    }

    /// Scheme by which the client came: `http` or `https`.
    pub fn scheme(&self) -> String {
        match self.raw.get_scheme() {
            Some(Scheme::Http) | None => "http".to_owned(),
            Some(Scheme::Https) => "https".to_owned(),
            Some(Scheme::Other(scheme)) => scheme,
        }
    }

    /// Returns the first header of that name, in any case. Bytes that are not UTF-8 read as U+FFFD.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.raw.get_headers().get(name);
        values
            .first()
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Takes the body. It is read as fast as the handler takes it, and no faster.
    pub fn into_body(self) -> Body {
        Body::of(self.raw)
    }

    /// Returns the request as the standard's bindings have it.
    pub fn into_raw(self) -> types::Request {
        self.raw
    }

    fn split(&self) -> (&str, Option<&str>) {
        match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.target, None),
        }
    }
}
