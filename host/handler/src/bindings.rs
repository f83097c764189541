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

/// The same world, called asynchronously, for edge components that import WASI.
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
