//! The functions that edge guests import. None of them blocks.

use super::{EdgeContext, request::RequestCopy};
use crate::{
    HandlerError,
    bindings::{
        edge::protoplex::edge,
        host::protoplex::host::{clock, log, random, request, settings, types},
    },
    cpu::CpuMeter,
    error_of,
    limiter::Limiter,
};
use protoplex_wire::manifest::Limits;
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// A log line is cut here: a guest must not fill the disk with one request.
const LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// `random.bytes` gives at most this many a call.
const RANDOM_BYTES_MAX: u32 = 4 << 10;

/// Data of a store that runs an edge guest.
pub(crate) struct EdgeState {
    pub(crate) limiter: Limiter,
    pub(crate) meter: CpuMeter,
    pub(crate) request: RequestCopy,
    pub(crate) context: Option<Arc<EdgeContext>>,
    /// The last error that the guest logged in this call: where a panic was, which a trap does not tell.
    pub(crate) last_words: Option<String>,
}

impl EdgeState {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limiter: Limiter::new(limits),
            meter: CpuMeter::default(),
            request: RequestCopy::default(),
            context: None,
            last_words: None,
        }
    }

    /// Why a call ended badly.
    pub(crate) fn ended(&mut self, error: &wasmtime::Error, limits: &Limits) -> HandlerError {
        match (
            error_of::call(error, limits, self.limiter.take_hit()),
            self.last_words.take(),
        ) {
            (HandlerError::Trap(trap), Some(words)) => {
                HandlerError::Trap(format!("{words}; {trap}"))
            }
            (error, _) => error,
        }
    }

    /// A number that is not worth a system call: thread-local generators are reseeded by `rand`.
    fn random(&self) -> u64 {
        rand::random()
    }
}

/// Data of a store whose edge guest imports WASI as well.
pub(crate) struct WasiEdgeState {
    pub(crate) edge: EdgeState,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
}

impl WasiView for WasiEdgeState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl edge::types::Host for EdgeState {}

impl types::Host for EdgeState {}

impl request::Host for EdgeState {
    fn header(&mut self, name: String) -> Option<String> {
        let found = self
            .request
            .headers()
            .find(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    fn headers(&mut self) -> Vec<types::Field> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.request
            .headers()
            .map(|(name, value)| types::Field {
                name: text(name),
                value: text(value),
            })
            .collect()
    }

    fn authority(&mut self) -> String {
        self.request.authority().to_owned()
    }

    fn scheme(&mut self) -> String {
        self.request.scheme.as_str().to_owned()
    }

    fn client_address(&mut self) -> String {
        self.request.client.to_string()
    }

    fn request_id(&mut self) -> String {
        self.request.request_id().to_owned()
    }
}

impl log::Host for EdgeState {
    fn log(&mut self, level: log::Level, message: String) {
        let message: &str = message
            .get(..message.floor_char_boundary(LOG_LINE_BYTES_MAX))
            .unwrap_or_default();
        let (handler, build) = self
            .context
            .as_ref()
            .map_or(("", String::new()), |context| {
                (context.handler.as_str(), context.build.short())
            });
        let request = self.request.request_id();
        match level {
            log::Level::Debug => {
                tracing::debug!(target: "guest", handler, build, request, "{message}")
            }
            log::Level::Info => {
                tracing::info!(target: "guest", handler, build, request, "{message}")
            }
            log::Level::Warn => {
                tracing::warn!(target: "guest", handler, build, request, "{message}")
            }
            log::Level::Error => {
                tracing::error!(target: "guest", handler, build, request, "{message}");
                self.last_words = Some(message.replace('\n', " "));
            }
        }
    }
}

impl clock::Host for EdgeState {
    fn now_ms(&mut self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&mut self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl random::Host for EdgeState {
    fn u64(&mut self) -> u64 {
        self.random()
    }

    fn bytes(&mut self, length: u32) -> Vec<u8> {
        let length = length.min(RANDOM_BYTES_MAX) as usize;
        let words = std::iter::repeat_with(|| self.random().to_le_bytes());
        words.flatten().take(length).collect()
    }
}

impl settings::Host for EdgeState {
    fn get(&mut self, name: String) -> Option<String> {
        self.context.as_ref()?.settings.get(&name).cloned()
    }
}
