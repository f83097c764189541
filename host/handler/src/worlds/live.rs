//! Live handlers: told what happens on connections that the host holds.
//!
//! Every call is synchronous. A plain handler's instance hears of one connection after another. One that remembers
//! something has all calls for a connection in one instance, which it shares with a bounded number of others.

mod connection;
mod event;
mod instance;
mod linked;
mod session;
mod shared_instances;

use crate::{
    HandlerError,
    bindings::live_stateful::protoplex::live::types::{
        Again as WitAgain, Ending, MessageParam, Opening, Transport as WitTransport,
    },
    context::HandlerContext,
    pool::{Pool, Purpose},
    request_copy::RequestCopy,
};
pub use event::{Again, LiveError, LiveMessage, Outcome, SAVED_BYTES_MAX, Saved, Transport};
use instance::{Event, LiveInstance};
pub(crate) use linked::{LinkedLive, LiveLinker};
use parking_lot::Mutex;
use protoplex_http::Head;
use protoplex_wire::manifest::{Handler, Isolation, Limits};
pub use session::Session;
use shared_instances::{ConnectionLimits, ConnectionPlace, SharedInstances};
use std::sync::Arc;

/// A compiled live handler and its instances.
pub struct LiveHandler {
    linked: LinkedLive,
    limits: Limits,
    isolation: Isolation,
    pool: Pool,
    idle: Mutex<Option<LiveInstance>>,
    shared: Arc<SharedInstances>,
}

impl LiveHandler {
    pub(crate) fn new(linked: LinkedLive, pool: Pool, handler: &Handler) -> Self {
        Self {
            linked,
            limits: handler.limits,
            isolation: handler.isolation,
            pool,
            idle: Mutex::default(),
            shared: Arc::default(),
        }
    }

    /// Whether the handler keeps state for each connection.
    pub fn is_stateful(&self) -> bool {
        matches!(self.linked, LinkedLive::Stateful(_))
    }

    /// Connections that one child may have of it; `None` where no instance remembers them.
    pub fn connections_max(&self) -> Option<u32> {
        match self.isolation {
            Isolation::Concurrent { concurrency, .. } => Some(
                self.pool
                    .connection_instances_max()
                    .saturating_mul(concurrency),
            ),
            Isolation::PerRequest | Isolation::Shared { .. } => None,
        }
    }

    /// A client has come. The session is to be kept where it is let in.
    ///
    /// # Errors
    /// The guest gave no answer.
    pub fn opened(
        &self,
        connection: u64,
        head: &Head<'_>,
        transport: Transport,
        context: &Arc<HandlerContext>,
    ) -> Result<(Session, Outcome), HandlerError> {
        let mut copy = RequestCopy::default();
        copy.fill(head);
        copy.shrink();
        let mut session = Session::new(connection, copy);
        let outcome = self.open(&mut session, transport, None, context)?;
        Ok((session, outcome))
    }

    /// A connection that never closed is opened again, here.
    ///
    /// # Errors
    /// The guest gave no answer.
    pub fn reopened(
        &self,
        session: &mut Session,
        transport: Transport,
        again: Again,
        context: &Arc<HandlerContext>,
    ) -> Result<Outcome, HandlerError> {
        self.open(session, transport, Some(again), context)
    }

    fn open(
        &self,
        session: &mut Session,
        transport: Transport,
        again: Option<Again>,
        context: &Arc<HandlerContext>,
    ) -> Result<Outcome, HandlerError> {
        let path = session.path().to_owned();
        let opening = Opening {
            path: &path,
            transport: match transport {
                Transport::WebSocket => WitTransport::Websocket,
                Transport::EventStream => WitTransport::EventStream,
                Transport::LongPoll => WitTransport::LongPoll,
            },
            again: again.map(|again| match again {
                Again::NotRestored => WitAgain::NotRestored,
                Again::Lost => WitAgain::Lost,
            }),
        };
        session.place = self.place(match again {
            None => Purpose::Connection,
            Some(_) => Purpose::Request,
        })?;
        match self.tell(session, Event::Opened(opening), context) {
            Err(LiveError::Handler(error)) => Err(error),
            Err(LiveError::Lost) => Err(HandlerError::Instantiate("it is gone already".into())),
            Ok(outcome) => Ok(outcome),
        }
    }

    /// A client has sent something.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub fn received(
        &self,
        session: &mut Session,
        message: LiveMessage<'_>,
        context: &Arc<HandlerContext>,
    ) -> Result<Outcome, LiveError> {
        let message = match message {
            LiveMessage::Text(text) => MessageParam::Text(text),
            LiveMessage::Binary(bytes) => MessageParam::Binary(bytes),
        };
        self.tell(session, Event::Received(message), context)
    }

    /// A connection is gone.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub fn closed(
        &self,
        session: &mut Session,
        code: u16,
        reason: &str,
        context: &Arc<HandlerContext>,
    ) -> Result<Outcome, LiveError> {
        let ending = Ending { code, reason };
        self.tell(session, Event::Closed(ending), context)
    }

    /// Saves what the handler remembers of a connection; `None` where it remembers nothing of any.
    ///
    /// # Errors
    /// See [`LiveError`]; more than [`SAVED_BYTES_MAX`] is refused, and the connection goes on as if nothing was asked.
    pub fn save(
        &self,
        session: &mut Session,
        context: &Arc<HandlerContext>,
    ) -> Result<Option<Saved>, LiveError> {
        let saved = self.in_instance(session, |instance, session| {
            instance.save(&mut session.connection, context, &self.limits)
        })?;
        let bytes = saved.as_ref().map_or(0, |saved| saved.bytes.len());
        if bytes > SAVED_BYTES_MAX {
            let text = format!(
                "it remembers {bytes} bytes of a connection; {SAVED_BYTES_MAX} is the most"
            );
            return Err(HandlerError::Refused(text).into());
        }
        Ok(saved)
    }

    /// Takes a connection over from another build. Where that does not go well, the session stays as it was, with the
    /// handler before, and the reason is told.
    ///
    /// # Errors
    /// The guest did not take it, or gave no answer.
    pub fn restore(
        &self,
        session: &mut Session,
        saved: &Saved,
        context: &Arc<HandlerContext>,
    ) -> Result<(), HandlerError> {
        let before = std::mem::replace(&mut session.place, self.place(Purpose::Request)?);
        let restored = self.in_instance(session, |instance, session| {
            instance.restore(&mut session.connection, saved, context, &self.limits)
        });
        let fault = match restored {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => HandlerError::Guest(reason),
            Err(LiveError::Handler(error)) => error,
            Err(LiveError::Lost) => HandlerError::Instantiate("it is gone already".into()),
        };
        session.place = before;
        Err(fault)
    }

    /// Makes one instance, and keeps it where one instance serves all.
    ///
    /// # Errors
    /// Whatever keeps an instance from being made.
    pub fn warm(&self) -> Result<(), HandlerError> {
        if self.idle.lock().is_none() {
            self.put_back(self.warm_instance()?);
        }
        Ok(())
    }

    /// Drops the idle instance: the handler's build does not answer any more.
    pub fn trim_pool(&self) {
        *self.idle.lock() = None;
    }

    fn instance(&self, purpose: Purpose) -> Result<LiveInstance, HandlerError> {
        self.pool.admit(purpose)?;
        self.warm_instance()
    }

    /// An instance that may come from the reserve.
    fn warm_instance(&self) -> Result<LiveInstance, HandlerError> {
        LiveInstance::new(&self.pool.engine, &self.linked, &self.limits)
    }

    /// A place for one more connection, where places are kept.
    fn place(&self, purpose: Purpose) -> Result<Option<ConnectionPlace>, HandlerError> {
        let Isolation::Concurrent {
            concurrency,
            requests_max,
        } = self.isolation
        else {
            return Ok(None);
        };
        let limits = ConnectionLimits {
            connections_max: concurrency,
            ever_max: requests_max,
        };
        let place = self.shared.place(limits, || self.instance(purpose));
        place.map(Some)
    }

    fn tell(
        &self,
        session: &mut Session,
        event: Event<'_>,
        context: &Arc<HandlerContext>,
    ) -> Result<Outcome, LiveError> {
        self.in_instance(session, |instance, session| {
            instance.tell(&mut session.connection, event, context, &self.limits)
        })
    }

    /// Runs a call in the connection's instance, or in one for all. After an error nobody uses that instance again.
    fn in_instance<T>(
        &self,
        session: &mut Session,
        call: impl FnOnce(&mut LiveInstance, &mut Session) -> Result<T, HandlerError>,
    ) -> Result<T, LiveError> {
        if let Some(place) = &session.place {
            let shared = Arc::clone(&place.shared);
            let mut instance = shared.instance.lock();
            let mut taken = instance.take().ok_or(LiveError::Lost)?;
            let answer = call(&mut taken, session)?;
            *instance = Some(taken);
            return Ok(answer);
        }
        let idle = self.idle.lock().take();
        let mut instance = match idle {
            Some(instance) => instance,
            None => self.instance(Purpose::Request)?,
        };
        let answer = call(&mut instance, session)?;
        self.put_back(instance);
        Ok(answer)
    }

    fn put_back(&self, instance: LiveInstance) {
        if let Isolation::Shared { requests_max } = self.isolation
            && instance.served < requests_max
        {
            *self.idle.lock() = Some(instance);
        }
    }
}
