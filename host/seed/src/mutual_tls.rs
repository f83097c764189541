//! Mutual TLS between members of a fleet, for connections that are no HTTP.

use crate::{
    client,
    identity::{Expected, Identity},
    server,
};
use anyhow::Result;
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use std::{path::Path, sync::Arc};

/// Of the side that is called: a caller must have a certificate of the same authority. Whose it is, is for the caller
/// of this to compare, see [`identity`].
///
/// # Errors
/// A file cannot be used.
pub fn server_config(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    server::mutual_tls(ca, cert, key)
}

/// Of the side that calls: whoever answers must be `expected`.
///
/// # Errors
/// A file cannot be used.
pub fn client_config(
    ca: &Path,
    cert: &Path,
    key: &Path,
    expected: Expected,
) -> Result<Arc<ClientConfig>> {
    Ok(Arc::new(client::mutual_tls(ca, cert, key, expected)?))
}

/// Whose certificate that is.
pub fn identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<Identity> {
    Identity::of(certificates?.first()?)
}
