//! Values of a stateful handler: one for each connection of an instance.

use super::{Opening, Refusal, Stateful, bindings};
use std::{cell::RefCell, collections::HashMap};

/// Values by connection, which [`live_stateful!`](crate::live_stateful!) keeps.
pub struct Connections<T>(RefCell<HashMap<u64, T>>);

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Stateful> Connections<T> {
    /// Calls [`Stateful::opened`], and keeps the value.
    pub fn opened(
        &self,
        connection: u64,
        opening: bindings::Opening,
    ) -> Result<(), bindings::Refusal> {
        let value = T::opened(Opening::new(opening)).map_err(Refusal::into_raw)?;
        self.0.borrow_mut().insert(connection, value);
        Ok(())
    }

    /// Calls [`Stateful::received`] on the connection's value.
    pub fn received(&self, connection: u64, message: bindings::Message) {
        if let Some(value) = self.0.borrow_mut().get_mut(&connection) {
            value.received(message);
        }
    }

    /// Calls [`Stateful::closed`] with the connection's value, which ends here.
    pub fn closed(&self, connection: u64, ending: bindings::Ending) {
        let value = self.0.borrow_mut().remove(&connection);
        if let Some(value) = value {
            value.closed(ending);
        }
    }

    /// Calls [`Stateful::save`] on the connection's value.
    pub fn save(&self, connection: u64) -> bindings::Saved {
        let values = self.0.borrow();
        bindings::Saved {
            schema: T::SCHEMA,
            bytes: values.get(&connection).map(T::save).unwrap_or_default(),
        }
    }

    /// Calls [`Stateful::restore`], and keeps the value.
    pub fn restore(&self, connection: u64, saved: bindings::Saved) -> Result<(), String> {
        crate::host::log::panics();
        let value = T::restore(saved.schema, &saved.bytes)?;
        self.0.borrow_mut().insert(connection, value);
        Ok(())
    }
}
