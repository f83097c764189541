//! The one place where bindings are generated, from `wit/`.

/// `protoplex:edge/edge`, called synchronously.
#[expect(missing_docs, reason = "generated; wit/edge.wit documents them")]
pub(crate) mod edge {
    wasmtime::component::bindgen!({
        path: "../../wit/edge.wit",
        world: "protoplex:edge/edge",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// World `edge`, called asynchronously, for components that import WASI.
pub(crate) mod edge_async {
    wasmtime::component::bindgen!({
        path: "../../wit/edge.wit",
        world: "protoplex:edge/edge",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: {
            "protoplex:edge/types": crate::bindings::edge::protoplex::edge::types,
            "protoplex:edge/request": crate::bindings::edge::protoplex::edge::request,
            "protoplex:edge/log": crate::bindings::edge::protoplex::edge::log,
            "protoplex:edge/clock": crate::bindings::edge::protoplex::edge::clock,
            "protoplex:edge/random": crate::bindings::edge::protoplex::edge::random,
            "protoplex:edge/settings": crate::bindings::edge::protoplex::edge::settings,
        },
    });
}

/// `protoplex:live/live-stateful`, called synchronously.
pub(crate) mod live_stateful {
    wasmtime::component::bindgen!({
        path: ["../../wit/edge.wit", "../../wit/live/live.wit"],
        world: "protoplex:live/live-stateful",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "protoplex:edge/types": crate::bindings::edge::protoplex::edge::types,
            "protoplex:edge/request": crate::bindings::edge::protoplex::edge::request,
            "protoplex:edge/log": crate::bindings::edge::protoplex::edge::log,
            "protoplex:edge/clock": crate::bindings::edge::protoplex::edge::clock,
            "protoplex:edge/random": crate::bindings::edge::protoplex::edge::random,
            "protoplex:edge/settings": crate::bindings::edge::protoplex::edge::settings,
        },
    });
}

/// `protoplex:live/live`, likewise.
pub(crate) mod live {
    wasmtime::component::bindgen!({
        path: ["../../wit/edge.wit", "../../wit/live/live.wit"],
        world: "protoplex:live/live",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "protoplex:edge/types": crate::bindings::edge::protoplex::edge::types,
            "protoplex:edge/request": crate::bindings::edge::protoplex::edge::request,
            "protoplex:edge/log": crate::bindings::edge::protoplex::edge::log,
            "protoplex:edge/clock": crate::bindings::edge::protoplex::edge::clock,
            "protoplex:edge/random": crate::bindings::edge::protoplex::edge::random,
            "protoplex:edge/settings": crate::bindings::edge::protoplex::edge::settings,
            "protoplex:live/types": crate::bindings::live_stateful::protoplex::live::types,
            "protoplex:live/connection": crate::bindings::live_stateful::protoplex::live::connection,
            "protoplex:live/channels": crate::bindings::live_stateful::protoplex::live::channels,
        },
    });
}
