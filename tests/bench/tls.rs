//! A load of TLS handshakes: each connection is opened, asked for `/` once, and closed. `bench-tls HOST:PORT full` (or
//! `resumed`) `SECONDS` prints the connections, how many of them were resumed, and the seconds.
//!
//! The client checks no certificate: it is the server that is measured, and what the client saves goes to both.

use anyhow::{Context, bail, ensure};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, Stream,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

/// Connections under way at once.
const THREADS: usize = 4;
/// Nothing of it takes this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[expect(clippy::print_stdout, reason = "the figures are what was asked for")]
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, kind, seconds] = args.as_slice() else {
        bail!("bench-tls HOST:PORT full|resumed SECONDS");
    };
    let resumes = kind == "resumed";
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds.parse()?);
    let threads = (0..THREADS).map(|_| {
        let address = address.clone();
        std::thread::spawn(move || load(&address, resumes, end))
    });
    let (mut connections, mut resumed) = (0, 0);
    for thread in threads.collect::<Vec<_>>() {
        let counts = thread.join();
        let counts = counts.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        connections += counts.0;
        resumed += counts.1;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{connections} {resumed} {seconds}");
    Ok(())
}

/// Connections, and those of them that were resumed.
fn load(address: &str, resumes: bool, end: Instant) -> anyhow::Result<(u64, u64)> {
    let config = Arc::new(config(resumes)?);
    let (mut connections, mut resumed) = (0, 0);
    while Instant::now() < end {
        resumed += u64::from(connection(address, &config)? == HandshakeKind::Resumed);
        connections += 1;
    }
    Ok((connections, resumed))
}

fn connection(address: &str, config: &Arc<ClientConfig>) -> anyhow::Result<HandshakeKind> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(STEP_TIMEOUT))?;
    let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    let mut stream = Stream::new(&mut tls, &mut tcp);
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    // A server may leave out the closing alert; the answer says how long it is.
    let _ = stream.read_to_end(&mut answer);
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    tls.handshake_kind().context("there was a handshake")
}

/// TLS 1.3 with X25519, so that no two servers are asked for different things.
fn config(resumes: bool) -> anyhow::Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked))
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// Takes every certificate.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}
