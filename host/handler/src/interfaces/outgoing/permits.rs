//! Permits of open requests: each has one of its instance and one of its handler.

use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Held as long as a request is open.
pub(super) struct Permits {
    _instance: OwnedSemaphorePermit,
    _handler: OwnedSemaphorePermit,
}

impl Permits {
    /// Waits for both, for no longer than `wait`. Requests of one instance that wait take nothing from other instances.
    pub(super) async fn acquire(
        instance: &Arc<Semaphore>,
        handler: &Arc<Semaphore>,
        wait: Duration,
    ) -> Option<Self> {
        let both = async {
            let instance = Arc::clone(instance).acquire_owned().await;
            let handler = Arc::clone(handler).acquire_owned().await;
            Some(Self {
                _instance: instance.ok()?,
                _handler: handler.ok()?,
            })
        };
        timeout(wait, both).await.ok().flatten()
    }
}
