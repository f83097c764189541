//! The server's half of mutual TLS.

use super::{MemberFiles, TlsSetupError};
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use std::sync::Arc;

/// Makes a configuration of TLS 1.3 with the member's certificate; a client must have one of the same authority.
pub(super) fn config(files: &MemberFiles) -> Result<ServerConfig, TlsSetupError> {
    let MemberFiles { ca, cert, key } = files;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(ca.roots()?, Arc::clone(&provider))
        .build()
        .map_err(|error| ca.unusable(error))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| cert.unusable(error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(cert.certificates()?, key.private_key()?)
        .map_err(|error| cert.unusable(error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
