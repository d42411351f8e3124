//! Links: the host's own connections, kept alive for drivers that never open a socket.
//!
//! A channel's actor holds a [`Connection`] for each `open` of its driver. Behind it one task dials, moves bytes, and
//! dials again when the stream is lost. The actor's calls never wait; what happens comes as [`LinkMail`] through the
//! channel's own mailbox.
//!
//! ```text
//!   actor ---- Connection ----> desk <---- task: grant -> transport -> pumps
//!     ^                                              |
//!     +---------------- mailbox <-- LinkMail --------+
//! ```
//!
//! # What holds
//!
//! - **Nothing is dialled that the operator did not grant.** `grant` alone makes permits, transports dial with nothing
//!   else, and permits carry addresses, not names.
//! - **Never two streams at once** for one connection, and bytes meant for one never reach another ([`StreamId`]).
//! - **What the driver was told is the truth it is held to**: each stream begins with one `Opened` and ends with one
//!   `Closed`, `survive` and the stamps on mail go by what was told, and window and credits are counted as the
//!   driver counts them.
//! - **Bounded**: one and a half send windows of bytes to be written, 64 KiB that were read and wait for the mailbox.
//!   A waiting connection holds no buffer.
//! - **A device that is away** costs one dial per delay, one `Closed` per change of reason, and as many log lines.
//!
//! # What it is not
//!
//! It knows no frames, no requests and no time-outs of a protocol: that is the driver's part. It decides nothing about
//! restarts of a driver. The delays are those of [`crate::backoff`], which is pure.
//!
//! # What may go wrong
//!
//! A peer that vanishes without a word is noticed by TCP: within the heartbeat's `lost_after` of its last sign of life while
//! nothing is sent, and within as long of the first byte that it does not acknowledge. A driver that waits for an answer may know
//! sooner, and asks for a reset.
//! A paused connection does not see that its peer has left.

mod connection;
mod desk;
mod error;
mod grant;
mod journal;
mod listen;
mod mail;
mod pump;
mod rate;
mod resolve;
mod room;
mod serial;
mod state;
mod task;
mod tcp;
mod tls;
mod transport;
mod trial;
mod udp;
mod unix;
mod unsent;
mod window;

#[cfg(test)]
mod tests;

pub use connection::{Connection, DEFAULT_SEND_WINDOW, OpenOptions, Survivor};
pub use grant::NotSent;
pub use journal::{
    ConnectionStatus, EventKind, Journal, Keeper, LinkHistory, LinkPast, LinkReport,
    LinkStatistics, MAX_EVENTS, Probes,
};
pub use listen::CallerIds;
pub use mail::{Accepted, CloseReason, LinkEvent, LinkMail, Outlook, StreamId};
pub use rate::DialRate;
pub use room::{Held, Room};
pub use state::LinkState;
pub use tls::{TlsFault, check_tls};
pub(crate) use tls::{client_config, explained};
pub use trial::{Trial, TrialStep, test};
pub use window::WindowExceeded;
