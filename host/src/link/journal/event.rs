//! Events of a link's history, and how they stand on the disk.

use serde::{Deserialize, Serialize};

use crate::event::WallNs;
use crate::store::{List, Listed, Owner, Store, StoreError};

/// Events that are kept of each link.
pub const MAX_EVENTS: u64 = 100;
/// The longest cause that is kept, in bytes.
const MAX_CAUSE: usize = 512;

static EVENTS: List = List {
    table: "list:link_events",
    version: 1,
    max_bytes: 4 * 1_024,
    max_records: MAX_EVENTS,
};

/// What may happen to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The first stream since the driver opened the connection.
    Connected,
    /// A stream ended.
    Disconnected,
    /// It is down, and dialled again.
    Reconnecting,
    /// A stream after one that was lost, or after dials that failed.
    Reconnected,
    /// A dial failed for another reason than the one before, or the attempts are spent.
    Error,
    /// The driver's heartbeat began to be answered, or was not answered for too long.
    HealthCheck,
    /// The host started with another configuration of the link than before.
    ConfigurationChanged,
}

impl EventKind {
    /// The name, as every interface of the host writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Connected => "connected",
            EventKind::Disconnected => "disconnected",
            EventKind::Reconnecting => "reconnecting",
            EventKind::Reconnected => "reconnected",
            EventKind::Error => "error",
            EventKind::HealthCheck => "health-check",
            EventKind::ConfigurationChanged => "configuration-changed",
        }
    }
}

/// Something that happened to a link, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPast {
    /// Ascends from 1; a gap is an event that could not be read.
    pub number: u64,
    /// When.
    pub at: WallNs,
    /// In which life of the channel; 0 where it was in none.
    pub incarnation: u64,
    /// On which connection, where on one.
    pub connection: Option<u32>,
    /// What.
    pub kind: EventKind,
    /// The cause, in one sentence.
    pub cause: String,
    /// So many events before this one were left out, since they came too fast for the disk.
    pub left_out: u64,
}

/// A link's history as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkHistory {
    /// The oldest first.
    pub events: Vec<LinkPast>,
    /// Older ones that have been dropped to make room.
    pub dropped: u64,
    /// Those that were found and could not be read.
    pub unreadable: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OnDisk {
    pub(super) at_ns: u64,
    pub(super) incarnation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<u32>,
    pub(super) kind: EventKind,
    pub(super) cause: String,
    #[serde(default)]
    pub(super) left_out: u64,
}

impl OnDisk {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers have JSON")
    }
}

/// The list in which the events stand.
pub(super) fn list() -> &'static List {
    &EVENTS
}

/// A cause as it is kept: one line, and not without end.
pub(super) fn cause(text: &str) -> String {
    crate::text::shown(text, MAX_CAUSE)
}

/// Reads a link's history. Blocks for as long as the disk takes.
pub(super) fn read(store: &Store, owner: &Owner) -> Result<LinkHistory, StoreError> {
    let Listed {
        entries,
        dropped,
        set_aside,
    } = store.list(&EVENTS, owner)?;
    let mut history = LinkHistory {
        events: Vec::with_capacity(entries.len()),
        dropped,
        unreadable: set_aside,
    };
    for entry in entries {
        match serde_json::from_slice::<OnDisk>(&entry.payload) {
            Ok(past) => history.events.push(LinkPast {
                number: entry.number,
                at: WallNs(past.at_ns),
                incarnation: past.incarnation,
                connection: past.connection,
                kind: past.kind,
                cause: past.cause,
                left_out: past.left_out,
            }),
            Err(_damage) => history.unreadable += 1,
        }
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_cause_fits_a_record() {
        for worst in [
            "\u{1}".repeat(100_000),
            "\"".repeat(100_000),
            "ä".repeat(9_000),
        ] {
            let on_disk = OnDisk {
                at_ns: u64::MAX,
                incarnation: u64::MAX,
                connection: Some(u32::MAX),
                kind: EventKind::ConfigurationChanged,
                cause: cause(&worst),
                left_out: u64::MAX,
            };
            let payload = on_disk.encode();
            assert!(payload.len() < EVENTS.max_bytes, "{}", payload.len());
            let read: OnDisk = serde_json::from_slice(&payload).unwrap();
            assert_eq!((read.kind, read.cause), (on_disk.kind, on_disk.cause));
        }
    }

    #[test]
    fn kinds_are_written_as_they_are_named() {
        use EventKind::*;
        for kind in [
            Connected,
            Disconnected,
            Reconnecting,
            Reconnected,
            Error,
            HealthCheck,
            ConfigurationChanged,
        ] {
            let written = serde_json::to_value(kind).unwrap();
            assert_eq!(written, kind.as_str());
        }
    }
}
