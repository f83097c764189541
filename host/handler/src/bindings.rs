//! The one place where bindings are generated, from `wit/`.
//!
//! The interfaces of `protoplex:host` are generated once; every world that includes `protoplex:host/imports` is pointed at
//! them as a package, so an interface that is added there needs no line here.

/// Package `protoplex:host`, which all worlds with synchronous imports include.
pub(crate) mod host {
    wasmtime::component::bindgen!({
        path: "../../wit/host",
        world: "protoplex:host/imports",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// World `protoplex:edge/edge`, called synchronously.
pub(crate) mod edge {
    wasmtime::component::bindgen!({
        path: "../../wit/edge",
        world: "protoplex:edge/edge",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "protoplex:host": crate::bindings::host::protoplex::host },
    });
}

/// World `protoplex:edge/edge`, called asynchronously, for components that import WASI.
pub(crate) mod edge_async {
    wasmtime::component::bindgen!({
        path: "../../wit/edge",
        world: "protoplex:edge/edge",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: {
            "protoplex:host": crate::bindings::host::protoplex::host,
            "protoplex:edge": crate::bindings::edge::protoplex::edge,
        },
    });
}

/// World `protoplex:live/live-stateful`, called synchronously.
pub(crate) mod live_stateful {
    wasmtime::component::bindgen!({
        path: "../../wit/live",
        world: "protoplex:live/live-stateful",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "protoplex:host": crate::bindings::host::protoplex::host },
    });
}

/// World `protoplex:live/live`, called synchronously.
pub(crate) mod live {
    wasmtime::component::bindgen!({
        path: "../../wit/live",
        world: "protoplex:live/live",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "protoplex:host": crate::bindings::host::protoplex::host,
            "protoplex:live": crate::bindings::live_stateful::protoplex::live,
        },
    });
}
