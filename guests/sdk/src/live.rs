//! Live handlers: told what happens on connections that the host holds, whatever their transport.
//!
//! ```ignore
//! use protoplex_sdk::live::*;
//! protoplex_sdk::live!(Echo);
//! struct Echo;
//! impl Handler for Echo {
//!     fn received(_: Connection, message: Message) {
//!         let _ = send(message);
//!     }
//! }
//! ```
//!
//! A handler that remembers something of each connection is a value for each of them: see [`Stateful`].

mod actions;
mod opening;
#[cfg(feature = "live-stateful")]
#[doc(hidden)]
pub mod stateful;

pub use crate::host::*;
pub use actions::{
    disconnect, publish, publish_once, send, send_text, set_presence, set_user, subscribe,
    subscribe_unseen, unsubscribe,
};
pub use bindings::{
    Ending, Message,
    protoplex::live::types::{Again, Fault, Transport},
};
pub use opening::{Opening, Refusal};

/// The generated bindings of `protoplex:live/live`, for what the rest of this module does not cover.
#[cfg(not(feature = "live-stateful"))]
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "protoplex:live/live",
        path: "../../wit/live",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_live",
        default_bindings_module: "protoplex_sdk::live::bindings",
    });
}

/// The generated bindings of `protoplex:live/live-stateful`, for what the rest of this module does not cover.
#[cfg(feature = "live-stateful")]
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "protoplex:live/live-stateful",
        path: "../../wit/live",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_live",
        default_bindings_module: "protoplex_sdk::live::bindings",
    });
}

/// A connection's number, which is never used again.
pub type Connection = u64;

/// A handler that remembers nothing of a connection. What it does in a call concerns the connection that the call is for.
pub trait Handler {
    /// Called when a client has come; with an error it is turned away.
    ///
    /// # Errors
    /// What the client is told.
    fn opened(connection: Connection, opening: Opening) -> Result<(), Refusal> {
        let _ = (connection, opening);
        Ok(())
    }

    /// Called when the client has sent something.
    fn received(connection: Connection, message: Message) {
        let _ = (connection, message);
    }

    /// Called when the client is gone.
    fn closed(connection: Connection, ending: Ending) {
        let _ = (connection, ending);
    }
}

/// A handler that remembers something of each connection, in one value for each. A new build goes on with what `restore` made of what
/// `save` gave.
pub trait Stateful: Sized + 'static {
    /// Form of what this handler saves, for the next build. Another form takes another number.
    const SCHEMA: u32;

    /// Called when a client has come; with an error it is turned away.
    ///
    /// # Errors
    /// What the client is told.
    fn opened(opening: Opening) -> Result<Self, Refusal>;

    /// Called when the client has sent something.
    fn received(&mut self, message: Message);

    /// Called when the client is gone.
    fn closed(self, ending: Ending) {
        let _ = ending;
    }

    /// Returns what the next build is to know; at most 64 KiB. The connection goes on here if that build does not take
    /// it.
    fn save(&self) -> Vec<u8>;

    /// Goes on with what a build before knew.
    ///
    /// # Errors
    /// Why that cannot be: the connection then stays with the build before until it has to end, and is opened again here.
    fn restore(schema: u32, bytes: &[u8]) -> Result<Self, String>;
}

/// Makes an `impl Handler` the handler of this component.
#[cfg(not(feature = "live-stateful"))]
#[macro_export]
macro_rules! live {
    ($handler:ty) => {
        const _: () = {
            struct Exported;
            impl $crate::live::bindings::Guest for Exported {
                fn opened(
                    connection: u64,
                    opening: $crate::live::bindings::Opening,
                ) -> Result<(), $crate::live::bindings::Refusal> {
                    let opening = $crate::live::Opening::new(opening);
                    let opened = <$handler as $crate::live::Handler>::opened(connection, opening);
                    opened.map_err($crate::live::Refusal::into_raw)
                }
                fn received(connection: u64, message: $crate::live::Message) {
                    <$handler as $crate::live::Handler>::received(connection, message);
                }
                fn closed(connection: u64, ending: $crate::live::Ending) {
                    <$handler as $crate::live::Handler>::closed(connection, ending);
                }
            }
    $crate::live::bindings::export_live!(Exported with_types_in $crate::live::bindings);
        };
    };
}

/// Makes an `impl Stateful` the handler of this component.
#[cfg(feature = "live-stateful")]
#[macro_export]
macro_rules! live_stateful {
    ($handler:ty) => {
        const _: () = {
            use $crate::live::{bindings, stateful::Connections};
            thread_local! {
                static CONNECTIONS: Connections<$handler> = Connections::default();
            }
            struct Exported;
            impl bindings::Guest for Exported {
                fn opened(
                    connection: u64,
                    opening: bindings::Opening,
                ) -> Result<(), bindings::Refusal> {
                    CONNECTIONS.with(|all| all.opened(connection, opening))
                }
                fn received(connection: u64, message: bindings::Message) {
                    CONNECTIONS.with(|all| all.received(connection, message));
                }
                fn closed(connection: u64, ending: bindings::Ending) {
                    CONNECTIONS.with(|all| all.closed(connection, ending));
                }
                fn save(connection: u64) -> bindings::Saved {
                    CONNECTIONS.with(|all| all.save(connection))
                }
                fn restore(connection: u64, saved: bindings::Saved) -> Result<(), String> {
                    CONNECTIONS.with(|all| all.restore(connection, saved))
                }
            }
    $crate::live::bindings::export_live!(Exported with_types_in $crate::live::bindings);
        };
    };
}
