//! The Bulkhead host: device-protocol drivers as WebAssembly components, each in a store of its own.
//!
//! The rooms stand in layers, and a room may use only rooms above it in this list; a test keeps that true.
//! `docs/ARCHITECTURE.md` is the map.

// 0, pure: no tokio, no wasmtime, no sockets.
pub mod backoff;
pub mod config;
pub mod demotion;
pub mod event;
pub mod exit;
pub mod ids;
pub mod lifecycle;
pub mod limits;
pub mod poison;
pub mod reconnection;
pub mod restart;
pub mod schedule;
pub mod text;

// 1, mechanism.
pub mod audit;
pub mod bindings;
pub mod bus;
pub mod clock;
pub mod engine;
pub mod history;
pub mod network;
pub mod outbox;
pub mod recorder;
pub mod store;
pub mod tags;

// 2, edges.
pub mod driver;
pub mod link;
pub mod sink;

// 3, life.
pub mod channel;
pub mod supervisor;

// 4, doors.
pub mod authoring;
pub mod cli;
pub mod conform;
pub mod http;
pub mod metrics;
mod remote;
pub mod replay;
pub mod simulate;
pub mod virtual_host;
