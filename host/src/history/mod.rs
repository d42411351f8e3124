//! What a channel has gone through: its history and its statistics, kept over restarts of the host.
//!
//! - `event`: the last hundred things that happened to a channel, each with its time, its cause and its incarnation.
//! - `statistics`: how often and how its lives ended, how long it ran, what its turns cost; `latency` is the histogram in it.
//! - `chronicle`: the one of each channel, to which its task tells what happens. It keeps nothing in memory that is on the
//!   disk already: a channel that is idle for a year costs what it cost on its first day.
//!
//! A turn costs a few additions here and reads no clock; everything else happens when a state changes. Nobody waits for the disk:
//! the chronicle is a ledger of the store, which takes what is new from it with its next commit. Where the disk is away for long, the
//! oldest events that wait are dropped, counted, and the history says so.

mod chronicle;
mod event;
mod latency;
mod statistics;

pub use chronicle::Chronicle;
pub use event::{History, MAX_EVENTS, Past, What};
pub use latency::{BUCKETS, Latencies, LatencyCells, bucket_limit};
pub use statistics::Statistics;
