//! Edge handlers: the head of a request comes in, a decision goes out, the host moves the bytes.
//!
//! ```ignore
//! use protoplex_sdk::edge::*;
//! protoplex_sdk::edge!(decide);
//! fn decide(request: Request) -> Decision {
//!     Decision::text(format!("hello from {}", request.path()))
//! }
//! ```
//!
//! An instance may serve many requests one after another, so nothing in a `static` belongs to one visitor.

mod decision;
pub mod log;
mod request;

pub use decision::Decision;
pub use request::{Method, Request};

/// The generated bindings of `protoplex:edge/edge`, for what the rest of this module does not cover.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "edge",
        path: "../../wit/edge.wit",
        pub_export_macro: true,
        export_macro_name: "export_edge",
        default_bindings_module: "protoplex_sdk::edge::bindings",
    });
}

/// Settings of the build, as far as the handler's grants name them.
pub mod settings {
    /// The setting's value.
    pub fn get(name: &str) -> Option<String> {
        super::bindings::protoplex::edge::settings::get(name)
    }
}

/// Two clocks. Neither can be waited on.
pub mod clock {
    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms() -> u64 {
        super::bindings::protoplex::edge::clock::now_ms()
    }

    /// Nanoseconds of a clock that never goes back.
    pub fn monotonic_ns() -> u64 {
        super::bindings::protoplex::edge::clock::monotonic_ns()
    }
}

/// Random numbers, fit for keys.
pub mod random {
    /// 64 random bits.
    pub fn u64() -> u64 {
        super::bindings::protoplex::edge::random::u64()
    }

    /// At most 4096 random bytes.
    pub fn bytes(length: u32) -> Vec<u8> {
        super::bindings::protoplex::edge::random::bytes(length)
    }
}

/// Makes a function `fn(Request) -> Decision` the handler of this component.
#[macro_export]
macro_rules! edge {
    ($decide:path) => {
        const _: () = {
            struct Handler;
            impl $crate::edge::bindings::Guest for Handler {
                fn decide(
                    head: $crate::edge::bindings::RequestHead,
                ) -> $crate::edge::bindings::Decision {
                    let decide: fn($crate::edge::Request) -> $crate::edge::Decision = $decide;
                    $crate::edge::run(head, decide)
                }
            }
    $crate::edge::bindings::export_edge!(Handler with_types_in $crate::edge::bindings);
        };
    };
}

/// What [`edge!`](crate::edge!) calls for every request.
#[doc(hidden)]
pub fn run(head: bindings::RequestHead, decide: fn(Request) -> Decision) -> bindings::Decision {
    static HOOK: std::sync::Once = std::sync::Once::new();
    // A panic becomes a trap, which carries no text; so the text goes to the log first.
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    });
    decide(Request::new(head)).into_raw()
}
