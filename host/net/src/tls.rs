//! TLS of listeners: certificates by the name that a client asks for, replaced while connections go on, and sessions
//! that resume at any child.

use crate::tickets::{TicketSecret, Tickets};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};
use std::{collections::HashMap, fmt, sync::Arc};

/// Sessions that a child remembers for clients of TLS 1.2 that know no tickets; some hundred bytes each.
const SESSIONS_MAX: usize = 4_096;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A text is no PEM of a certificate or a key.
    #[error("the certificate or its key is no PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The certificate and its key do not fit each other.
    #[error("the certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The file has no certificate.
    #[error("the file has no certificate")]
    Empty,
    /// The certificate is not one of a server.
    #[error("the certificate cannot be read: {0}")]
    Names(webpki::Error),
}

/// PEM texts of a certificate with its chain, and of its key.
#[derive(Clone)]
pub struct Pem {
    /// Certificate first, then its chain.
    pub cert: Vec<u8>,
    /// Private key of the certificate.
    pub key: Vec<u8>,
}

/// All certificates of a node, the default one and those chosen by name.
pub struct Certificates {
    table: ArcSwap<CertificateTable>,
    tickets: Arc<Tickets>,
}

struct CertificateTable {
    default: Arc<CertifiedKey>,
    /// Certificates by the exact name, in lower case.
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Certificates of wildcards, by what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Makes the set. `default` is for clients that name no host, or an unknown one.
    ///
    /// # Errors
    /// A text is no PEM, or a key is not its certificate's.
    pub fn new(default: &Pem, by_name: &[Pem]) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            table: ArcSwap::from_pointee(CertificateTable::new(default, by_name)?),
            tickets: Arc::default(),
        }))
    }

    /// Replaces all certificates for new handshakes. Connections that are there keep theirs.
    ///
    /// # Errors
    /// A text is no PEM, or a key is not its certificate's; nothing changes then.
    pub fn replace(&self, default: &Pem, by_name: &[Pem]) -> Result<(), TlsError> {
        self.table
            .store(Arc::new(CertificateTable::new(default, by_name)?));
        Ok(())
    }

    /// Makes sessions resume by tickets under this secret from now on.
    pub fn set_ticket_secret(&self, secret: TicketSecret) {
        self.tickets.set(secret);
    }

    /// Makes the TLS configuration of listeners: TLS 1.2 and 1.3, with the protocols of `alpn`, the preferred one
    /// first. No early data: it could be sent twice.
    ///
    /// # Errors
    /// The provider lacks what both versions need.
    pub fn config(self: &Arc<Self>, alpn: &[&str]) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.ticketer = Arc::clone(&self.tickets) as _;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(config)
    }
}

impl CertificateTable {
    fn new(default: &Pem, by_name: &[Pem]) -> Result<Self, TlsError> {
        let provider = provider();
        let mut table = Self {
            default: Arc::new(certified(default, &provider)?),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        for pem in by_name {
            let key = Arc::new(certified(pem, &provider)?);
            let leaf = key.end_entity_cert()?;
            let leaf = webpki::EndEntityCert::try_from(leaf).map_err(TlsError::Names)?;
            for name in leaf.valid_dns_names() {
                let name = name.to_ascii_lowercase();
                // The first of two certificates for one name is used, in the order of the configuration.
                match name.strip_prefix("*.") {
                    Some(parent) => table.wildcard.entry(parent.to_owned()),
                    None => table.exact.entry(name),
                }
                .or_insert_with(|| Arc::clone(&key));
            }
        }
        Ok(table)
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let parent = || name.split_once('.').map(|(_, parent)| parent);
            let exact = self.exact.get(name);
            exact.or_else(|| self.wildcard.get(parent()?))
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has made the name lower case.
        Some(Arc::clone(self.table.load().find(hello.server_name())))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certified(pem: &Pem, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&pem.cert).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(TlsError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(&pem.key)?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}
