//! The Bulkhead host: device-protocol drivers as WebAssembly components, each in a store of its own.
//!
//! The rooms stand in layers, and a room may use only rooms above it in this list; a test keeps that true.
//! `docs/ARCHITECTURE.md` is the map.

// 0, pure: no tokio, no wasmtime, no sockets.
pub mod backoff;
pub mod config;
pub mod event;
pub mod ids;
pub mod lifecycle;
pub mod restart;
pub mod schedule;
