//! TLS to servers: which certificates are believed, which one this node shows, and what is spoken inside.

use http::uri::Authority;
use protoplex_net::Socket;
use protoplex_wire::manifest::{Upstream, UpstreamProtocol};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, sync::Arc};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Certificate of this node, for servers that ask who calls.
pub struct NodeCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why TLS to an upstream cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// A text is no PEM.
    #[error("{0} is no PEM: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    /// A PEM text has no certificate.
    #[error("{0} has no certificate in it")]
    NoCertificate(&'static str),
    /// Certificates that no chain can be built on, or that do not fit the key.
    #[error("{0} cannot be used: {1}")]
    Unusable(&'static str, rustls::Error),
    /// The name can be in no certificate.
    #[error("tls.server_name `{0}` is no name of a server")]
    Name(String),
    /// The upstream wants the node's certificate, and this process was given none.
    #[error("tls.node_certificate is set, and this node has no certificate to present")]
    NoNodeCertificate,
}

impl NodeCertificate {
    /// Reads a PEM chain, leaf first, and its key.
    ///
    /// # Errors
    /// The texts are no PEM of that kind.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, UpstreamTlsError> {
        let chain = certificates("the node's certificate", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| UpstreamTlsError::Pem("the node's key", error))?;
        Ok(Self { chain, key })
    }
}

/// Versions of HTTP that a new connection offers to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionOffer {
    /// All that the upstream's protocol has.
    Any,
    /// HTTP/1.1 alone: for what HTTP/2 has not, such as `Upgrade`.
    Http1Only,
}

/// TLS of connections to one upstream.
pub(super) struct ServerTls {
    connector: TlsConnector,
    /// Connector that offers HTTP/1.1 alone.
    http1: TlsConnector,
    /// Name that the server's certificate must have, in place of the address's host.
    name: Option<ServerName<'static>>,
}

impl ServerTls {
    /// Makes what TLS to an upstream needs; `None` where it speaks plain HTTP.
    pub(super) fn new(
        upstream: &Upstream,
        node: Option<&NodeCertificate>,
    ) -> Result<Option<Self>, UpstreamTlsError> {
        let protocols: &[&[u8]] = match upstream.protocol {
            UpstreamProtocol::Http1 | UpstreamProtocol::H2c => return Ok(None),
            UpstreamProtocol::Https => &[b"h2", b"http/1.1"],
            UpstreamProtocol::HttpsHttp1 => &[b"http/1.1"],
        };
        let written = &upstream.tls;
        let name = written.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| UpstreamTlsError::Name(name.clone()))
        });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unusable = |what| move |error| UpstreamTlsError::Unusable(what, error);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable("TLS"))?
            .with_root_certificates(roots(written.ca_pem.as_deref())?);
        let mut config = if written.node_certificate {
            let node = node.ok_or(UpstreamTlsError::NoNodeCertificate)?;
            config
                .with_client_auth_cert(node.chain.clone(), node.key.clone_key())
                .map_err(unusable("the node's certificate"))?
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Some(Self {
            http1,
            connector: TlsConnector::from(Arc::new(config)),
            name: name.transpose()?,
        }))
    }

    /// Does the handshake. The server is who it should be when this returns.
    pub(super) async fn secure(
        &self,
        authority: &Authority,
        stream: Socket,
        offer: VersionOffer,
    ) -> io::Result<TlsStream<Socket>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host(authority).to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        let connector = match offer {
            VersionOffer::Http1Only => &self.http1,
            VersionOffer::Any => &self.connector,
        };
        connector.connect(name, stream).await
    }
}

/// Host of an address, without the brackets of IPv6.
pub(super) fn host(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn roots(ca_pem: Option<&str>) -> Result<RootCertStore, UpstreamTlsError> {
    let Some(pem) = ca_pem else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", pem.as_bytes())? {
        roots
            .add(certificate)
            .map_err(|error| UpstreamTlsError::Unusable("tls.ca", error))?;
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, UpstreamTlsError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| UpstreamTlsError::Pem(what, error))?;
    if found.is_empty() {
        return Err(UpstreamTlsError::NoCertificate(what));
    }
    Ok(found)
}
