//! What a call may read besides its request: the handler's grants, resolved against its build.

use protoplex_wire::{
    BuildId, Manifest,
    manifest::{Grants, Handler},
};
use std::{collections::HashMap, sync::Arc};

/// A handler as one build has it. It belongs to the build, so a handler that was carried over sees the new one's.
#[derive(Debug)]
pub struct HandlerContext {
    /// The handler's name, for its log lines.
    pub handler: String,
    /// The build.
    pub build: BuildId,
    /// Settings that its grants name.
    pub settings: HashMap<String, Arc<str>>,
    /// Namespaces of channels that its grants name, and the bytes of their largest message.
    pub channels: HashMap<String, u64>,
}

impl HandlerContext {
    /// The context of the handler of that name in a build.
    pub fn new(name: &str, handler: &Handler, build: BuildId, manifest: &Manifest) -> Self {
        Self {
            handler: name.to_owned(),
            build,
            settings: settings(manifest, &handler.grants),
            channels: channels(manifest, &handler.grants),
        }
    }
}

fn settings(manifest: &Manifest, grants: &Grants) -> HashMap<String, Arc<str>> {
    let is_granted = |name: &str| {
        grants
            .settings
            .iter()
            .any(|grant| grant == name || grant == "*")
    };
    manifest
        .settings
        .iter()
        .filter(|(name, _)| is_granted(name))
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect()
}

fn channels(manifest: &Manifest, grants: &Grants) -> HashMap<String, u64> {
    let live = manifest.live.iter();
    let namespaces = live.flat_map(|live| &live.namespaces);
    let granted = namespaces.filter(|(name, _)| grants.channels.contains(name));
    granted
        .map(|(name, namespace)| (name.clone(), namespace.message_bytes_max))
        .collect()
}
