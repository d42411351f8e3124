//! The outbox: what stands on the disk between the bus and a sink, so that nothing accepted is lost.
//!
//! Each sink that wants one has an outbox of its own, a file `outbox/NAME.redb` in `data_dir`: so a sink that is dead delays no
//! other, a damaged file is one sink's, and what a filter keeps away is never written.
//!
//! ```text
//! bus ── subscription ── lane (a thread: gathers, commits) ── queue (redb) ── reader ── sink
//!                          ▲                                                             │
//!                          └───────────────── acknowledged: until which chunk ──────────┘
//! ```
//!
//! - **Accepted** means: committed. A sample has its number before (`Batch::sequence`: channel, epoch, number), so it is the same in
//!   streams, in files and behind any sink, and a hole in the numbers says what is missing. The high-water mark of each channel
//!   stands in the file.
//! - What cannot be accepted (a full disk, an outbox that blocks) waits in memory, as far as the sink's queue goes, and is then missed,
//!   counted and announced as a gap; it was never accepted.
//! - `codec`: batches as bytes. `group`: what waits to be committed, as bytes already. `seal`: checksums. `queue`: the file, its bounds and its invariants. `lane`: the thread. `counts`: what is counted.
//!
//! What can go wrong: the disk. A commit that fails is tried again each second, with all that waits; the sink goes on with what is on
//! the disk already. A file that is damaged as a whole is set aside, and a new one begun.

mod codec;
mod counts;
mod error;
mod group;
mod lane;
mod layouts;
mod queue;
mod seal;

pub use counts::Counts;
pub use error::OutboxError;
pub use lane::{Lane, Outbox, OutboxStatus, Parcel, Parcels, Plan, Purged};
pub use queue::Bounds;

/// How far a channel has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The channel's name.
    pub channel: String,
    /// Epoch and number of the last sample accepted.
    pub accepted: (u64, u64),
    /// Epoch and number of the last sample that the sink has acknowledged; zeros if there is none.
    pub acknowledged: (u64, u64),
}

#[cfg(test)]
mod tests;
