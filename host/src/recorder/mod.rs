//! The flight recorder: what one incarnation was given, from its start, so that its crash can be repeated at a desk.
//!
//! ```text
//! turn ── Recording (plain tail ── full ── packed blocks) ── crash ── Archive ── data_dir/crashes/NAME-7.crash
//!                          └── Recorder: one budget for all
//! ```
//!
//! A driver sees nothing but its configuration, its seed, the time of each call and the events of each turn; the same of
//! all that gives the same actions and the same fuel. So these are kept, and nothing else: no action, no memory.
//!
//! - `bytes`: numbers and strings, tight; reading them back is safe whatever they are.
//! - `events`: events in that form. `tape`: turns of events, in blocks that can each be read alone.
//! - `recording`: the tape of one incarnation, as it grows. `budget`: what all recordings may hold together, and who
//!   gives way when that is spent.
//! - `header`: what else a replay needs. `secrets`: what must not leave the host in it.
//! - `bundle`: all of that as one file, versioned and checksummed. `archive`: the folder of such files, bounded.
//!
//! Recording costs about a tenth of a microsecond for an event, and a lock only when a block is full. What can go wrong: an
//! incarnation that lives long outgrows its buffer; then the middle of its recording is lost, which the bundle says.

mod archive;
mod budget;
mod bundle;
mod bytes;
mod events;
mod header;
mod recording;
mod secrets;
mod tape;

pub use archive::{Archive, CrashReport};
pub use budget::Recorder;
pub use bundle::{Bundle, BundleError};
pub use header::{
    Call, ConfigRecord, DriverRecord, ExitRecord, FrameRecord, Header, LimitsRecord, Written,
};
pub use recording::{Opening, Recording};
pub use secrets::Secrets;
pub use tape::{Tape, TapeError, Turn, Turns};
