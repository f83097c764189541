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
//! An instance may serve many requests one after another, so nothing in a `static` belongs to one client.

mod decision;
mod request;

pub use crate::host::*;
pub use decision::Decision;
pub use request::{Method, Request};

/// The generated bindings of `protoplex:edge/edge`, for what the rest of this module does not cover.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "edge",
        path: "../../wit/edge",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_edge",
        default_bindings_module: "protoplex_sdk::edge::bindings",
    });
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

/// Runs the handler: what [`edge!`](crate::edge!) calls for every request.
#[doc(hidden)]
pub fn run(head: bindings::RequestHead, decide: fn(Request) -> Decision) -> bindings::Decision {
    log::panics();
    decide(Request::new(head)).into_raw()
}
