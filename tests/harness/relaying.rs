//! A fleet of one proxy that relays everything to one server.

use crate::{Fleet, repository};
use anyhow::Context;

impl Fleet {
    /// `more` are further lines of the upstream, in TOML. The handler sets `x-relay: set` on each request.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub fn relaying_to(address: &str, more: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("relay.toml");
        let component = repository().join("builds/out/relay.wasm");
        let manifest = format!(
            r#"
name = "relay"

[handlers.relay]
component = "{}"

[handlers.relay.grants]
relay = ["origin"]

[upstreams.origin]
addresses = ["{address}"]
{more}

[[routes]]
role = "proxy"
path = "/*"
handler = "relay"
"#,
            component.display(),
        );
        std::fs::write(&file, manifest)?;
        let file = file.to_str().context("the folder's name is text")?;
        Self::start_with(file, &["--apps", "0"])
    }
}
