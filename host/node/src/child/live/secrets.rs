//! Who may publish by HTTP, and who may subscribe by a signed token.

use anyhow::Context;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use std::path::Path;

/// Below this a key can be guessed by trying.
const SECRET_BYTES_MIN: usize = 16;

/// As the file has them. Nothing is allowed by what is absent.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    api_token: Option<String>,
    token_key: Option<String>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Secrets {
    api_token: Option<String>,
    token_key: Option<DecodingKey>,
}

/// What a token says (RFC 7519). It is for one user where it names one.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    channel: String,
    sub: Option<String>,
    /// Seconds since 1970.
    pub(super) exp: u64,
}

impl Secrets {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or what stands there protects nothing.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path)
            .with_context(|| format!("the secrets of live channels, {}", path.display()))?;
        let file: File = serde_json::from_slice(&text)
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

    /// What a token allows `user` to do on `channel`.
    ///
    /// # Errors
    /// Why it allows nothing.
    pub(super) fn claims(
        &self,
        token: &str,
        channel: &str,
        user: Option<&str>,
    ) -> Result<Claims, &'static str> {
        let key = self
            .token_key
            .as_ref()
            .ok_or("this node knows no key for tokens")?;
        let mut validation = Validation::new(Algorithm::HS256);
        // The subscription ends in that second.
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation);
        let claims = claims.map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature => EXPIRED,
            _ => "the token is not of this platform: HS256, with `channel` and `exp`",
        })?;
        let claims = claims.claims;
        if claims.channel != channel {
            return Err("the token is for another channel");
        }
        if claims.sub.as_deref().is_some_and(|sub| Some(sub) != user) {
            return Err("the token is for another user");
        }
        Ok(claims)
    }
}

/// What an old token is told.
pub(super) const EXPIRED: &str = "the token has expired";
