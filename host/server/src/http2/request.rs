//! A request of HTTP/2, checked as strictly as one of HTTP/1.1.

use crate::{
    body_rules::BodyRules,
    limits::HeadLimits,
    refusal::{HEAD_TOO_LARGE, HttpRefusal, LINE_TOO_LONG, TOO_MANY_HEADERS, bad},
};
use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, StatusCode, header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use protoplex_http::{
    BUILD_HEADER, BodyError, BodyPace, HeaderField, HeaderLines, Interim, Interims, ORIGIN_HEADER,
    SharedPace,
    target::{is_authority, is_path, is_star},
};
use protoplex_http2::ReceivedBody;
use protoplex_net as net;
use smallvec::SmallVec;
use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

const MALFORMED_FIELD: HttpRefusal = bad("scheme or header is malformed");
const MALFORMED_TARGET: HttpRefusal = bad("authority or path is malformed");

/// Refuses what the server underneath lets pass: an empty scheme, and values with white space at an end, which HTTP/1.1
/// would have taken away on the next hop (RFC 9113, sections 8.2.1 and 8.3.1).
fn is_sound(parts: &Parts) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut values = parts.headers.values().map(http::HeaderValue::as_bytes);
    parts.uri.scheme_str() != Some("")
        && !values.any(|value| is_space(value.first()) || is_space(value.last()))
}

/// Finds the one authority and the path.
///
/// # Errors
/// The authority, the path or a header is malformed.
pub(super) fn target(parts: &Parts) -> Result<(&str, &str), HttpRefusal> {
    if !is_sound(parts) {
        return Err(MALFORMED_FIELD);
    }
    named(parts).ok_or(MALFORMED_TARGET)
}

/// Checks that a head is as small as one by HTTP/1.1 has to be, where each line has a colon, a space and its end
/// besides.
///
/// # Errors
/// The head is too large.
pub(super) fn fits(
    parts: &Parts,
    fields: &[HeaderField<'_>],
    limits: &HeadLimits,
) -> Result<(), HttpRefusal> {
    let target = parts.uri.path_and_query();
    let path = target.map_or("", http::uri::PathAndQuery::as_str);
    let line = parts.method.as_str().len() + " ".len() + path.len() + " HTTP/1.1".len();
    let lines = fields.iter();
    let bytes: usize = lines
        .map(|field| field.name.len() + field.value.len() + ": \r\n".len())
        .sum();
    if line > limits.line_bytes_max {
        return Err(LINE_TOO_LONG);
    }
    if fields.len() > limits.headers_max {
        return Err(TOO_MANY_HEADERS);
    }
    if line + bytes > limits.bytes_max {
        return Err(HEAD_TOO_LARGE);
    }
    Ok(())
}

/// Finds authority and path; `Host` may repeat the authority, not contradict it.
fn named(parts: &Parts) -> Option<(&str, &str)> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().ok()?),
        (None, _) => None,
        _ => return None,
    };
    let named = parts.uri.authority().map(http::uri::Authority::as_str);
    let authority = match (named, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return None,
        (Some(authority), _) => authority,
        (None, host) => host?,
    };
    if is_plain_connect(parts) {
        // A CONNECT names a place to go to, and no path (RFC 9113, section 8.5).
        let place = parts.uri.authority()?;
        let names_port = place.port_u16().is_some() && is_authority(authority);
        return names_port.then_some((authority, "/"));
    }
    let path = parts.uri.path_and_query()?.as_str();
    let sound = is_path(path) || is_star(parts.method.as_str(), path);
    (sound && is_authority(authority)).then_some((authority, path))
}

/// Whether a request is a CONNECT to a place, and not the extended one to a protocol.
pub(super) fn is_plain_connect(parts: &Parts) -> bool {
    parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_none()
}

/// Joins the cookies in one line, as they stood before HTTP/2 cut them in pieces (RFC 9113, section 8.2.3). `None`
/// where they are in one piece. Empty pieces are left out: a separator at an end is white space at an end.
pub(super) fn cookies(parts: &Parts) -> Option<Vec<u8>> {
    let crumbs = parts.headers.get_all(header::COOKIE);
    crumbs.iter().nth(1)?;
    let crumbs = crumbs.iter().map(http::HeaderValue::as_bytes);
    let crumbs: Vec<_> = crumbs.filter(|crumb| !crumb.is_empty()).collect();
    Some(crumbs.join(&b"; "[..]))
}

/// Lists the header lines, with `cookies` for all pieces of them.
pub(super) fn fields<'a>(
    parts: &'a Parts,
    cookies: Option<&'a [u8]>,
) -> SmallVec<[HeaderField<'a>; 32]> {
    let whole = cookies.map(|value| HeaderField {
        name: header::COOKIE.as_str(),
        value,
    });
    let lines = parts.headers.iter();
    lines
        .filter(|(name, _)| cookies.is_none() || *name != header::COOKIE)
        .filter(|(name, _)| ![BUILD_HEADER, ORIGIN_HEADER].contains(&name.as_str()))
        .map(|(name, value)| HeaderField {
            name: name.as_str(),
            value: value.as_bytes(),
        })
        .chain(whole)
        .collect()
}

/// Whether the client waits for `100 Continue` before it sends its body.
pub(super) fn expects_continue(parts: &Parts) -> bool {
    let lines = parts.headers.get_all(header::EXPECT).iter();
    let mut expected = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    expected.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
}

/// Interim response for which a client waits that expects it.
pub(super) fn go_on() -> Interim {
    Interim {
        status: StatusCode::CONTINUE,
        lines: HeaderLines::default(),
    }
}

/// What a stream and the body of its request tell each other.
#[derive(Default)]
pub(super) struct UploadNotes {
    /// Whether the client missed a deadline.
    pub(super) too_slow: AtomicBool,
    /// Pace that the service asks for.
    pub(super) pace: OnceLock<protoplex_http::ClientPace>,
    /// Time since which somebody waits for more of a body of unknown length.
    awaited: Mutex<Option<Instant>>,
}

impl UploadNotes {
    /// Time since which somebody waits for more of a body of unknown length, if anybody does.
    pub(super) fn awaited(&self) -> Option<Instant> {
        *self.awaited.lock()
    }
}

/// A request's body with a deadline on each wait for more of it.
pub(super) struct TimedBody {
    body: ReceivedBody,
    rules: Arc<BodyRules>,
    /// Present for a body of unknown length: one of known length is owed to its end.
    pacing: Option<SharedPace>,
    pace: net::PaceMeter,
    upload: Arc<UploadNotes>,
    /// Whether the client waits for `100 Continue`, and where that goes.
    owed: Option<(Arc<AtomicBool>, Interims)>,
}

impl TimedBody {
    /// Makes a body with deadlines. `upload` tells when the client missed one; `owed` takes the `100 Continue` that it
    /// waits for, as long as it says that it does.
    pub(super) fn new(
        body: ReceivedBody,
        rules: Arc<BodyRules>,
        pacing: Option<SharedPace>,
        upload: Arc<UploadNotes>,
        owed: Option<(Arc<AtomicBool>, Interims)>,
    ) -> Self {
        Self {
            body,
            rules,
            pacing,
            pace: net::PaceMeter::default(),
            upload,
            owed,
        }
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        self.upload.awaited.lock().take();
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let data = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref());
            let bytes = data.map_or(0, Bytes::len);
            self.pace.moved(bytes);
            self.upload.awaited.lock().take();
            let frame =
                frame.map(|frame| frame.map_err(|error| BodyError::Incomplete(error.to_string())));
            return Poll::Ready(frame);
        }
        if let Some((owed, interims)) = self.owed.take()
            && owed.swap(false, Relaxed)
        {
            interims.push(go_on());
        }
        if self.pacing.is_some() {
            let mut awaited = self.upload.awaited.lock();
            awaited.get_or_insert_with(Instant::now);
        }
        let pace = self
            .pacing
            .as_ref()
            .map_or(BodyPace::Owed, SharedPace::pace);
        let said = self.upload.pace.get().copied();
        let Some(rule) = self.rules.now(said, pace) else {
            self.pace.pause();
            return Poll::Pending;
        };
        ready!(self.pace.poll_too_slow(&rule, cx));
        self.upload.too_slow.store(true, Relaxed);
        Poll::Ready(Some(Err(BodyError::TooSlow)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
