//! What each request came to, for an access log. Nothing of it is made where there is none.

use crate::{client::Client, identity};
use http::StatusCode;
use protoplex_http::{Head, HeaderField, Noted, Notes, Scheme};
use protoplex_net::{AddressRange, Peer};
use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Takes what requests came to. Called in the connection's task: it must not wait.
pub trait AccessLog: Send + Sync + 'static {
    /// A request has ended, one way or the other.
    fn record(&self, access: Access);
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Access {
    /// When its head was there.
    pub at: SystemTime,
    /// 16 hexadecimal digits.
    pub request_id: String,
    /// Address of the client.
    pub client: IpAddr,
    /// 10, 11 or 20.
    pub version: u8,
    /// The request's own.
    pub method: String,
    /// Host and port as the client named them.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// `None` where no reply's head went out: the client went away, or its HTTP/2 stream was reset.
    pub status: Option<u16>,
    /// Of the reply; in HTTP/1 with its head.
    pub bytes: u64,
    /// Until the reply was handed to the kernel.
    pub duration: Duration,
    /// What the service said.
    pub noted: Noted,
    /// Why it was refused before a service was asked; method, host and path are then what can be told of them, and
    /// `unknown` where nothing can.
    pub refused: Option<Cow<'static, str>>,
}

/// Written in place of the method, the host or the path of a refused request where none was found.
const UNKNOWN: &str = "unknown";

/// Longest path of a refused request in the log; nobody has checked it.
const REFUSED_PATH_BYTES_MAX: usize = 1 << 10;
/// The longest method that has a name.
const METHOD_BYTES_MAX: usize = 32;

/// A request that is refused, as far as it can be told.
pub(crate) struct Refused<'a> {
    pub(crate) id: &'a [u8; 16],
    pub(crate) client: IpAddr,
    pub(crate) version: u8,
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
}

impl<'a> Refused<'a> {
    /// A request by HTTP/1, of which there are these bytes.
    pub(crate) fn http1(id: &'a [u8; 16], client: IpAddr, bytes: &'a [u8]) -> Self {
        let line = bytes.split(|&byte| matches!(byte, b'\r' | b'\n')).next();
        let mut words = line.unwrap_or_default().split(|&byte| byte == b' ');
        let (method, path) = (words.next(), words.next());
        let version = match words.next() {
            Some(b"HTTP/1.0") => 10,
            _ => 11,
        };
        Self {
            id,
            client,
            version,
            method: method.unwrap_or_default(),
            host: b"",
            path: path.unwrap_or_default(),
        }
    }
}

/// Client of a request by HTTP/1 that is refused, of whose head there are these bytes. Whom a trusted forwarder speaks
/// for is believed of a whole head alone: the forwarder's own line may be the last one, and the client's before it.
pub(crate) fn refused_client(peer: &Peer, bytes: &[u8], forwarders: &[AddressRange]) -> IpAddr {
    if !peer.forwards || !bytes.ends_with(b"\r\n\r\n") {
        return peer.address;
    }
    let lines = bytes.split(|&byte| byte == b'\n').skip(1);
    let fields: Vec<_> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some(HeaderField {
                name: std::str::from_utf8(&line[..colon]).ok()?,
                value: line[colon + 1..].trim_ascii(),
            })
        })
        .collect();
    // The scheme is not asked for.
    Client::of(peer, Scheme::Http, &fields, forwarders).address
}

/// A request on its way. It is recorded when this is dropped.
pub(crate) struct Entry {
    log: Arc<dyn AccessLog>,
    access: Access,
    notes: Notes,
    started: Instant,
}

impl Entry {
    pub(crate) fn new(log: &Arc<dyn AccessLog>, head: &Head<'_>, notes: &Notes) -> Self {
        let access = Access {
            at: SystemTime::now(),
            request_id: head.request_id.to_owned(),
            client: head.client,
            version: head.version,
            method: head.method.to_owned(),
            host: head.authority.to_owned(),
            path: head.path.to_owned(),
            status: None,
            bytes: 0,
            duration: Duration::ZERO,
            noted: Noted::default(),
            refused: None,
        };
        Self {
            log: Arc::clone(log),
            access,
            notes: notes.clone(),
            started: Instant::now(),
        }
    }

    /// A request that is refused with that status, or by a reset.
    pub(crate) fn refused(
        log: &Arc<dyn AccessLog>,
        request: &Refused<'_>,
        status: Option<StatusCode>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        let text = |bytes: &[u8], most: usize| match bytes {
            [] => UNKNOWN.to_owned(),
            _ => String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned(),
        };
        let access = Access {
            at: SystemTime::now(),
            request_id: identity::text(request.id).to_owned(),
            client: request.client,
            version: request.version,
            method: text(request.method, METHOD_BYTES_MAX),
            host: text(request.host, REFUSED_PATH_BYTES_MAX),
            path: text(request.path, REFUSED_PATH_BYTES_MAX),
            status: status.map(|status| status.as_u16()),
            bytes: 0,
            duration: Duration::ZERO,
            noted: Noted::default(),
            refused: Some(why.into()),
        };
        Self {
            log: Arc::clone(log),
            access,
            notes: Notes::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn status(&mut self, status: StatusCode) {
        self.access.status = Some(status.as_u16());
    }

    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.access.bytes += bytes;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut access = self.access.clone();
        access.duration = self.started.elapsed();
        access.noted = self.notes.take();
        self.log.record(access);
    }
}
