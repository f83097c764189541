//! Target of a request: the authority and the path, checked byte by byte.

use crate::refusal::{HttpRefusal, bad};
use protoplex_http::target::{is_authority, is_path, is_star};
use std::borrow::Cow;

/// Splits a request line's target into path and authority. `Host` counts where the target names none; an absolute
/// target outranks it (RFC 9112, section 3.2.2).
pub(super) fn split<'a>(
    method: &str,
    target: &'a str,
    host: Option<&'a str>,
) -> Result<(Cow<'a, str>, &'a str), HttpRefusal> {
    if method == "CONNECT" {
        // A CONNECT names a place to go to, and no path.
        let port = target
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        return if is_authority(target) && port.is_some() {
            Ok((Cow::Borrowed("/"), target))
        } else {
            Err(bad("CONNECT names host:port"))
        };
    }
    let (path, authority) = if is_star(method, target) || target.starts_with('/') {
        (Cow::Borrowed(target), host.unwrap_or_default())
    } else {
        let rest = without_scheme(target).ok_or(bad("the target is neither a path nor a URI"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !is_authority(authority) {
            return Err(bad("the target's authority is malformed"));
        }
        // An empty path is `/` (RFC 9110, section 4.2.3).
        let path = match path.starts_with('/') {
            true => Cow::Borrowed(path),
            false => Cow::Owned(format!("/{path}")),
        };
        (path, authority)
    };
    if is_star(method, &path) || is_path(&path) {
        Ok((path, authority))
    } else {
        Err(bad("the target has a character that must be escaped"))
    }
}

fn without_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}
