//! What became of each request, for an access log. Nothing of it is made where there is none.

use crate::{client::RequestClient, identity};
use http::StatusCode;
use protoplex_http::{AccessFields, AccessNotes, Head, HeaderField, Scheme};
use protoplex_net::{AddressRange, Peer};
use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Takes the records of requests that have ended. Called in the connection's task: it must not wait.
pub trait AccessLog: Send + Sync + 'static {
    /// Takes the record of a request that has ended, one way or the other.
    fn record(&self, access: Access);
}

/// Record of a request that has ended.
#[derive(Clone, Debug)]
pub struct Access {
    /// Time at which the head was there.
    pub at: SystemTime,
    /// Id of the request: 16 hexadecimal digits.
    pub request_id: String,
    /// Address of the client.
    pub client: IpAddr,
    /// Version of HTTP: 10, 11 or 20.
    pub version: u8,
    /// Method of the request.
    pub method: String,
    /// Host and port as the client named them.
    pub host: String,
    /// Path and query of the request.
    pub path: String,
    /// `None` where no reply's head went out: the client went away, or its HTTP/2 stream was reset.
    pub status: Option<u16>,
    /// Bytes of the response; in HTTP/1 with its head.
    pub bytes: u64,
    /// Time from the head to the last byte that was handed to the kernel.
    pub duration: Duration,
    /// Fields that the service filled in.
    pub noted: AccessFields,
    /// Why the request was refused before a service was asked. Method, host and path are then what can be told of them,
    /// and `unknown` where nothing can.
    pub refused: Option<Cow<'static, str>>,
}

/// Stands for the method, the host or the path of a refused request where none was found.
const UNKNOWN: &str = "unknown";

/// Longest path of a refused request in the log; nobody has checked it.
const REFUSED_PATH_BYTES_MAX: usize = 1 << 10;
/// Longest method of a refused request in the log.
const METHOD_BYTES_MAX: usize = 32;

/// What can be told of a request whose head is refused.
pub(crate) struct RefusedRequest<'a> {
    pub(crate) id: &'a [u8; 16],
    pub(crate) client: IpAddr,
    pub(crate) version: u8,
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
}

impl<'a> RefusedRequest<'a> {
    /// Finds what can be told of a request by HTTP/1, of whose head there are these bytes.
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

/// Finds the client of a request by HTTP/1 that is refused, of whose head there are these bytes. A client that a
/// trusted forwarder names is believed of a whole head alone: the forwarder's own line may be the last one, and the
/// client's before it.
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
    RequestClient::of(peer, Scheme::Http, &fields, forwarders).address
}

/// Record of a request on its way; logged on drop.
pub(crate) struct AccessEntry {
    log: Arc<dyn AccessLog>,
    access: Access,
    notes: AccessNotes,
    started: Instant,
}

impl AccessEntry {
    pub(crate) fn new(log: &Arc<dyn AccessLog>, head: &Head<'_>, notes: &AccessNotes) -> Self {
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
            noted: AccessFields::default(),
            refused: None,
        };
        Self {
            log: Arc::clone(log),
            access,
            notes: notes.clone(),
            started: Instant::now(),
        }
    }

    /// Makes the record of a request that is refused with a status, or by a reset.
    pub(crate) fn refused(
        log: &Arc<dyn AccessLog>,
        request: &RefusedRequest<'_>,
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
            noted: AccessFields::default(),
            refused: Some(why.into()),
        };
        Self {
            log: Arc::clone(log),
            access,
            notes: AccessNotes::default(),
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

impl Drop for AccessEntry {
    fn drop(&mut self) {
        let mut access = self.access.clone();
        access.duration = self.started.elapsed();
        access.noted = self.notes.take();
        self.log.record(access);
    }
}
