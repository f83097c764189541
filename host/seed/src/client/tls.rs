//! The client's half of mutual TLS.

use super::ClientError;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};

pub(crate) fn client_config(
    ca: &Path,
    cert: &Path,
    key: &Path,
) -> Result<ClientConfig, ClientError> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        ClientError::Config(format!("{}: {error}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(ca).map_err(|e| bad(ca, &e))? {
        roots.add(root).map_err(|e| bad(ca, &e))?;
    }
    let chain = certificates(cert).map_err(|e| bad(cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad(cert, &e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|e| bad(cert, &e))
}

fn certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}
