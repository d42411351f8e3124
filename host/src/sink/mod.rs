//! Where samples leave the host: one task per sink, on a subscription of its own.
//!
//! - `record`: what a sample is as JSON: the same line in a file, on standard output and in the event stream.
//! - `text`: what a sample is for people, one line each.
//! - `runner`: the loop: collect, encode, write, try again. It owns its queue, so that a slow sink slows nobody.
//! - `file`, `stdout`: where the bytes go.
//!
//! A sink whose queue overflows misses messages, and says so in a record of its own, where they are missing. A sink
//! that cannot write keeps what it holds and tries again; it never ends the host. No sink is durable: what a
//! queue holds is lost with the process (the outbox, which comes later, stands before sinks that must not lose).

mod file;
mod record;
mod runner;
mod stdout;
mod text;

pub use record::{JsonValue, Record, Time};
pub use runner::{Drained, Look, SinkStatus, Sinks};
pub use text::{TextStyle, number};
