//! HTTPS with the fleet's authority as the only root: what a browser does after ALPN.

use crate::{Fleet, Response};
use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, Version, body::Bytes};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};

/// A client that keeps its connections.
#[derive(Clone)]
pub struct Https {
    client: Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
}

impl Https {
    /// For the HTTPS port of the first node of a role, in one version of HTTP.
    ///
    /// # Errors
    /// The authority's certificate cannot be read.
    pub fn new(fleet: &Fleet, role: &str, http2: bool) -> anyhow::Result<Self> {
        Self::to_port(fleet, role, "https", http2)
    }

    /// For another port that speaks TLS, by its key in the line of `up`. No certificate is shown.
    ///
    /// # Errors
    /// The authority's certificate cannot be read.
    pub fn to_port(fleet: &Fleet, role: &str, port: &str, http2: bool) -> anyhow::Result<Self> {
        let ca = fleet.info["ca"].as_str().context("`ca` is a path")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only();
        let connector = if http2 {
            builder.enable_http2().build()
        } else {
            builder.enable_http1().build()
        };
        let nodes = fleet.info["nodes"]
            .as_array()
            .context("`nodes` is a list")?;
        let node = nodes.iter().find(|node| node["role"] == role);
        let base = node
            .and_then(|node| node[port].as_str())
            .context("the role runs")?;
        let client = Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .build(connector);
        let base = base.to_owned();
        Ok(Self { client, base })
    }

    /// One request and its whole answer, with the version that it came in.
    ///
    /// # Errors
    /// No whole answer.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<(Version, Response)> {
        let uri: Uri = format!("{}{path}", self.base).parse()?;
        let request = Request::builder().method(method).uri(uri);
        let answer = self.client.request(request.body(Full::from(body))?).await?;
        let (head, body) = answer.into_parts();
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value)));
        let response = Response {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: body.collect().await?.to_bytes().to_vec(),
        };
        Ok((head.version, response))
    }
}
