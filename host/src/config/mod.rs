//! The operator's file: TOML in, checked structs out.
//!
//! ```text
//! text ── document ──► tree with places ── section ──► resolve, channel, link, tag, sink ──► checked::Host
//!                            │                                   │
//!                            ▲            │                      │
//! files of tags ── rows ─────┘            └► faults, with their places
//! ```
//!
//! `document` reads TOML's own tree, `section` one table of it key by key, the five files named after parts of the
//! configuration hold the rules, and `checked` is what the rest of the host sees, in which nothing is left to doubt.
//!
//! serde's derive is not used: it stops at the first fault, and an operator should see all of them at once, each
//! with its line and its remedy. So a reader that meets a fault reports it and goes on with the default; whatever
//! was read is thrown away if there was any fault.
//!
//! Tags may stand in files of their own (`tags_files`), whose `rows` are read as tables are: a rule of tags stands once. `export` writes
//! such a file, `import` names one in a configuration. `difference` compares two configurations, for a reload.
//!
//! Pure: the text comes in as a string, files of tags through a function that is handed in, and no path is opened here.

mod address;
mod channel;
mod checked;
mod demotion;
mod dial;
mod difference;
mod document;
mod export;
mod fault;
mod import;
mod link;
mod locations;
mod names;
mod network;
mod recorder;
mod redial;
mod requests;
mod resolve;
mod rows;
mod secret;
mod section;
mod server_url;
mod sink;
mod sink_mqtt;
mod sink_nats;
mod sink_postgres;
mod spelling;
mod tag;
mod tags_files;
mod units;

use std::path::PathBuf;

use toml::de::DeTable;

pub use address::{Connect, Identity, Listen, Parity, SerialLine, Tls, Transport};
pub use checked::{
    Access, Bounds, Channel, CompileLimits, Device, DriverPath, Group, Health, Heartbeat, Host,
    Http, Limits, Link, OnRestart, OutboxLimits, Overflow, Part, Rate, Recorder, Report, Requests,
    Restart, RestartMode, Rotation, Sink, SinkKind, Tag, Treatment, WhileDown,
};
pub use dial::DialRange;
pub use difference::{ChannelDifference, Difference, Items, is_same_tag, is_same_way};
pub use document::MAX_BYTES;
pub use export::TagTable;
pub use fault::{Fault, Faults, Position};
pub use import::{Import, ImportError, Spot, TagsFileUser};
pub use locations::{Locations, Place};
pub use network::Network;
pub use secret::{NoSecret, Secret};
pub use sink_mqtt::{MqttSink, MqttVersion, Qos, TopicPart, WriteLevel};
pub use sink_nats::{NatsLogin, NatsSink, Subject};
pub use sink_postgres::{PostgresSink, Table};
pub use tags_files::{ReadTagsFile, TagsFile};
pub use units::{parse_size, show_size};

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

/// Reads and checks a configuration that names no files of tags; one that does is at fault. See [`parse_with_files`].
pub fn parse(text: &str, origin: &Origin) -> Result<Checked<Host>, Faults> {
    parse_with_files(text, origin, &|_| {
        Err(std::io::Error::other("there are no files here"))
    })
}

/// Reads and checks a whole configuration, of at most 16 MiB, with the files of tags that it names. Reports every fault at once. Where
/// TOML's own syntax is at fault, only that is reported, since the rest of such a file cannot be known; all of it up to 1 MiB, beyond
/// that the first.
pub fn parse_with_files(
    text: &str,
    origin: &Origin,
    read: &ReadTagsFile<'_>,
) -> Result<Checked<Host>, Faults> {
    let findings = document::Findings::new(&origin.name, text);
    let tree = document::read(text, &findings);
    resolved(text, origin, tree, findings, read)
}

/// Goes on with the tree of a text; without one, the findings say why.
fn resolved(
    text: &str,
    origin: &Origin,
    tree: Option<DeTable<'_>>,
    findings: document::Findings<'_>,
    read: &ReadTagsFile<'_>,
) -> Result<Checked<Host>, Faults> {
    let texts = match &tree {
        Some(tree) => tags_files::Texts::read(tree, &origin.folder, read),
        None => tags_files::Texts::default(),
    };
    let host = {
        let files = tags_files::TagsFiles::new(&texts, &findings);
        tree.as_ref()
            .map(|tree| resolve::host(tree, origin, &findings, &files))
    };
    match (host, findings.into_faults()) {
        (_, Some(faults)) => Err(faults),
        (Some(value), None) => Ok(Checked {
            value,
            locations: Locations::new(origin, text, texts),
        }),
        (None, None) => unreachable!("a text without a tree has been reported"),
    }
}

#[cfg(test)]
mod tests;
