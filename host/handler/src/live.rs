//! Live handlers: told what happens on connections that the host holds.
//!
//! Every call is synchronous. A plain handler's instance hears of one connection after another. One that remembers
//! something has all calls for a connection in one instance, which it shares with a bounded number of others.

mod host;
mod instance;
mod session;

use crate::{
    BuildFault, HandlerError, Linkers, Runtime,
    bindings::live_stateful::protoplex::live::types::{
        Again as WitAgain, Ending, MessageParam, Opening, Transport as WitTransport,
    },
    edge::{EdgeContext, RequestCopy},
    pool::{Pool, Purpose},
};
pub(crate) use host::LiveState;
pub use host::{EFFECTS_MAX, Effect, NAME_BYTES_MAX};
use instance::{Event, Instance, Pre};
use parking_lot::Mutex;
use protoplex_http::Head;
use protoplex_wire::{
    manifest::{Handler, Isolation, Limits, World},
    release::Stage,
};
pub use session::Session;
use session::{Homes, Most, Place};
use std::{fs::File, sync::Arc};

/// Bytes that a handler may remember of one connection.
pub const SAVED_BYTES_MAX: usize = 64 << 10;

/// Transport by which a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 6455 or RFC 8441.
    WebSocket,
    /// `text/event-stream`, with requests for what the client has to say.
    EventStream,
    /// One request after another.
    LongPoll,
}

/// Why a connection is opened that never closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// State that the build before remembered could not be taken over.
    NotRestored,
    /// The instance that had the connection died.
    Lost,
}

/// A message of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveMessage<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// The guest's outcome of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To be done, in order.
    Effects(Vec<Effect>),
    /// The client is not let in.
    Refused {
        /// Status that the guest gave.
        status: u16,
        /// Reason that the guest gave.
        reason: String,
    },
}

/// State of a connection that a handler remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Format of the bytes.
    pub schema: u32,
    /// At most [`SAVED_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Why an event was not heard.
#[derive(Debug)]
pub enum LiveError {
    /// The instance that knew the connection died, in a call for another one: open it again.
    Lost,
    /// The call ended badly. A connection that was in that instance is lost.
    Handler(HandlerError),
}

impl From<HandlerError> for LiveError {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}

/// A compiled live handler and its instances.
pub struct LiveHandler {
    pre: Pre,
    limits: Limits,
    isolation: Isolation,
    pool: Pool,
    idle: Mutex<Option<Instance>>,
    homes: Arc<Homes>,
}

impl LiveHandler {
    /// Maps native code and links it; see [`crate::EdgeHandler::load`] for what `native` must be.
    ///
    /// # Errors
    /// Stage `compile` when the code is not of this host, `link` when it does not fit its world.
    pub fn load(
        runtime: &Runtime,
        linkers: &Linkers,
        native: &File,
        handler: &Handler,
    ) -> Result<Self, BuildFault> {
        let pool = runtime.pool(handler.world);
        let component = crate::linkers::map_native(&pool.engine, native)?;
        let link = |error: wasmtime::Error| BuildFault::new(Stage::Link, &error);
        let pre = match handler.world {
            World::Live => Pre::Plain(linkers.live(&component).map_err(link)?),
            _ => Pre::Stateful(linkers.live_stateful(&component).map_err(link)?),
        };
        Ok(Self {
            pre,
            limits: handler.limits,
            isolation: handler.isolation,
            pool,
            idle: Mutex::default(),
            homes: Arc::default(),
        })
    }

    /// Whether it remembers connections.
    pub fn is_stateful(&self) -> bool {
        matches!(self.pre, Pre::Stateful(_))
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
        context: &Arc<EdgeContext>,
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
        context: &Arc<EdgeContext>,
    ) -> Result<Outcome, HandlerError> {
        self.open(session, transport, Some(again), context)
    }

    fn open(
        &self,
        session: &mut Session,
        transport: Transport,
        again: Option<Again>,
        context: &Arc<EdgeContext>,
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
        session.home = self.place(match again {
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
        context: &Arc<EdgeContext>,
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
        context: &Arc<EdgeContext>,
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
        context: &Arc<EdgeContext>,
    ) -> Result<Option<Saved>, LiveError> {
        let saved = self.in_instance(session, |instance, session| {
            instance.save(session, context, &self.limits)
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
        context: &Arc<EdgeContext>,
    ) -> Result<(), HandlerError> {
        let before = std::mem::replace(&mut session.home, self.place(Purpose::Request)?);
        let restored = self.in_instance(session, |instance, session| {
            instance.restore(session, saved, context, &self.limits)
        });
        let fault = match restored {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => HandlerError::Guest(reason),
            Err(LiveError::Handler(error)) => error,
            Err(LiveError::Lost) => HandlerError::Instantiate("it is gone already".into()),
        };
        session.home = before;
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
    pub fn cool(&self) {
        *self.idle.lock() = None;
    }

    fn instance(&self, purpose: Purpose) -> Result<Instance, HandlerError> {
        self.pool.admit(purpose)?;
        self.warm_instance()
    }

    /// An instance that may come from the reserve.
    fn warm_instance(&self) -> Result<Instance, HandlerError> {
        Instance::new(&self.pool.engine, &self.pre, &self.limits)
    }

    /// A place for one more connection, where places are kept.
    fn place(&self, purpose: Purpose) -> Result<Option<Place>, HandlerError> {
        let Isolation::Concurrent {
            concurrency,
            requests_max,
        } = self.isolation
        else {
            return Ok(None);
        };
        let most = Most {
            connections_max: concurrency,
            ever_max: requests_max,
        };
        let place = self.homes.place(most, || self.instance(purpose));
        place.map(Some)
    }

    fn tell(
        &self,
        session: &mut Session,
        event: Event<'_>,
        context: &Arc<EdgeContext>,
    ) -> Result<Outcome, LiveError> {
        self.in_instance(session, |instance, session| {
            instance.tell(session, event, context, &self.limits)
        })
    }

    /// Runs a call in the connection's instance, or in one for all. After an error nobody uses that instance again.
    fn in_instance<T>(
        &self,
        session: &mut Session,
        call: impl FnOnce(&mut Instance, &mut Session) -> Result<T, HandlerError>,
    ) -> Result<T, LiveError> {
        if let Some(place) = &session.home {
            let home = Arc::clone(&place.home);
            let mut instance = home.instance.lock();
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

    fn put_back(&self, instance: Instance) {
        if let Isolation::Shared { requests_max } = self.isolation
            && instance.served < requests_max
        {
            *self.idle.lock() = Some(instance);
        }
    }
}
