//! A driver: from a file to a component that takes turns.
//!
//! ```text
//! file --verify--> bytes --compile (cached)--> Driver --instantiate--> Instance --turn--> Instance | Exit
//! ```
//!
//! - `verify`: bounds, the pinned digest, and what kind of file it is, before anything is compiled.
//! - `census`: what it is made of, before the compiler lays it out and the engine makes room for it.
//! - `load`: compiles, links, checks the world. One [`Driver`] serves every channel that uses the file.
//! - `state`, `limiter`, `wasi`, `log_port`: what stands in a store beside the guest, and what the guest may reach: nothing.
//! - `instance`: one life. A call takes the instance and gives it back only if it returned in order, so a store that
//!   trapped cannot be entered again: there is nothing left to enter.
//! - `producers`: the languages and tools that it was made with, for people.
//! - `symbols`: the source lines of a backtrace.
//! - `fault`: what wasmtime says, as an [`Exit`](crate::exit::Exit).

mod census;
mod fault;
mod instance;
mod limiter;
mod load;
mod log_port;
mod producers;
mod state;
mod symbols;
mod verify;
mod wasi;

pub use census::Census;
pub use instance::{Budget, Instance, InstanceSpec, TurnStats};
pub use load::{CommandInfo, Driver, DriverInfo, LinkWish, LoadError};
pub use producers::Producers;
pub use verify::{Verified, VerifyError, digest};
