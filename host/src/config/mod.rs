//! The operator's file: TOML in, checked structs out.
//!
//! ```text
//! text ── document ──► tree with places ── section ──► resolve, channel, link, tag, sink ──► checked::Host
//!                            │                                   │
//!                            └──── faults, with their places ◄───┘
//! ```
//!
//! `document` reads TOML's own tree, `section` one table of it key by key, the five files named after parts of the
//! configuration hold the rules, and `checked` is what the rest of the host sees, in which nothing is left to doubt.
//!
//! serde's derive is not used: it stops at the first fault, and an operator should see all of them at once, each
//! with its line and its remedy. So a reader that meets a fault reports it and goes on with the default; whatever
//! was read is thrown away if there was any fault.
//!
//! `difference` compares two configurations, for a reload.
//!
//! Pure: the text comes in as a string, and no path is opened here.

mod address;
mod channel;
mod checked;
mod demotion;
mod dial;
mod difference;
mod document;
mod fault;
mod link;
mod locations;
mod names;
mod network;
mod recorder;
mod redial;
mod requests;
mod resolve;
mod section;
mod sink;
mod spelling;
mod tag;
mod units;

use std::path::PathBuf;

pub use address::{Connect, Identity, Listen, Parity, SerialLine, Tls, Transport};
pub use checked::{
    Access, Bounds, Channel, CompileLimits, Device, DriverPath, Group, Health, Heartbeat, Host,
    Http, Limits, Link, OnRestart, Part, Rate, Recorder, Report, Requests, Restart, RestartMode,
    Sink, SinkKind, Tag, WhileDown,
};
pub use dial::DialRange;
pub use difference::{ChannelDifference, Difference, Items, is_same_tag};
pub use fault::{Fault, Faults, Position};
pub use locations::Locations;
pub use network::Network;

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as the operator named it: every fault begins with it.
    pub name: String,
    /// The folder that relative paths start from.
    pub folder: PathBuf,
}

/// A configuration without faults, and where its parts stand in the file.
#[derive(Clone, Debug)]
pub struct Checked<T> {
    /// The configuration.
    pub value: T,
    /// For faults that are found later, such as those that a driver finds.
    pub locations: Locations,
}

/// Reads and checks a whole file, of at most 16 MiB. Reports every fault at once. Where TOML's own syntax is at fault, only
/// that is reported, since the rest of such a file cannot be known; all of it up to 1 MiB, beyond that the first.
pub fn parse(text: &str, origin: &Origin) -> Result<Checked<Host>, Faults> {
    let findings = document::Findings::new(text);
    let tree = document::read(text, &findings);
    let host = tree
        .as_ref()
        .map(|tree| resolve::host(tree, origin, &findings));
    match (host, findings.into_faults(&origin.name)) {
        (_, Some(faults)) => Err(faults),
        (Some(value), None) => Ok(Checked {
            value,
            locations: Locations::new(&origin.name, text),
        }),
        (None, None) => unreachable!("a text without a tree has been reported"),
    }
}

#[cfg(test)]
mod tests;
