//! Mutual TLS between members of a fleet, for connections that are no HTTP.

use crate::{client, server};
use anyhow::Result;
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use std::{path::Path, sync::Arc};

/// Of the side that is called: a caller must have a certificate of the same authority.
///
/// # Errors
/// A file cannot be used.
pub fn server_config(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    server::mutual_tls(ca, cert, key)
}

/// Of the side that calls.
///
/// # Errors
/// A file cannot be used.
pub fn client_config(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ClientConfig>> {
    Ok(Arc::new(client::mutual_tls(ca, cert, key)?))
}

/// The node whose certificate that is, by its URI name.
pub fn node_name(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    server::node_name(certificates?.first()?)
}
