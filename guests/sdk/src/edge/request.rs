//! The head of a request, as an edge handler sees it.

use super::bindings::{RequestHead, protoplex::host::request};

pub use super::bindings::protoplex::edge::types::Method;

/// The head of the request being decided. Method and path are at hand; everything else is asked of the host when
/// called for, because each field that crosses into the guest is copied.
#[derive(Debug)]
pub struct Request {
    head: RequestHead,
}

impl Request {
    pub(super) fn new(head: RequestHead) -> Self {
        Self { head }
    }

    /// Method of the request.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// Path of the request, without the query: `/a/b`.
    pub fn path(&self) -> &str {
        self.split().0
    }

    /// Query of the request, which stands behind the `?`, if there is one: `c=d`.
    pub fn query(&self) -> Option<&str> {
        self.split().1
    }

    /// Path and query, the path in normal form (see `request-head` in `wit/edge/types.wit`).
    pub fn path_and_query(&self) -> &str {
        &self.head.path
    }

    /// Returns the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        request::header(name)
    }

    /// Returns all headers, in order.
    pub fn headers(&self) -> Vec<(String, String)> {
        request::headers()
            .into_iter()
            .map(|header| (header.name, header.value))
            .collect()
    }

    /// Host and port as the client named them, in lower case and without the scheme's own port.
    pub fn authority(&self) -> String {
        request::authority()
    }

    /// Scheme by which the client came: `http` or `https`.
    pub fn scheme(&self) -> String {
        request::scheme()
    }

    /// Address of the client, without its port.
    pub fn client_address(&self) -> String {
        request::client_address()
    }

    /// Id of the request, which the response and the log carry.
    pub fn request_id(&self) -> String {
        request::request_id()
    }

    fn split(&self) -> (&str, Option<&str>) {
        match self.head.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.head.path, None),
        }
    }
}
