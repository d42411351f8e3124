//! `bulkhead:channel@0.1.0`.
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "generated from the WIT, where the docs are"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "channel",
    exports: { default: async },
});
