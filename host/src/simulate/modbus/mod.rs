//! A Modbus server (*MODBUS Messaging on TCP/IP Implementation Guide* V1.0b, *MODBUS Application Protocol* V1.1b3), which
//! also speaks RTU over TCP (*MODBUS over Serial Line* V1.02).
//!
//! ```text
//!   socket -> frame (MBAP, RTU) -> unit (pdu -> memory, values) -> fault -> socket
//!                                |                              |
//!                             counters <------------------------+
//! ```
//!
//! Each unit holds four tables (see [`values`] for what stands where): coils and holding registers that keep what
//! is written to them, discrete inputs and input registers that nobody can write. One request is atomic: a reader
//! never sees half of a multi-register write.
//!
//! - **Function codes** 1-6, 15, 16, 22 and 23; any other is answered with exception 1.
//! - **Units**: one that is not configured answers exception 11 (gateway target failed to respond), as a gateway
//!   would; with RTU it keeps silent, as on a line. A *dead* one never answers, though its requests are counted.
//!   With RTU unit 0 is all units at once, and none answers.
//! - **Pipelining**: requests are answered in their order, however the stream splits them.
//! - **Faults** spoil answers as [`Fault`] describes. A request whose answer is spoilt *was* carried out, as on a
//!   device whose answer gets lost; only `exception` refuses before anything is done.
//! - **Counting**: every complete request is counted by unit and function before it is answered, so that a test
//!   can tell at the device how often it was polled.
//!
//! What can go wrong: a frame whose protocol id is not 0 or whose length is out of bounds ends its connection, for
//! there is no way back into a stream that has lost its framing. With RTU, what does not begin with a request is thrown away. Connections over the limit are accepted and
//! closed at once, and counted.

mod command;
mod control;
mod counters;
mod fault;
mod frame;
mod memory;
mod options;
mod pdu;
mod rtu;
mod server;
pub mod values;

pub use command::{Args, run};
pub use counters::{Counts, UnitCounts};
pub use fault::{Fault, FaultKind};
pub use options::{Framing, Options, UnitList};
pub use server::{Simulator, serve};

/// What can keep a simulated device from running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address could not be bound.
    #[error(
        "cannot listen on {address}: {source}; choose another with --listen, or port 0 for any free one"
    )]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// An option that no device can satisfy.
    #[error("{0}")]
    Option(String),
    /// Signals or standard output failed.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the caller asked for something impossible (exit code 2), rather than the machine failing (3).
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Option(_))
    }
}
