//! The `asset` decision: a file of the build.

use super::{
    refused::refused,
    respond::{checked_status, own_header},
};
use crate::build::{LoadedBuild, LoadedHandler};
use http::{HeaderName, HeaderValue, StatusCode, header};
use protoplex_handler::{HandlerError, decision::Asset as AssetDecision};
use protoplex_http::{
    Head, Reply,
    asset::{self, ServedAsset},
    check_response_head, normal,
};

/// The reply of an `asset` decision: the file, with the handler's headers.
pub(super) fn reply(
    handler: &LoadedHandler,
    build: &LoadedBuild,
    head: &Head<'_>,
    decision: AssetDecision,
) -> Result<Reply, HandlerError> {
    let Some(asset) = granted(handler, build, &decision.path)? else {
        return Ok(crate::reply::status(StatusCode::NOT_FOUND, head.request_id));
    };
    if let Some(status) = decision.status {
        checked_status(status)?;
    }
    let own = decision.headers.iter();
    let own = own.map(|field| own_header(&field.name, &field.value));
    let own = own.collect::<Result<Vec<_>, _>>()?;
    let mut reply = asset::reply(asset, head, decision.status);
    add_to_asset(&mut reply, own);
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    Ok(reply)
}

/// Adds a handler's headers: they replace the asset's of their names, and none of each other. Members of `Vary` are added
/// to the asset's: a cache that forgot that the coding was chosen by the request would give gzip to anybody.
fn add_to_asset(reply: &mut Reply, own: Vec<(HeaderName, HeaderValue)>) {
    let is_vary = |(name, _): &(HeaderName, HeaderValue)| *name == header::VARY;
    let (vary, own): (Vec<_>, Vec<_>) = own.into_iter().partition(is_vary);
    reply
        .headers
        .retain(|(name, _)| !own.iter().any(|(replaced, _)| replaced == name));
    reply.headers.extend(own);
    if vary.is_empty() {
        return;
    }
    let headers = std::mem::take(&mut reply.headers).into_iter();
    let (before, others): (Vec<_>, _) = headers.partition(is_vary);
    reply.headers = others;
    reply
        .headers
        .push((header::VARY, merged_vary(&before, &vary)));
}

/// Merges lines of `Vary` into one.
fn merged_vary(
    before: &[(HeaderName, HeaderValue)],
    added: &[(HeaderName, HeaderValue)],
) -> HeaderValue {
    let lines = before.iter().chain(added);
    let members = lines.filter_map(|(_, line)| line.to_str().ok());
    let mut all: Vec<&str> = Vec::new();
    for member in members.flat_map(|line| line.split(',')).map(str::trim) {
        if !member.is_empty() && !all.iter().any(|known| known.eq_ignore_ascii_case(member)) {
            all.push(member);
        }
    }
    // Where nobody may use the response for another request, no more is to be said (RFC 9110, section 12.5.5).
    let any = HeaderValue::from_static("*");
    match all.contains(&"*") {
        true => any,
        false => HeaderValue::from_str(&all.join(", ")).unwrap_or(any),
    }
}

/// The file that a path names, as far as it is granted; `None` where the build has none of that name.
pub(super) fn granted<'a>(
    handler: &LoadedHandler,
    build: &'a LoadedBuild,
    path: &str,
) -> Result<Option<&'a ServedAsset>, HandlerError> {
    let is_granted = |path: &str| {
        let mut granted = handler.grants.assets.iter();
        granted.any(|prefix| path.starts_with(prefix.as_str()))
    };
    if !is_granted(path) {
        return refused(format!("asset `{path}` is outside grants.assets"));
    }
    Ok(build.assets.get(path).or_else(|| {
        // A handler that passes on a request's path passes on its escapes.
        let name = normal::unescape(path).filter(|name| is_granted(name))?;
        build.assets.get(&*name)
    }))
}

#[cfg(test)]
mod tests {
    use super::{super::respond::checked_header, *};

    #[test]
    fn handler_headers_replace_those_of_assets_and_merge_vary() {
        let vary = "accept-encoding";
        for (own, expected) in [
            (
                &[("set-cookie", "a=1"), ("set-cookie", "b=2")][..],
                &[
                    ("etag", "\"x\""),
                    ("vary", vary),
                    ("set-cookie", "a=1"),
                    ("set-cookie", "b=2"),
                ][..],
            ),
            (
                &[("etag", "\"y\""), ("vary", "cookie")],
                &[("etag", "\"y\""), ("vary", "accept-encoding, cookie")],
            ),
            (
                &[("vary", "Accept-Encoding"), ("vary", "cookie, origin")],
                &[
                    ("etag", "\"x\""),
                    ("vary", "accept-encoding, cookie, origin"),
                ],
            ),
            (&[("vary", "*")], &[("etag", "\"x\""), ("vary", "*")]),
        ] {
            let mut reply = Reply::empty(StatusCode::NOT_MODIFIED)
                .with(header::ETAG, HeaderValue::from_static("\"x\""))
                .with(header::VARY, HeaderValue::from_static(vary));
            let own = own
                .iter()
                .map(|(name, value)| checked_header(name, value).expect("it is a header"));
            add_to_asset(&mut reply, own.collect());
            let headers = reply.headers.iter();
            let headers: Vec<_> = headers
                .map(|(name, value)| (name.as_str(), value.to_str().expect("it is text")))
                .collect();
            assert_eq!(headers, expected);
        }
    }
}
