//! What the host counts, as Prometheus asks for it: `GET /metrics`, in the text format 0.0.4.
//!
//! ```text
//!  handles, journals, bus, sinks ── gather ──► Snapshot ── Pieces ──► text, a piece at a time
//!                                                  ▲
//!                         families: name, type, labels, unit, meaning, and how it is read off
//! ```
//!
//! - `snapshot`: what was gathered, as plain data. `gather`: from the handles. `process`: from the kernel.
//! - `family`: what a metric is; `of_host`, `of_channels`, `of_sinks`: all of them. `docs/METRICS.md` has the same table, and a test
//!   compares the two.
//! - `pieces`: from a snapshot to text.
//!
//! **Nothing is counted here.** Every number is one that a room keeps for itself anyway, and is read when somebody asks: a turn
//! costs the same whether anybody does or not.
//!
//! **Counters begin at zero with the host**, also those of which the store knows more: after a crash what it knows may be a minute old,
//! and a counter that goes back a little looks to Prometheus as if all of it had happened again.
//!
//! **Bounded by the configuration**: so many series per channel, per group, per link and per sink, and none per tag. About 80 of a channel,
//! 29 of a group, 16 of a link: some 100 KiB in text for 10 channels with one group and one link each, 10 MiB for 1,000. So
//! it is made and sent in pieces, and never stands in memory whole; the snapshot does (2 KiB per channel).
//!
//! What can go wrong: a family that has no rows yet is left out, since the format has no way to say so; a channel that is taken out by
//! a reload while somebody scrapes is still in that one answer.

mod family;
mod gather;
mod of_channels;
mod of_host;
mod of_sinks;
mod pieces;
mod process;
mod snapshot;

#[cfg(test)]
mod tests;

pub use family::{Family, Kind, families, markdown};
pub use gather::gather;
pub use pieces::Pieces;
pub use snapshot::Snapshot;

/// The media type of the text.
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;
