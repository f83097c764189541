//! App handlers: a request with its body comes in, a response goes out, both may stream. Plain `wasi:http` 0.3, so
//! what is written here runs under any host of that standard.
//!
//! ```ignore
//! use protoplex_sdk::app::*;
//! protoplex_sdk::app!(serve);
//! async fn serve(request: Request) -> Response {
//!     Response::text(format!("hello from {}", request.path()))
//! }
//! ```

mod body;
mod request;
mod response;

pub use body::{Body, BodyError, Gone, Sender};
pub use request::{Method, Request};
pub use response::Response;
/// The bindings of WASI 0.3, for what this module does not cover.
pub use wasip3;

/// Settings of the build, as far as the handler's grants name them. They come through `wasi:config`.
pub mod settings {
    #[allow(missing_docs, clippy::all)]
    mod bindings {
        wit_bindgen::generate!({ world: "imports", path: "../../wit/deps/config.wit" });
    }

    /// Reads a setting by name; `None` where the build has none, or the grants do not name it.
    pub fn get(name: &str) -> Option<String> {
        bindings::wasi::config::store::get(name).ok().flatten()
    }
}

/// Waits for a while. Other requests of the instance go on meanwhile.
pub async fn sleep(duration: std::time::Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    wasip3::clocks::monotonic_clock::wait_for(nanoseconds).await;
}

/// Makes a function `async fn(Request) -> Response` the handler of this component.
#[macro_export]
macro_rules! app {
    ($serve:path) => {
        const _: () = {
            use $crate::app::wasip3;
            struct Handler;
            impl wasip3::exports::http::handler::Guest for Handler {
                async fn handle(
                    request: wasip3::http::types::Request,
                ) -> Result<wasip3::http::types::Response, wasip3::http::types::ErrorCode> {
                    let request = $crate::app::Request::new(request);
                    Ok($crate::app::Response::into_raw($serve(request).await))
                }
            }
    wasip3::http::service::export!(Handler with_types_in wasip3);
        };
    };
}
