//! Secrets of those who may publish by HTTP, and who may subscribe by a signed token.

use super::error_code::ErrorCode;
use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use protoplex_fleet::SideFile;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// Smallest key: a shorter one can be guessed by trying.
const SECRET_BYTES_MIN: usize = 16;

/// Seconds that the clock of whoever signs tokens may be ahead of ours: what is valid from now on there is so here.
const CLOCK_AHEAD_MAX_S: u64 = 30;

/// The file of secrets. Nothing is allowed by what is absent.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    api_token: Option<String>,
    token_key: Option<String>,
    /// Issuer whose tokens count (`iss`); anybody's who has the key, where nothing is said.
    token_issuer: Option<String>,
    /// The audience (`aud`) that tokens must name; where none is set, any token is taken.
    token_audience: Option<String>,
}

/// The fleet's secrets for tokens of clients and of back ends.
#[derive(Default)]
pub(crate) struct Secrets {
    api_token: Option<String>,
    token_key: Option<DecodingKey>,
    token_issuer: Option<String>,
    token_audience: Option<String>,
}

/// Claims of a token (RFC 7519). It is for one user where it names one. Times are seconds since 1970, and what a token
/// has beyond this is its maker's.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    channel: Option<String>,
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

/// One, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Why a token allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("this node knows no key for tokens")]
    NoKey,
    #[error("this is no token: three parts of base64url, of which the second is JSON")]
    Malformed,
    #[error("the token is signed by another algorithm than HS256")]
    Algorithm,
    #[error("the token's header asks for an extension that is not known here (`crit`, `b64`)")]
    Extension,
    #[error("the signature of the token is wrong: another key made it")]
    Signature,
    #[error("the token has no `channel`")]
    NoChannel,
    #[error("the token has no `exp`")]
    NoEnd,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet (`nbf`)")]
    NotYet,
    #[error("the token is from the future (`iat`): look at the clocks")]
    FromTheFuture,
    #[error("the token is of another issuer (`iss`)")]
    Issuer,
    #[error("the token is for another audience (`aud`)")]
    Audience,
    #[error("the token is for another channel")]
    Channel,
    #[error("the token is for another user (`sub`)")]
    User,
}

impl Refused {
    /// A word for programs.
    pub(super) fn code(self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::Expired,
            _ => ErrorCode::Forbidden,
        }
    }
}

impl Secrets {
    /// Reads what stands in the file.
    ///
    /// # Errors
    /// It is no such JSON, or what stands there protects nothing.
    pub(crate) fn parse(SideFile { path, text }: &SideFile) -> anyhow::Result<Self> {
        let file: File = serde_json::from_str(text)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        for secret in [&file.api_token, &file.token_key].into_iter().flatten() {
            anyhow::ensure!(
                secret.len() >= SECRET_BYTES_MIN,
                "{}: a secret has at least {SECRET_BYTES_MIN} bytes",
                path.display()
            );
        }
        Ok(Self {
            api_token: file.api_token,
            token_key: file
                .token_key
                .map(|key| DecodingKey::from_secret(key.as_bytes())),
            token_issuer: file.token_issuer,
            token_audience: file.token_audience,
        })
    }

    /// Compares in a time that tells nothing of what is right.
    pub(super) fn is_api_token(&self, token: Option<&str>) -> bool {
        match (&self.api_token, token) {
            (Some(known), Some(token)) => aws_lc_rs::constant_time::verify_slices_are_equal(
                known.as_bytes(),
                token.as_bytes(),
            )
            .is_ok(),
            _ => false,
        }
    }

    /// The second of 1970 in which the right ends that a token gives `user` to `channel`.
    ///
    /// # Errors
    /// Why it gives none.
    pub(super) fn right_until(
        &self,
        token: &str,
        channel: &str,
        user: Option<&str>,
    ) -> Result<u64, Refused> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        self.right_at(now, token, channel, user)
    }

    fn right_at(
        &self,
        now: u64,
        token: &str,
        channel: &str,
        user: Option<&str>,
    ) -> Result<u64, Refused> {
        let claims = self.signed(token)?;
        // Whole seconds are all that is needed; fractions of them are allowed (RFC 7519, section 2).
        let seconds = |time: f64| time.clamp(0.0, u64::MAX as f64) as u64;
        let end = seconds(claims.exp.ok_or(Refused::NoEnd)?);
        // The subscription ends in that second.
        if end <= now {
            return Err(Refused::Expired);
        }
        let soon = now.saturating_add(CLOCK_AHEAD_MAX_S);
        if claims.nbf.is_some_and(|from| seconds(from) > soon) {
            return Err(Refused::NotYet);
        }
        if claims.iat.is_some_and(|made| seconds(made) > soon) {
            return Err(Refused::FromTheFuture);
        }
        if self.token_issuer.is_some() && claims.iss != self.token_issuer {
            return Err(Refused::Issuer);
        }
        if let Some(ours) = &self.token_audience {
            let is_ours = match &claims.aud {
                None => false,
                Some(Audience::One(audience)) => audience == ours,
                Some(Audience::Several(audiences)) => audiences.contains(ours),
            };
            if !is_ours {
                return Err(Refused::Audience);
            }
        }
        if claims.channel.ok_or(Refused::NoChannel)? != channel {
            return Err(Refused::Channel);
        }
        match claims.sub {
            Some(sub) if Some(&*sub) != user => Err(Refused::User),
            _ => Ok(end),
        }
    }

    /// Claims of a token, once its signature is right. What of it counts is looked at by the caller, which can tell
    /// why.
    fn signed(&self, token: &str) -> Result<Claims, Refused> {
        let key = self.token_key.as_ref().ok_or(Refused::NoKey)?;
        if has_extension(token) {
            return Err(Refused::Extension);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation);
        let claims = claims.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Refused::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Refused::Algorithm,
            _ => Refused::Malformed,
        })?;
        Ok(claims.claims)
    }
}

/// Whether a token is not what it seems to one who knows no extensions: such are refused (RFC 7515, section 4.1.11), and
/// so is a payload that is not encoded (RFC 7797, section 3). None is known here.
fn has_extension(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|header| serde_json::from_slice::<Map<_, _>>(&header).ok());
    header.is_some_and(|header: Map<String, Value>| {
        let is_encoded = header
            .get("b64")
            .is_none_or(|b64| *b64 == Value::Bool(true));
        header.contains_key("crit") || !is_encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const NOW: u64 = 1_000_000;
    const KEY: &str = "sixteen bytes and more";

    fn signed(claims: &Value) -> String {
        let key = EncodingKey::from_secret(KEY.as_bytes());
        encode(&Header::default(), claims, &key).expect("it is signed")
    }

    fn secrets(issuer: Option<&str>, audience: Option<&str>) -> Secrets {
        Secrets {
            api_token: None,
            token_key: Some(DecodingKey::from_secret(KEY.as_bytes())),
            token_issuer: issuer.map(str::to_owned),
            token_audience: audience.map(str::to_owned),
        }
    }

    #[track_caller]
    fn check(secrets: &Secrets, token: &str, expected: Result<u64, Refused>) {
        let found = secrets.right_at(NOW, token, "room:a", Some("ann"));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_token_is_refused_for_the_reason_that_it_is() {
        let plain = secrets(None, None);
        let with = |more: Value| {
            let mut claims = json!({"channel": "room:a", "exp": NOW + 60});
            let claims_of = claims.as_object_mut().expect("it is an object");
            claims_of.extend(more.as_object().expect("it is an object").clone());
            signed(&claims)
        };
        let end = Ok(NOW + 60);
        for (more, expected) in [
            (json!({}), end),
            (
                json!({"sub": "ann", "jti": "1", "aud": "others", "iss": "others"}),
                end,
            ),
            (json!({"nbf": NOW, "iat": NOW}), end),
            // Clocks differ a little.
            (json!({"nbf": NOW + 30, "iat": NOW + 30}), end),
            (json!({"exp": NOW as f64 + 60.9}), end),
            (json!({"nbf": NOW + 3_600}), Err(Refused::NotYet)),
            (json!({"iat": NOW + 3_600}), Err(Refused::FromTheFuture)),
            (json!({"exp": NOW}), Err(Refused::Expired)),
            (
                json!({"exp": NOW - 1, "channel": "room:b"}),
                Err(Refused::Expired),
            ),
            (json!({"exp": null}), Err(Refused::NoEnd)),
            (json!({"exp": "tomorrow"}), Err(Refused::Malformed)),
            (json!({"channel": null}), Err(Refused::NoChannel)),
            (json!({"channel": "room:b"}), Err(Refused::Channel)),
            (json!({"sub": "bob"}), Err(Refused::User)),
        ] {
            check(&plain, &with(more), expected);
        }
        let strict = secrets(Some("us"), Some("live"));
        for (more, expected) in [
            (json!({"iss": "us", "aud": "live"}), end),
            (json!({"iss": "us", "aud": ["api", "live"]}), end),
            (json!({"iss": "them", "aud": "live"}), Err(Refused::Issuer)),
            (json!({"aud": "live"}), Err(Refused::Issuer)),
            (json!({"iss": "us", "aud": ["api"]}), Err(Refused::Audience)),
            (json!({"iss": "us"}), Err(Refused::Audience)),
        ] {
            check(&strict, &with(more), expected);
        }
    }

    #[test]
    fn a_token_with_an_extension_that_is_not_known_is_refused() {
        let plain = secrets(None, None);
        let claims = json!({"channel": "room:a", "exp": NOW + 60}).to_string();
        let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, KEY.as_bytes());
        for (more, expected) in [
            (json!({}), Ok(NOW + 60)),
            (json!({"kid": "1", "b64": true, "other": {}}), Ok(NOW + 60)),
            (json!({"crit": ["exp"]}), Err(Refused::Extension)),
            (
                json!({"crit": ["b64"], "b64": false}),
                Err(Refused::Extension),
            ),
            (json!({"crit": []}), Err(Refused::Extension)),
            (json!({"crit": null}), Err(Refused::Extension)),
            (json!({"crit": "exp", "b64": 1}), Err(Refused::Extension)),
            (json!({"b64": false}), Err(Refused::Extension)),
            (json!({"b64": null}), Err(Refused::Extension)),
        ] {
            let mut header = json!({"alg": "HS256", "typ": "JWT"});
            let fields = header.as_object_mut().expect("it is an object");
            fields.extend(more.as_object().expect("it is an object").clone());
            let [header, claims] =
                [&header.to_string(), &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            let signed = format!("{header}.{claims}");
            let signature = aws_lc_rs::hmac::sign(&hmac, signed.as_bytes());
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            check(&plain, &token, expected);
        }
    }

    #[test]
    fn a_token_that_nobody_here_signed_says_nothing() {
        let plain = secrets(None, None);
        let claims = json!({"channel": "room:a", "exp": NOW + 60});
        let other = EncodingKey::from_secret(b"another key altogether");
        let foreign = encode(&Header::default(), &claims, &other).expect("it is signed");
        check(&plain, &foreign, Err(Refused::Signature));
        let longer = encode(
            &Header::new(Algorithm::HS512),
            &claims,
            &EncodingKey::from_secret(KEY.as_bytes()),
        );
        check(
            &plain,
            &longer.expect("it is signed"),
            Err(Refused::Algorithm),
        );
        for text in ["", "a.b", "a.b.c", &signed(&claims)[1..]] {
            check(&plain, text, Err(Refused::Malformed));
        }
        check(&Secrets::default(), &signed(&claims), Err(Refused::NoKey));
    }
}
