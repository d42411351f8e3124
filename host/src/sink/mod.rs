//! Where samples leave the host: one task per sink, on a subscription of its own.
//!
//! ```text
//! bus ── subscription ── source ── runner ── destination (stdout, file, ...)
//!             └── outbox ──┘
//! ```
//!
//! - `destination`: what a kind of sink must be able to do. One folder or file per kind: `stdout`, `file`,
//!   `mqtt`, `postgres`, `nats`; `health`: how a server is.
//! - `source`: where samples come from: the sink's queue on the bus, or its outbox; the sink's filter.
//! - `runner`: the loop: take, deliver, try again. It owns its queue, so that a slow sink slows nobody.
//! - `record`: what a sample is as JSON: the same line in a file, on standard output and in the event stream.
//! - `text`: what a sample is for people, one line each.
//! - `sinks`, `status`: all of them together, and how they are.
//!
//! A sink whose queue overflows misses messages, and says so in a record of its own, where they are missing. A sink
//! that cannot deliver keeps what it holds and tries again; it never ends the host. Without an outbox, what it holds is lost with
//! the process; with one, what was accepted is delivered at least once, and known again by channel, epoch and sequence.

mod destination;
mod file;
mod health;
mod mqtt;
mod nats;
mod postgres;
mod rate;
mod record;
mod runner;
mod sinks;
mod source;
mod status;
mod stdout;
#[cfg(test)]
mod tests;
mod text;

pub use health::ConnectionStatus;
pub(crate) use mqtt::{WriteAnswer, WriteOutcome, WriteRequest};
pub use record::{JsonValue, Record, Time, json_lines};
pub use sinks::{Drained, Look, Sinks};
pub use status::{SinkStatus, SinkWatch};
pub use text::{TextStyle, number};
