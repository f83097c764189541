//! What a command says, as JSON: read from clients, and from back ends by the HTTP API.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A command about a channel as a whole.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelArguments<'a> {
    #[serde(borrow)]
    pub(super) channel: Cow<'a, str>,
}

/// A message to publish on a channel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishArguments<'a> {
    #[serde(borrow)]
    pub(super) channel: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
    #[serde(borrow)]
    pub(super) key: Option<Cow<'a, str>>,
}
