//! Consistency of a manifest: names that lead somewhere, paths and hosts of the right shape, limits in range.

use super::{FORMAT, FaultKind, Manifest, ManifestError, findings::Findings};

mod assets;
mod environment;
mod handlers;
mod limits;
mod live;
mod probes;
mod routes;
mod upstreams;

pub use assets::ASSET_BYTES_MAX;
pub use handlers::COMPONENT_BYTES_MAX;

impl Manifest {
    /// Checks what serde cannot. `push` calls it on a manifest it has just made.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`] with every fault found.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut faults = Vec::new();
        let mut found = Findings::new(&mut faults);
        if self.format != FORMAT {
            let fault = FaultKind::Format {
                found: self.format,
                known: FORMAT,
            };
            found.add_at("format", fault);
        }
        for (name, handler) in &self.handlers {
            let mut handlers = found.key("handlers");
            handlers::check(&mut handlers.key(name.clone()), name, handler, self);
        }
        routes::check(&mut found.key("routes"), self);
        for (path, asset) in &self.assets {
            assets::check(&mut found.key("assets").key(path.clone()), path, asset);
        }
        for (name, upstream) in &self.upstreams {
            let mut upstreams = found.key("upstreams");
            upstreams::check(&mut upstreams.key(name.clone()), name, upstream);
        }
        if let Some(live) = &self.live {
            live::check(&mut found.key("live"), live);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ManifestError::Inconsistent(faults))
        }
    }
}

/// Whether a text could stand on a request line: no white space, no control characters, nothing but ASCII.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| (0x21..0x7f).contains(&b))
}

/// Returns the faults that `check` finds, as sentences without the subject `section NAME`.
#[cfg(test)]
fn told(section: &'static str, check: impl FnOnce(&mut Findings<'_>)) -> Vec<String> {
    let mut faults = Vec::new();
    check(&mut Findings::new(&mut faults).key(section).key("it"));
    let subject = super::ManifestPath::default().key(section).key("it");
    let subject = subject.subject().to_string();
    let sentences = faults.iter().map(ToString::to_string);
    let bare = sentences.map(|text| match text.strip_prefix(&subject) {
        Some(bare) => bare.to_owned(),
        None => text,
    });
    bare.collect()
}
