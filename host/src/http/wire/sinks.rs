//! How sinks are.

use serde::{Deserialize, Serialize};

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// `stdout`, `file`, `mqtt`, `postgres` or `nats`.
    pub kind: String,
    /// Samples that it has delivered since the host started.
    pub written_samples: u64,
    /// Samples that it delivers per second, over the last ten seconds.
    #[serde(default)]
    pub rate_per_s: u64,
    /// Samples that wait for it.
    #[serde(default)]
    pub lag_samples: u64,
    /// How long the oldest of them has waited.
    #[serde(default)]
    pub lag_ms: u64,
    /// Samples that its peer will never take.
    #[serde(default)]
    pub refused_samples: u64,
    /// Whether an outbox stands before it.
    #[serde(default)]
    pub outbox: bool,
    /// How the connection to its server is, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<SinkConnection>,
    /// Messages (batches and events) that found its queue full.
    pub dropped_messages: u64,
    /// The samples in them.
    pub dropped_samples: u64,
    /// Why it cannot write at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How the connection of a sink to its server is. Numbers count since the host started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkConnection {
    /// Whether there was one when it was used last.
    pub connected: bool,
    /// Those that came up.
    pub connections: u64,
    /// Messages that were sent, those that were sent again too.
    pub messages: u64,
    /// Those of them that the server acknowledged one by one.
    pub acknowledged: u64,
    /// Rows or messages that the server had already.
    pub duplicates: u64,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
