//! The ABI in Rust: types generated from `wit/`, and their conversion to and from the host's own.
//!
//! One file per version of the package. The host speaks the newest; an older one, once there is one, gets a
//! file that forwards to it.

mod convert;
mod since_v0_1;

pub use since_v0_1::bulkhead::channel::{actions, config, events, log, types};
pub use since_v0_1::{Channel as DriverWorld, ChannelPre as DriverWorldPre};
