//! The envelope that stands beside a manifest, and the keys that make and check it.

use crate::{BuildId, Digest};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// A signature over a build's id, beside the manifest and not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Id of the build that is vouched for.
    pub build: BuildId,
    /// Id of the release key, see [`key_id`].
    pub key_id: String,
    /// Ed25519 over `protoplex-build-v1:` and the id's 64 digits, in hexadecimal.
    pub sig: String,
}

/// Why an envelope vouches for nothing.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The key is not among the trusted ones.
    #[error("build {build} is signed by key {key_id}, which is not trusted here")]
    UnknownKey {
        /// Short id of the build.
        build: String,
        /// The id of the key that signed it.
        key_id: String,
    },
    /// The signature does not fit the build and the key.
    #[error("the signature of build {0} is not right")]
    Invalid(String),
    /// The envelope speaks of another build.
    #[error("the envelope is for build {envelope}, the manifest is build {manifest}")]
    OtherBuild {
        /// Id of the build in the envelope.
        envelope: String,
        /// Id of the build that the manifest is.
        manifest: String,
    },
    /// The text of a key cannot be read.
    #[error("a release key is 64 hexadecimal digits")]
    Key,
}

/// The public id of a key: the first 16 digits of the digest of its public half.
pub fn key_id(key: &VerifyingKey) -> String {
    Digest::of(key.as_bytes()).to_string()[..16].to_owned()
}

/// Reads a public key from 64 hexadecimal digits.
///
/// # Errors
/// [`SignatureError::Key`] when it is none.
pub fn verifying_key(text: &str) -> Result<VerifyingKey, SignatureError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| SignatureError::Key)?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| SignatureError::Key)
}

/// Reads a private key from the 64 hexadecimal digits of its seed.
///
/// # Errors
/// [`SignatureError::Key`] when it is none.
pub fn signing_key(text: &str) -> Result<SigningKey, SignatureError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| SignatureError::Key)?;
    Ok(SigningKey::from_bytes(&bytes))
}

fn message(build: &BuildId) -> Vec<u8> {
    format!("protoplex-build-v1:{build}").into_bytes()
}

impl Envelope {
    /// Signs a build.
    pub fn sign(build: BuildId, key: &SigningKey) -> Self {
        let sig = hex::encode(key.sign(&message(&build)).to_bytes());
        Self {
            build,
            key_id: key_id(&key.verifying_key()),
            sig,
        }
    }

    /// Checks that one of `trusted` signed `build`.
    ///
    /// # Errors
    /// Says which of the three parts (build, key, signature) does not fit.
    pub fn verify(&self, build: BuildId, trusted: &[VerifyingKey]) -> Result<(), SignatureError> {
        if self.build != build {
            return Err(SignatureError::OtherBuild {
                envelope: self.build.short(),
                manifest: build.short(),
            });
        }
        let key = trusted.iter().find(|key| key_id(key) == self.key_id);
        let key = key.ok_or_else(|| SignatureError::UnknownKey {
            build: build.short(),
            key_id: self.key_id.clone(),
        })?;
        let mut bytes = [0; 64];
        let invalid = || SignatureError::Invalid(build.short());
        hex::decode_to_slice(&self.sig, &mut bytes).map_err(|_| invalid())?;
        key.verify_strict(&message(&build), &Signature::from_bytes(&bytes))
            .map_err(|_| invalid())
    }
}
