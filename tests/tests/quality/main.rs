//! The quality of tags: what consumers are told, when, and why.
//!
//! - `timelines`: what can happen to a device, its link, its driver and its channel, as a table. `stale`: values that are not read in time.

mod stale;
mod timelines;
