//! Responses that a handler writes itself, by `respond` and `redirect`, and the header fields that it may set.

use super::refused::refused;
use crate::build::LoadedHandler;
use http::{HeaderName, HeaderValue, StatusCode};
use protoplex_handler::{
    HandlerError,
    decision::{Redirect, Response},
};
use protoplex_http::{Reply, check_response_head, field};

/// The reply of a `respond` decision: what the handler wrote, within its limits.
pub(super) fn response(handler: &LoadedHandler, response: Response) -> Result<Reply, HandlerError> {
    let bytes = response.body.len() as u64;
    if bytes > handler.response_bytes_max {
        return Err(HandlerError::ResponseTooLarge {
            bytes,
            max: handler.response_bytes_max,
        });
    }
    let mut reply = Reply::empty(checked_status(response.status)?);
    for field in response.headers.iter() {
        // The connection has to find the protocol that a 426 asks for.
        if reply.status == StatusCode::UPGRADE_REQUIRED {
            reply.headers.push(own_header(&field.name, &field.value)?);
        } else {
            check_own_header(&field.name, &field.value)?;
            reply
                .lines
                .push_lower_case(&field.name, trimmed(&field.value).as_bytes());
        }
    }
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    Ok(reply.with_body(response.body))
}

/// The reply of a `redirect` decision.
pub(super) fn redirect(redirect: &Redirect) -> Result<Reply, HandlerError> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return refused(format!(
            "{} is no redirect; use 301, 302, 303, 307 or 308",
            redirect.status
        ));
    }
    let (name, value) = checked_header("location", &redirect.location)?;
    let reply = Reply::empty(checked_status(redirect.status)?).with(name, value);
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    Ok(reply)
}

/// A final status: an interim one is not a response.
pub(super) fn checked_status(status: u16) -> Result<StatusCode, HandlerError> {
    match StatusCode::from_u16(status) {
        Ok(code) if (200..600).contains(&status) => Ok(code),
        _ => refused(format!("{status} is no final status")),
    }
}

/// A header's value without white space at its ends, which is no part of it (RFC 9110, section 5.5).
pub(super) fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

pub(super) fn checked_header(
    name: &str,
    value: &str,
) -> Result<(HeaderName, HeaderValue), HandlerError> {
    match (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(trimmed(value)),
    ) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => refused(format!(
            "`{name}` is no header name, or its value has control characters"
        )),
    }
}

/// Checks a header that a handler sets, to be written as text: nothing is built of it.
pub(super) fn check_own_header(name: &str, value: &str) -> Result<(), HandlerError> {
    let is_name = !name.is_empty() && name.bytes().all(field::is_token_byte);
    let is_value = trimmed(value)
        .bytes()
        .all(|byte| matches!(byte, b'\t' | 32..=126));
    if is_name && is_value && !field::is_of_the_host(name) {
        return Ok(());
    }
    // Says why.
    own_header(name, value).map(drop)
}

/// A header that a handler may set: framing and what concerns one connection is the host's.
pub(super) fn own_header(
    name: &str,
    value: &str,
) -> Result<(HeaderName, HeaderValue), HandlerError> {
    if field::is_of_the_host(name) {
        return refused(format!(
            "header `{name}` is the host's to set; leave it out"
        ));
    }
    checked_header(name, value)
}
