//! The supervisor: a task for each channel, and the host that holds them.
//!
//! - `prepare`: drivers are loaded once each, their links and settings checked, before anything runs.
//! - `abi_config`: a channel's configuration as its driver sees it.
//! - `life`: one task per channel, from incarnation to incarnation, by the lifecycle table and the restart policy.
//! - `watchdog`: whether those tasks make progress.
//! - `flight`: what each incarnation was given, kept for the case that it crashes.
//! - `handle`: how doors speak to a channel; `commands`: commands that are under way.
//! - `registry`: the channels that there are. `host`: all of it: start, stop. `reload`: another configuration.
//!
//! The invariants: a channel has at most one incarnation at a time; its incarnation numbers ascend for ever; a panic in a
//! channel's task ends that incarnation as a host fault and nothing else.

mod abi_config;
mod answered;
mod commands;
mod flight;
mod handle;
mod host;
mod life;
mod pace;
mod prepare;
mod registry;
mod reload;
mod watchdog;

pub use answered::Answers;
pub use commands::{CommandStep, MAX_UNDER_WAY, RunningCommand, UnderWay};
pub use handle::{ChannelHandle, Writer};
pub use host::{Host, StartError};
pub use prepare::{Progress, preflight};
pub use registry::Channels;
pub use reload::{ReloadError, Reloaded, Reloader};
