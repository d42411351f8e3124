//! Outboxes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All outboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxList {
    /// In the order of the sinks in the configuration; those without one are left out.
    pub outboxes: Vec<Outbox>,
}

/// The outbox of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// The sink's name.
    pub sink: String,
    /// Its kind.
    pub kind: String,
    /// Samples that wait.
    pub samples: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// How long the oldest has waited, while a host ran.
    pub oldest_ms: u64,
    /// How long one may.
    pub max_age_ms: u64,
    /// What happens where there is no room: `block`, `drop-oldest` or `drop-newest`.
    pub overflow: String,
    /// Samples accepted, since the file began.
    pub accepted_samples: u64,
    /// Samples that the sink has acknowledged, since the file began.
    pub delivered_samples: u64,
    /// Samples dropped, by reason, since the file began.
    pub dropped_samples: BTreeMap<String, u64>,
    /// Samples that were never accepted, since the host started.
    pub missed_samples: u64,
    /// Whether it accepts samples at the moment.
    pub accepting: bool,
    /// The file.
    pub file: String,
    /// Why it does not accept or the sink does not deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// An outbox, and how far each channel has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxDetail {
    /// The outbox.
    #[serde(flatten)]
    pub outbox: Outbox,
    /// By name.
    pub channels: Vec<OutboxMark>,
}

/// How far a channel has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMark {
    /// The channel.
    pub channel: String,
    /// Epoch of the last sample accepted.
    pub accepted_epoch: u64,
    /// Its number: everything up to it is on the disk, or was.
    pub accepted_sequence: u64,
    /// Epoch of the last sample that the sink has acknowledged; 0 if there is none.
    pub acknowledged_epoch: u64,
    /// Its number.
    pub acknowledged_sequence: u64,
}

/// What an outbox was emptied of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxPurged {
    /// Samples that will not be delivered.
    pub samples: u64,
}
