//! What the tests stand on: the `bulkhead` binary, devices written by others, and guests without a host around them.
//!
//! An end-to-end test sees what a user sees: a TOML file, a process, its output, its HTTP API and the devices behind it.
//! Everything started ends with its value; a hang ends in an error after [`PATIENCE`], with what the process printed.
//! Nothing is skipped: what is missing is an error that names the command which installs it.

mod bulkhead;
mod calls;
mod certificates;
pub mod components;
pub mod firewall;
pub mod fleet;
mod folder;
pub mod guests;
mod line_device;
mod machine;
pub mod mbpoll;
mod name_server;
pub mod neighbour;
pub mod netns;
pub mod paths;
mod peer;
pub mod plant;
mod process;
pub mod proxy;
mod recorder;
mod rounds;
mod scripted;
mod traffic;

pub use bulkhead::{Bulkhead, Reply, Stream, run};
pub use calls::Calls;
pub use certificates::{Authority, Certificate, TlsServer};
pub use folder::Folder;
pub use line_device::LineDevice;
pub use machine::Machine;
pub use name_server::NameServer;
pub use peer::{Peer, Requests};
pub use process::{Ended, Lines, Running};
pub use recorder::{Recorder, Recording};
pub use rounds::rounds;
pub use scripted::{Reading, Scripted, Spoilt};
pub use traffic::{Account, Traffic};

use std::net::TcpListener;
use std::time::Duration;

/// How long anything may take before it counts as hanging. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A port on loopback that was free a moment ago, for what cannot listen on port 0.
///
/// # Panics
///
/// Where loopback has no free port at all.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
