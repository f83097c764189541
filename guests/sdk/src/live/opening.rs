//! Opening of a connection: a client that has come.

use super::{
    Again, Transport,
    bindings::{self, protoplex::host::request},
};

/// A client that has come, and what is known of it. Everything else of its request is asked of the host when called
/// for.
#[derive(Debug)]
pub struct Opening(bindings::Opening);

impl Opening {
    #[doc(hidden)]
    pub fn new(opening: bindings::Opening) -> Self {
        crate::host::log::panics();
        Self(opening)
    }

    /// Transport by which the client is connected.
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// Returns why the connection is opened again although it never closed; `None` when the client came.
    pub fn again(&self) -> Option<Again> {
        self.0.again
    }

    /// Path of the request, without the query: `/a/b`.
    pub fn path(&self) -> &str {
        self.0.path.split('?').next().unwrap_or_default()
    }

    /// Returns a value of the query, with `%` and `+` decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.0.path.split_once('?')?;
        let mut pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(key, _)| decoded(key) == name)?;
        Some(decoded(value))
    }

    /// Returns the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        request::header(name)
    }

    /// Address of the client, without its port.
    pub fn client_address(&self) -> String {
        request::client_address()
    }
}

/// Why a client is turned away.
#[derive(Clone, Debug)]
pub struct Refusal {
    status: u16,
    reason: String,
}

impl Refusal {
    /// Makes a refusal with a status from 400 to 599.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { status, reason }
    }

    #[doc(hidden)]
    pub fn into_raw(self) -> bindings::Refusal {
        bindings::Refusal {
            status: self.status,
            reason: self.reason,
        }
    }
}

/// Decodes a text as browsers write forms; what is no UTF-8 reads as U+FFFD.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [a, b, tail @ ..]) => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).ok();
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = tail;
                    }
                    None => bytes.push(b'%'),
                }
            }
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
