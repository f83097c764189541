//! The meta ports, as an operator's monitoring reads them.

use crate::{Fleet, Node};
use anyhow::{Context, bail};
use protoplex_fleet::FleetIdentity;
use protoplex_seed_client::SeedClient;
use serde_json::Value;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Larger than any answer of a meta port.
const BYTES_MAX: u64 = 16 << 20;
/// Whatever is waited for has happened by then, or never will.
const WAIT_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// A node that drains has children that serve and say nothing more.
const PARTS_WAIT_MAX: Duration = Duration::from_secs(10);

impl Fleet {
    /// A client with the operator's certificate.
    ///
    /// # Errors
    /// `up` named no certificate, or it cannot be read.
    pub fn client(&self) -> anyhow::Result<SeedClient> {
        let text = |key: &str| {
            self.info[key]
                .as_str()
                .with_context(|| format!("`{key}` is a string"))
        };
        let path = |key: &str| text(key).map(PathBuf::from);
        let identity = FleetIdentity {
            ca: path("ca")?,
            certificate: path("cert")?,
            key: path("key")?,
        };
        Ok(SeedClient::new(text("seed")?, &identity)?)
    }

    /// GET on the meta port of the first node of a role.
    ///
    /// # Errors
    /// No answer, or one that is not 200.
    pub async fn meta(&self, role: &str, path: &str) -> anyhow::Result<String> {
        self.meta_of(&self.node(role), path).await
    }

    /// GET on the meta port of one of several nodes of a role.
    ///
    /// # Errors
    /// No answer, or one that is not 200.
    pub async fn meta_of(&self, node: &Node, path: &str) -> anyhow::Result<String> {
        let answer = self
            .client()?
            .node(&node.name)?
            .get(&format!("{}{path}", node.meta))
            .await?;
        if answer.status() != 200 {
            bail!("{path}: {}", answer.status());
        }
        Ok(String::from_utf8(
            answer.collect(BYTES_MAX).await?.to_vec(),
        )?)
    }

    /// The metrics of a node. A child that is late is left out of an answer; then it is asked again.
    ///
    /// # Errors
    /// No answer.
    pub async fn metrics_of(&self, node: &Node) -> anyhow::Result<String> {
        let deadline = Instant::now() + PARTS_WAIT_MAX;
        loop {
            let text = self.meta_of(node, "/metrics").await?;
            if has_all_parts(&text) || Instant::now() > deadline {
                return Ok(text);
            }
        }
    }

    /// The sum of a metric's samples, of the first node of a role.
    ///
    /// # Errors
    /// No answer, or no such metric.
    pub async fn metric(&self, role: &str, name: &str) -> anyhow::Result<f64> {
        self.metric_of(&self.node(role), name, "").await
    }

    /// The sum of a metric's samples of one node; with a label such as `cause="idle"`, of those that have it.
    ///
    /// # Errors
    /// No answer, or no such metric.
    pub async fn metric_of(&self, node: &Node, name: &str, label: &str) -> anyhow::Result<f64> {
        let text = self.metrics_of(node).await?;
        let is_sample = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        };
        let values = text.lines().filter(is_sample).map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value
                .parse::<f64>()
                .with_context(|| format!("no number: {line}"))
        });
        let values = values.collect::<anyhow::Result<Vec<_>>>()?;
        if values.is_empty() {
            bail!("there is no metric {name} {label}:\n{text}");
        }
        Ok(values.iter().sum())
    }

    /// Clients that a node refused or cut for a cause.
    ///
    /// # Errors
    /// No answer, or no such cause.
    pub async fn refused(&self, node: &Node, cause: &str) -> anyhow::Result<f64> {
        let label = format!("cause=\"{cause}\"");
        self.metric_of(node, "protoplex_refused_total", &label)
            .await
    }

    /// Waits until a metric of the first node of a role is as it should be.
    ///
    /// # Panics
    /// When it never is.
    pub async fn wait_for_metric(&self, role: &str, name: &str, right: impl Fn(f64) -> bool) {
        self.wait_for_metric_of(&self.node(role), name, right).await;
    }

    /// Waits until some process of the fleet has logged a text. Lines are written beside requests, and may come after a response.
    ///
    /// # Panics
    /// When it is never logged.
    pub async fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.logs().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not logged");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The line of a request, by its id, in the access log of the first node of a role. Lines are written beside
    /// requests, and may come after a response.
    ///
    /// # Panics
    /// When it is never written.
    pub async fn access_line(&self, role: &str, id: &str) -> Value {
        let name = format!("logs/{}.access.log", self.node(role).name);
        let log = self.data().join(name);
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines = text.lines().map(serde_json::from_str::<Value>);
            let mut same = lines.flatten().filter(|line| line["request"] == id);
            if let Some(line) = same.next() {
                return line;
            }
            let log = log.display();
            assert!(Instant::now() < deadline, "{log} has no line of {id}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the first node of a role has refused or cut one client for a cause.
    ///
    /// # Panics
    /// When it never has.
    pub async fn wait_for_refusal(&self, role: &str, cause: &str) {
        let (node, deadline) = (self.node(role), Instant::now() + WAIT_MAX);
        while self.refused(&node, cause).await.ok() != Some(1.0) {
            assert!(Instant::now() < deadline, "{cause} is not counted");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a metric of one of several nodes of a role is as it should be.
    ///
    /// # Panics
    /// When it never is.
    pub async fn wait_for_metric_of(&self, node: &Node, name: &str, right: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let value = self.metric_of(node, name, "").await;
            let value = value.expect("the meta port answers");
            if right(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} stays at {value}");
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Whether each child that serves has said something: it has one sample of this, whatever it does.
fn has_all_parts(text: &str) -> bool {
    let lines = || text.lines();
    let parts = lines().filter(|line| line.starts_with("protoplex_in_flight{"));
    let serving = lines().find_map(|line| line.strip_prefix("protoplex_children_serving "));
    let serving = serving.and_then(|serving| serving.parse().ok());
    serving.is_some_and(|serving| parts.count() >= serving)
}
