//! Mutual TLS, and who is at the other end.

use super::fault::ApiFault;
use anyhow::{Context as _, Result};
use axum::extract::FromRequestParts;
use http::request::Parts;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{path::Path, sync::Arc};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The owner of a client certificate, from its URI name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// `protoplex://node/<name>`
    Node(String),
    /// `protoplex://operator/<name>`
    Operator(String),
    /// A certificate of the fleet that is good for something else.
    Other,
}

/// A request of an operator, by name.
pub(super) struct Operator(pub String);
/// A request of a node, by name.
pub(super) struct Node(pub String);
/// A request of either.
pub(super) struct Member;

impl Peer {
    /// Reads the first URI name of ours.
    pub(super) fn of(certificate: Option<&CertificateDer<'_>>) -> Self {
        let parsed = certificate.and_then(|der| X509Certificate::from_der(der).ok());
        let names = parsed
            .as_ref()
            .and_then(|(_, cert)| cert.subject_alternative_name().ok()?);
        let names = names
            .map(|names| names.value.general_names.as_slice())
            .unwrap_or_default();
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        for uri in uris {
            if let Some(name) = uri.strip_prefix("protoplex://node/") {
                return Self::Node(name.to_owned());
            }
            if let Some(name) = uri.strip_prefix("protoplex://operator/") {
                return Self::Operator(name.to_owned());
            }
        }
        Self::Other
    }
}

fn peer(parts: &Parts) -> Peer {
    parts
        .extensions
        .get::<Peer>()
        .cloned()
        .unwrap_or(Peer::Other)
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFault> {
        match peer(parts) {
            Peer::Operator(name) => Ok(Self(name)),
            _ => Err(ApiFault::forbidden(
                "this is for operators; use an operator's certificate",
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Node {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFault> {
        match peer(parts) {
            Peer::Node(name) => Ok(Self(name)),
            _ => Err(ApiFault::forbidden(
                "this is for nodes; use a node's certificate",
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Member {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFault> {
        match peer(parts) {
            Peer::Node(_) | Peer::Operator(_) => Ok(Self),
            Peer::Other => Err(ApiFault::forbidden(
                "this certificate is neither a node's nor an operator's",
            )),
        }
    }
}

/// The node whose certificate that is.
pub(crate) fn node_name(certificate: &CertificateDer<'_>) -> Option<String> {
    match Peer::of(Some(certificate)) {
        Peer::Node(name) => Some(name),
        _ => None,
    }
}

/// TLS 1.3 with the Seed's certificate; a client must have one of the same authority.
pub(crate) fn server_config(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots
            .add(root)
            .with_context(|| format!("{}", ca.display()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.with_context(|| format!("reading {}", key.display()))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(cert)?, private)
        .with_context(|| format!("{} and its key", cert.display()))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().with_context(|| format!("reading {}", path.display()))
}
