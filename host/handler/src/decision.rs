//! What edge handlers decide, as `wit/edge/types.wit` has it. Written by hand, where other interfaces are generated: texts
//! and lists of a decision are read out of the guest's memory without an allocation each. The compiler of a component's
//! types ([`ComponentType`]) compares every one of them with the guest's.

mod lift;

pub use lift::{Few, Text};
use wasmtime::component::{ComponentType, Lift, Lower};

/// Method of a request.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Method<'a> {
    #[component(name = "get")]
    Get,
    #[component(name = "head")]
    Head,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "connect")]
    Connect,
    #[component(name = "options")]
    Options,
    #[component(name = "trace")]
    Trace,
    #[component(name = "patch")]
    Patch,
    #[component(name = "other")]
    Other(&'a str),
}

/// The part of a request's head that nearly every handler needs.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: Method<'a>,
    pub(crate) path: &'a str,
}

/// A header.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Field {
    /// Name, in any case.
    pub name: Text,
    /// Value.
    pub value: Text,
}

/// A small response, written by the handler.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Headers, in order.
    pub headers: Few<Field>,
    /// Body.
    pub body: Vec<u8>,
}

/// A redirect.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to.
    pub location: Text,
}

/// How long a relay may take, in milliseconds, in place of what the upstream says.
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Timeouts {
    /// Until the head of the response, connecting included.
    #[component(name = "first-byte-ms")]
    pub first_byte_ms: Option<u32>,
    /// Between two reads of a body.
    #[component(name = "idle-ms")]
    pub idle_ms: Option<u32>,
    /// From the request's head to the last byte of the response.
    #[component(name = "total-ms")]
    pub total_ms: Option<u32>,
}

/// When a request that failed is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Retry {
    /// Where it did not reach a server; where it is idempotent, also if no response came.
    #[component(name = "default")]
    Default,
    /// Never, even if it did not reach a server.
    #[component(name = "never")]
    Never,
    /// As if the request were idempotent, whatever its method.
    #[component(name = "always")]
    Always,
}

/// A relay to an upstream.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Relay {
    /// Name of an upstream of the build, `role:NAME`, `live:NAMESPACE`, or an address that the grants name.
    pub upstream: Text,
    /// Key of the relay: requests with the same one go to the same server.
    pub key: Option<Text>,
    /// Path and query to ask for; the request's own when absent.
    pub path: Option<Text>,
    /// Headers to set, each replacing any of its name; the last of a name counts.
    #[component(name = "set-headers")]
    pub set_headers: Few<Field>,
    /// Names of headers to remove, behind what is set.
    #[component(name = "remove-headers")]
    pub remove_headers: Few<Text>,
    /// Timeouts in place of the upstream's.
    pub timeouts: Option<Timeouts>,
    /// When it is sent again.
    pub retry: Retry,
}

/// A file of the build.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub struct Asset {
    /// The asset's path in the build, escaped as in a URL or not.
    pub path: Text,
    /// Status, where the conditions of the request do not make it another; 200 if absent.
    pub status: Option<u16>,
    /// Headers of the response; they replace the asset's own of their names.
    pub headers: Few<Field>,
}

/// Decision of an edge handler on a request.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(variant)]
pub enum Decision {
    /// A small response, written by the handler.
    #[component(name = "respond")]
    Respond(Response),
    /// A redirect.
    #[component(name = "redirect")]
    Redirect(Redirect),
    /// Sends the request to an upstream, and the response back.
    #[component(name = "relay")]
    Relay(Relay),
    /// Responds with a file of this build.
    #[component(name = "asset")]
    Asset(Asset),
    /// Runs an app handler of this build, by name.
    #[component(name = "app")]
    App(Text),
}

impl Decision {
    /// Names of all kinds of decisions, as metrics have them.
    pub const KINDS: [&'static str; 5] = ["respond", "redirect", "relay", "asset", "app"];
    /// Place of `app` among [`Self::KINDS`]: apps also run without a decision, by a route.
    pub const APP: usize = 4;

    /// Place of this decision's kind among [`Self::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Self::Respond(_) => 0,
            Self::Redirect(_) => 1,
            Self::Relay(_) => 2,
            Self::Asset(_) => 3,
            Self::App(_) => Self::APP,
        }
    }
}
