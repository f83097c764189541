//! App handlers: any component that exports `wasi:http`, 0.2 or 0.3, with bodies that stream both ways.
//!
//! wasmtime's `ProxyHandler` runs the instances; around it stand what it lacks: a bounded queue, a deadline outside
//! the store, and places that are given back when the response's body ends.

mod body;
mod state;
mod worker;

use crate::{
    BuildFault, HandlerError, Linkers, Runtime, error_of, outgoing::Outgoing, outgoing::Policy,
};
use body::GuardedBody;
use http_body_util::BodyExt;
use protoplex_http::Body;
use protoplex_wire::{
    manifest::{Handler, Limits},
    release::Stage,
};
pub(crate) use state::AppState;
use std::{
    collections::HashMap,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{
    Error, WasiBody,
    handler::{ExpirationError, HandlerState, InstantiationError, ProxyHandler, TrapOrPanicError},
};
use wasmtime_wasi_http::{p2::bindings::http::types as p2, p3::bindings::http::types as p3};
use worker::Factory;
pub(crate) use worker::RequestTrack;

/// A compiled app handler and its instances.
pub struct AppHandler {
    proxy: ProxyHandler<Factory>,
    places: Arc<Semaphore>,
    waiting: AtomicU32,
    limits: Limits,
}

impl AppHandler {
    /// Maps native code and links it; see [`crate::EdgeHandler::load`] for what `native` must be. The guest reads
    /// `settings` through `wasi:config`.
    ///
    /// # Errors
    /// Stage `compile` when the code is not of this host, `link` when it does not fit its world.
    pub fn load(
        runtime: &Runtime,
        linkers: &Linkers,
        native: &File,
        name: &str,
        handler: &Handler,
        settings: &HashMap<String, String>,
    ) -> Result<Self, BuildFault> {
        let component = crate::linkers::map_native(runtime.engine(), native)?;
        let pre = linkers
            .app(&component, handler.world)
            .map_err(|error| BuildFault::new(Stage::Link, &error))?;
        let factory = Factory {
            engine: runtime.engine().clone(),
            pre,
            name: name.into(),
            limits: handler.limits,
            isolation: handler.isolation,
            outgoing: Outgoing::new(Policy::new(&handler.grants.outgoing)),
            settings: Arc::new(settings.clone().into_iter().collect()),
        };
        Ok(Self {
            proxy: ProxyHandler::new(factory),
            places: Arc::new(Semaphore::new(handler.limits.in_flight_max as usize)),
            waiting: AtomicU32::new(0),
            limits: handler.limits,
        })
    }

    /// Answers a request. The URI must be absolute. The place is held until the response's body has ended.
    ///
    /// # Errors
    /// Whatever kept the handler from answering; nothing of a response exists then.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place back; the instance ends by its own deadline.
    pub async fn handle(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<WasiBody>, HandlerError> {
        let place = self.place().await?;
        let request =
            request.map(|body| body.map_err(|_| Error::ConnectionTerminated).boxed_unsync());
        let track = Arc::new(RequestTrack::default());
        let answer = self.proxy.handle(Arc::clone(&track), request);
        let deadline = self.limits.deadline_ms;
        let answer = match tokio::time::timeout(Duration::from_millis(deadline), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is::<TrapOrPanicError>() => {
                return Err(track.cause_of_death().await);
            }
            Ok(Err(error)) => return Err(self.error(&error, &track)),
            Err(_) => return Err(HandlerError::Deadline(deadline)),
        };
        let max = self.limits.response_bytes_max;
        Ok(answer.map(|body| GuardedBody::new(body, max, track, place).boxed_unsync()))
    }

    /// Makes one instance and throws it away.
    ///
    /// # Errors
    /// Whatever keeps an instance from being made.
    pub async fn warm(&self) -> Result<(), HandlerError> {
        let instance = self.proxy.state().instantiate().await;
        instance
            .map(drop)
            .map_err(|error| error_of::instantiation(&error, &self.limits, None))
    }

    /// Waits for a place, in a queue of bounded length.
    async fn place(&self) -> Result<OwnedSemaphorePermit, HandlerError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let queued = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.waiting);
        if queued >= self.limits.queue_max {
            return Err(HandlerError::Busy {
                in_flight: self.limits.in_flight_max,
                queued,
            });
        }
        let deadline = self.limits.deadline_ms;
        let place = tokio::time::timeout(
            Duration::from_millis(deadline),
            Arc::clone(&self.places).acquire_owned(),
        );
        match place.await {
            Ok(place) => Ok(place.expect("the semaphore is never closed")),
            Err(_) => Err(HandlerError::Busy {
                in_flight: self.limits.in_flight_max,
                queued,
            }),
        }
    }

    fn error(&self, error: &wasmtime::Error, track: &RequestTrack) -> HandlerError {
        if error.is::<ExpirationError>() {
            return HandlerError::Deadline(self.limits.deadline_ms);
        }
        if let Some(error) = error.downcast_ref::<InstantiationError<Arc<RequestTrack>>>() {
            return error_of::instantiation(&error.error, &self.limits, track.take_hit());
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            return HandlerError::Guest(error.to_string());
        }
        if let Some(code) = error.downcast_ref::<p2::ErrorCode>() {
            return HandlerError::Guest(Error::from(code.clone()).to_string());
        }
        if let Some(code) = error.downcast_ref::<p3::ErrorCode>() {
            return HandlerError::Guest(Error::from(code.clone()).to_string());
        }
        error_of::call(error, &self.limits, track.take_hit())
    }
}

struct Leave<'a>(&'a AtomicU32);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
