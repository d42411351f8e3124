//! The tags of a channel: last values, and what happens to a sample between the driver and the sinks.
//!
//! - `rule`: what a sample of each tag may be; raw to engineering units.
//! - `scaling`: engineering units back to raw, for a write.
//! - `table`: the last value of each tag with its quality and reason; which samples are handed on.
//!
//! The table is locked once per batch by the channel's task and once per question by whoever asks; never across an `.await`.

#[cfg(test)]
mod inverse;
mod rule;
mod scaling;
mod table;
#[cfg(test)]
mod tests;

pub use rule::{Rule, Rules};
pub use scaling::{BadValue, to_device};
pub use table::{Gate, TagState, TagTable};
