//! The opening handshake (RFC 6455, section 4.2) and what is agreed on of RFC 7692.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header};

/// GUID that is hashed with the key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of the nonce that is the key.
const KEY_BYTES: usize = 16;

/// Why a handshake is refused; each is a 400, and the version a 426 with `Sec-WebSocket-Version: 13`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The version is not 13.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// There is no key, or two of them, or one that is not sixteen bytes in base64.
    #[error("Sec-WebSocket-Key must be one nonce of 16 bytes in base64")]
    Key,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// Whether messages may be deflated.
    pub may_deflate: bool,
    /// Protocols that the client offers, in its order.
    pub protocols: Vec<String>,
}

/// Value of `Sec-WebSocket-Extensions` where messages may be deflated.
pub const DEFLATE_EXTENSION: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

impl Handshake {
    /// Reads what a client asks for. `Upgrade` and `Connection`, or `:protocol`, have been looked at.
    ///
    /// # Errors
    /// The client asks for something that is no handshake, see [`HandshakeError`].
    pub fn read(headers: &HeaderMap) -> Result<Self, HandshakeError> {
        check_version(headers)?;
        let key = single(headers, &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
        if STANDARD.decode(key).map_err(|_| HandshakeError::Key)?.len() != KEY_BYTES {
            return Err(HandshakeError::Key);
        }
        Ok(Self {
            accept: accept(key.as_bytes()),
            ..Self::agreed(headers)
        })
    }

    /// Reads the head of an extended CONNECT (RFC 8441), where no key is exchanged.
    ///
    /// # Errors
    /// The version is not 13.
    pub fn read_extended(headers: &HeaderMap) -> Result<Self, HandshakeError> {
        check_version(headers)?;
        Ok(Self::agreed(headers))
    }

    fn agreed(headers: &HeaderMap) -> Self {
        let extensions = listed(headers, &header::SEC_WEBSOCKET_EXTENSIONS);
        let protocols = listed(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        Self {
            accept: String::new(),
            may_deflate: extensions.into_iter().any(is_deflate),
            protocols: protocols.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// Value of `Sec-WebSocket-Accept` for a key.
pub fn accept(key: &[u8]) -> String {
    let mut sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(key);
    sha1.update(GUID);
    STANDARD.encode(sha1.finish())
}

fn check_version(headers: &HeaderMap) -> Result<(), HandshakeError> {
    match single(headers, &header::SEC_WEBSOCKET_VERSION) {
        Some("13") => Ok(()),
        _ => Err(HandshakeError::Version),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(',')).map(str::trim);
    items.filter(|item| !item.is_empty()).collect()
}

/// Whether an offer can be taken as it is. A smaller window of ours cannot: the client then offers something else, or
/// nothing is deflated. A smaller one of its own costs us nothing.
fn is_deflate(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return false;
    }
    let mut seen = Vec::new();
    parts.all(|part| {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        let is_new = !seen.contains(&name);
        seen.push(name);
        let window =
            value.is_none_or(|bits| matches!(bits.parse(), Ok(8..=15)) && !bits.starts_with('0'));
        is_new
            && match name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                "client_max_window_bits" => window,
                "server_max_window_bits" => value == Some("15"),
                _ => false,
            }
    })
}
