//! The client's half of mutual TLS. Whoever answers must have a certificate of the fleet's authority for the host that
//! was called, and be who is meant: the authority signs for every member, and each of them can serve.

use super::{MemberFiles, TlsSetupError};
use crate::identity::{Expected, Identity};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::sync::Arc;

/// Verifies chain and host of a server's certificate as everybody does, and then who it is.
#[derive(Debug)]
struct MemberVerifier {
    chain: Arc<WebPkiServerVerifier>,
    expected: Expected,
}

/// Another member of the fleet answers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UnexpectedMember(String);

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let found = Identity::of(end_entity);
        match self.expected.check(found.as_ref()) {
            Ok(()) => Ok(verified),
            Err(why) => {
                let why = OtherError(Arc::new(UnexpectedMember(why)));
                Err(Error::InvalidCertificate(CertificateError::Other(why)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Makes a configuration of TLS 1.3 with the member's certificate; the server must be `expected`.
pub(super) fn config(
    files: &MemberFiles,
    expected: Expected,
) -> Result<ClientConfig, TlsSetupError> {
    let MemberFiles { ca, cert, key } = files;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = WebPkiServerVerifier::builder_with_provider(ca.roots()?, Arc::clone(&provider))
        .build()
        .map_err(|error| ca.unusable(error))?;
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| cert.unusable(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(MemberVerifier { chain, expected }))
        .with_client_auth_cert(cert.certificates()?, key.private_key()?)
        .map_err(|error| cert.unusable(error))
}
