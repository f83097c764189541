//! Files of a build, from memory: conditions, a single range and codings, as RFC 9110 says.

use crate::{Head, Reply, ReplyBody};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use std::fmt;

/// Digits of the content's digest in an `ETag`.
const ETAG_DIGITS: usize = 32;

/// An asset with its gzip form, and the headers that can be made beforehand.
#[derive(Clone, Debug)]
pub struct ServedAsset {
    plain: AssetForm,
    gzip: Option<AssetForm>,
    content_type: HeaderValue,
}

#[derive(Clone, Debug)]
struct AssetForm {
    body: Bytes,
    etag: HeaderValue,
}

impl ServedAsset {
    /// Makes an asset of its content. `digest` is the hexadecimal digest of the uncoded content. `None` where an
    /// argument is no header value.
    pub fn new(body: Bytes, gzip: Option<Bytes>, content_type: &str, digest: &str) -> Option<Self> {
        let digits = digest.get(..ETAG_DIGITS).unwrap_or(digest);
        let form = |body, suffix: &str| {
            let etag = HeaderValue::from_str(&format!("\"{digits}{suffix}\"")).ok()?;
            Some(AssetForm { body, etag })
        };
        let gzip = match gzip {
            Some(gzip) => Some(form(gzip, "-gz")?),
            None => None,
        };
        Some(Self {
            plain: form(body, "")?,
            gzip,
            content_type: HeaderValue::from_str(content_type).ok()?,
        })
    }
}

/// Answers a request for an asset. `status` replaces 200 where no condition or range makes another.
pub fn reply(asset: &ServedAsset, head: &Head<'_>, status: Option<u16>) -> Reply {
    if head.method != "GET" && !head.is_head() {
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed\n")
            .with(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    let gzip = (asset.gzip.as_ref()).filter(|_| accepts_gzip(head.header_list("accept-encoding")));
    let form = gzip.unwrap_or(&asset.plain);
    let mut reply = Reply::empty(StatusCode::OK);
    reply.headers.reserve(8);
    let mut add = |name, value: HeaderValue| reply.headers.push((name, value));
    add(header::ETAG, form.etag.clone());
    add(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if asset.gzip.is_some() {
        add(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    // Conditions and ranges are about a 200; an error page is itself (RFC 9110, sections 13.2.1 and 14.2).
    let plain = status.is_none_or(|status| status == 200);
    if plain && let Some(status) = condition(head, &form.etag) {
        reply.status = status;
        return reply;
    }
    let length = form.body.len() as u64;
    let range = if plain && head.method == "GET" {
        range(head, &form.etag, length)
    } else {
        RangeOutcome::Whole
    };
    if let RangeOutcome::Unsatisfiable = range {
        add(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        add(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        reply.status = StatusCode::RANGE_NOT_SATISFIABLE;
        add_content_range(&mut reply, format_args!("bytes */{length}"));
        return reply;
    }
    add(header::CONTENT_TYPE, asset.content_type.clone());
    add(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    add(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if gzip.is_some() {
        add(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    match range {
        RangeOutcome::Part(first, last) => set_part(&mut reply, &form.body, first, last),
        _ if head.is_head() => {
            let bytes = Some(length);
            reply.body = ReplyBody::Absent { bytes };
            reply.status = whole_status(status);
        }
        _ => {
            reply.body = ReplyBody::Full(form.body.clone());
            reply.status = whole_status(status);
        }
    }
    reply
}

/// Status of an asset that is sent whole.
fn whole_status(status: Option<u16>) -> StatusCode {
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.unwrap_or(StatusCode::OK)
}

/// Makes the reply one of a part: the bytes from `first` to `last`, both included.
fn set_part(reply: &mut Reply, body: &Bytes, first: u64, last: u64) {
    let length = body.len();
    reply.status = StatusCode::PARTIAL_CONTENT;
    add_content_range(reply, format_args!("bytes {first}-{last}/{length}"));
    let bounds = (usize::try_from(first).ok()).zip(usize::try_from(last).ok());
    let part = bounds.map(|(first, last)| body.slice(first..=last));
    reply.body = ReplyBody::Full(part.unwrap_or_default());
}

fn add_content_range(reply: &mut Reply, range: fmt::Arguments<'_>) {
    if let Ok(value) = HeaderValue::from_str(&range.to_string()) {
        reply.headers.push((header::CONTENT_RANGE, value));
    }
}

/// Status that the request's conditions make: 412 or 304, in the order of RFC 9110, section 13.2.2.
fn condition(head: &Head<'_>, etag: &HeaderValue) -> Option<StatusCode> {
    let wants_another = head.header("if-match").is_some()
        && !head
            .header_list("if-match")
            .any(|tag| tag == b"*" || tag == etag.as_bytes());
    if wants_another {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let has_this = head.header_list("if-none-match").any(|tag| {
        // A weak tag matches here (RFC 9110, section 8.8.3.2).
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        tag == b"*" || tag == etag.as_bytes()
    });
    has_this.then_some(StatusCode::NOT_MODIFIED)
}

#[derive(Debug, PartialEq, Eq)]
enum RangeOutcome {
    Whole,
    Part(u64, u64),
    Unsatisfiable,
}

/// Reads a single range. Several ranges, or none that can be read, are the whole (RFC 9110, section 14.2).
fn range(head: &Head<'_>, etag: &HeaderValue, length: u64) -> RangeOutcome {
    let mut lines = head.header_lines("range");
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return RangeOutcome::Whole;
    };
    let text = std::str::from_utf8(line).unwrap_or_default();
    let Some(text) = text
        .split_once('=')
        .filter(|(unit, _)| unit.trim_start().eq_ignore_ascii_case("bytes"))
        .map(|(_, ranges)| ranges)
    else {
        return RangeOutcome::Whole;
    };
    if head
        .header("if-range")
        .is_some_and(|tag| tag.trim_ascii() != etag.as_bytes())
    {
        return RangeOutcome::Whole;
    }
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())
            .flatten()
    };
    let Some((first, last)) = text.trim().split_once('-') else {
        return RangeOutcome::Whole;
    };
    match (
        first.is_empty(),
        number(first),
        last.is_empty(),
        number(last),
    ) {
        (true, _, false, Some(0)) => RangeOutcome::Unsatisfiable,
        (true, _, false, Some(_)) if length == 0 => RangeOutcome::Unsatisfiable,
        (true, _, false, Some(count)) => {
            RangeOutcome::Part(length.saturating_sub(count), length - 1)
        }
        (false, Some(first), true, _) if first < length => RangeOutcome::Part(first, length - 1),
        (false, Some(first), false, Some(last)) if first <= last && first < length => {
            RangeOutcome::Part(first, last.min(length - 1))
        }
        (false, Some(first), _, last)
            if first >= length && last.is_none_or(|last| last >= first) =>
        {
            RangeOutcome::Unsatisfiable
        }
        _ => RangeOutcome::Whole,
    }
}

/// Whether gzip is at least as welcome as no coding.
fn accepts_gzip<'a>(list: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for item in list.filter_map(|item| std::str::from_utf8(item).ok()) {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality: f32 = quality
            .map_or(Some(1.0), |q| q.trim().parse().ok())
            .unwrap_or(0.0);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(quality);
        } else if coding == "*" {
            any = Some(quality);
        } else if coding.eq_ignore_ascii_case("identity") {
            identity = Some(quality);
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeaderField, Scheme};

    fn ask(method: &str, headers: &[(&str, &str)]) -> Reply {
        ask_as(None, method, headers)
    }

    fn ask_as(status: Option<u16>, method: &str, headers: &[(&str, &str)]) -> Reply {
        let asset = ServedAsset::new(
            Bytes::from_static(b"0123456789"),
            Some(Bytes::from_static(b"gz")),
            "text/plain",
            &"ab".repeat(32),
        );
        let fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| HeaderField {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let head = Head {
            method,
            path: "/a",
            authority: "h",
            scheme: Scheme::Http,
            version: 11,
            headers: &fields,
            client: [127, 0, 0, 1].into(),
            client_port: 0,
            forwarder: None,
            notes: None,
            request_id: "",
            hop: Default::default(),
        };
        reply(&asset.unwrap(), &head, status)
    }

    fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        reply
            .headers
            .iter()
            .find(|(n, _)| n.as_str() == name)
            .map(|(_, value)| value.to_str().unwrap())
    }

    #[test]
    fn ranges_are_cut_as_the_standard_says() {
        for (range, status, body) in [
            ("bytes=0-0", 206, "0"),
            ("bytes=2-5", 206, "2345"),
            ("bytes=7-", 206, "789"),
            ("bytes=7-99", 206, "789"),
            ("bytes=-3", 206, "789"),
            ("bytes=-99", 206, "0123456789"),
            ("bytes=10-", 416, ""),
            ("bytes=-0", 416, ""),
            ("bytes=5-2", 200, "0123456789"),
            ("bytes=0-1,3-4", 200, "0123456789"),
            ("bytes=a-b", 200, "0123456789"),
            ("lines=0-1", 200, "0123456789"),
            ("Bytes=0-4", 206, "01234"),
            ("BYTES=-3", 206, "789"),
        ] {
            let reply = ask("GET", &[("range", range)]);
            assert_eq!(reply.status.as_u16(), status, "{range}");
            if let ReplyBody::Full(bytes) = &reply.body {
                assert_eq!(bytes, body, "{range}");
            }
        }
        assert_eq!(
            header(&ask("GET", &[("range", "bytes=10-")]), "content-range"),
            Some("bytes */10")
        );
        assert_eq!(
            ask("GET", &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).status,
            200
        );
    }

    #[test]
    fn an_error_page_is_answered_whole_whatever_the_conditions() {
        for (name, value) in [("range", "bytes=0-0"), ("if-none-match", "*")] {
            let reply = ask_as(Some(404), "GET", &[(name, value)]);
            assert_eq!(reply.status, 404, "{name}");
            assert!(matches!(reply.body, ReplyBody::Full(body) if body.len() == 10));
        }
    }

    #[test]
    fn a_list_in_several_lines_is_one_list() {
        let etag = format!("\"{}\"", "ab".repeat(16));
        for (name, first, second, status) in [
            ("if-match", "\"x\"", etag.as_str(), 200),
            ("if-match", "\"x\"", "\"y\"", 412),
            ("if-none-match", "\"x\"", etag.as_str(), 304),
            ("if-none-match", "\"x\"", "\"y\"", 200),
            // Not a list: it is said twice, and holds in neither way.
            ("range", "bytes=0-1", "bytes=2-3", 200),
        ] {
            let reply = ask("GET", &[(name, first), (name, second)]);
            assert_eq!(reply.status.as_u16(), status, "{name}: {first}, {second}");
        }
        for (second, coding) in [("gzip", Some("gzip")), ("gzip;q=0", None)] {
            let lines = [("accept-encoding", "br"), ("Accept-Encoding", second)];
            assert_eq!(header(&ask("GET", &lines), "content-encoding"), coding);
        }
    }

    #[test]
    fn conditions_come_before_ranges() {
        let etag = format!("\"{}\"", "ab".repeat(16));
        let weak = format!("W/{etag}");
        for (name, value, status) in [
            ("if-none-match", etag.as_str(), 304),
            ("if-none-match", weak.as_str(), 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"x\"", 200),
            ("if-match", etag.as_str(), 200),
            ("if-match", weak.as_str(), 412),
            ("if-match", "\"x\"", 412),
        ] {
            assert_eq!(
                ask("GET", &[(name, value)]).status.as_u16(),
                status,
                "{name}: {value}"
            );
        }
        assert_eq!(
            header(&ask("GET", &[("if-none-match", "*")]), "vary"),
            Some("accept-encoding")
        );
    }

    #[test]
    fn gzip_is_sent_to_those_who_prefer_it() {
        for (accept, gzip) in [
            ("gzip", true),
            ("br, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("*;q=0", false),
            ("identity, gzip;q=0.5", false),
            ("br", false),
        ] {
            let reply = ask("GET", &[("accept-encoding", accept)]);
            assert_eq!(
                header(&reply, "content-encoding").is_some(),
                gzip,
                "{accept}"
            );
            assert_eq!(header(&reply, "vary"), Some("accept-encoding"));
        }
    }

    #[test]
    fn head_has_the_length_and_other_methods_are_refused() {
        assert!(matches!(
            ask("HEAD", &[]).body,
            ReplyBody::Absent { bytes: Some(10) }
        ));
        let refused = ask("POST", &[]);
        assert_eq!(
            (refused.status.as_u16(), header(&refused, "allow")),
            (405, Some("GET, HEAD"))
        );
    }
}
