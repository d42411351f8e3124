//! The shapes of links.

use serde::{Deserialize, Serialize};

/// A page of links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPage {
    /// In the configuration's order.
    pub links: Vec<LinkSummary>,
    /// What to ask with for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A link in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkSummary {
    /// Its channel.
    pub channel: String,
    /// Its name.
    pub link: String,
    /// Where it leads.
    pub connect: String,
    /// `disconnected`, `connecting`, `connected`, `reconnecting` or `failed`: that of the connection that is worst off.
    pub state: String,
    /// Why it is down, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who is at the other end, where it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Since when it is in its state, where its driver wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ns: Option<u64>,
    /// Redials in a row without a connection that held.
    pub attempts: u32,
    /// After so many it is failed; absent for no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// When the next redial begins or began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ns: Option<u64>,
}

/// All that is known of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkDetail {
    /// As in a list.
    #[serde(flatten)]
    pub link: LinkSummary,
    /// The connections that its driver has opened over it, and those that devices have.
    pub connections: Vec<LinkConnection>,
    /// When it is dialled again, and when its peer is taken for lost.
    pub policy: LinkPolicy,
    /// What it did since it was first seen.
    pub statistics: LinkStatistics,
}

/// A connection over a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkConnection {
    /// Its number.
    pub connection: u32,
    /// As of a link.
    pub state: String,
    /// Since when.
    pub since: String,
    /// The same, as a number.
    pub since_ns: u64,
    /// Who is at the other end, where it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Why it is down, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The keys of the configuration by which a link is dialled again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPolicy {
    /// How long a dial may take.
    pub connect_timeout_ms: u64,
    /// Before the first redial.
    pub base_delay_ms: u64,
    /// The longest delay.
    pub max_delay_ms: u64,
    /// How long a connection must be up for the attempts to count anew.
    pub steady_after_ms: u64,
    /// Silence after which the peer is asked for a sign of life.
    pub heartbeat_interval_ms: u64,
    /// Silence after which it is lost.
    pub lost_after_ms: u64,
}

/// What a link did since it was first seen, over restarts of its driver and of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatistics {
    /// Since when.
    pub since: String,
    /// The same, as a number.
    pub since_ns: u64,
    /// Dials that were begun.
    pub dials: u64,
    /// Dials that led to nothing.
    pub failed_dials: u64,
    /// Streams that came up.
    pub streams: u64,
    /// For how long a stream was up, of all connections together.
    pub up_ms: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// When a byte came in last, since the host started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ns: Option<u64>,
    /// How long the last dial took that led to a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_ns: Option<u64>,
    /// Probes of the driver's own that it sent.
    pub probes_sent: u64,
    /// Those that were answered.
    pub probes_answered: u64,
    /// The round trip of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ns: Option<u64>,
    /// The mean of the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_mean_ns: Option<u64>,
    /// Whether they are answered, where the driver probes and the link is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
}

/// The last things that happened to a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkHistory {
    /// The channel.
    pub channel: String,
    /// The link.
    pub link: String,
    /// The oldest first.
    pub events: Vec<LinkPast>,
    /// Older ones that made room for these.
    pub dropped: u64,
    /// Those that were damaged and set aside.
    pub unreadable: u64,
    /// Those since the last one here that came too fast for the disk.
    pub left_out: u64,
    /// Whether the newest are among them: the disk has taken all.
    pub durable: bool,
}

/// Something that happened to a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPast {
    /// Ascends from 1.
    pub number: u64,
    /// When.
    pub at: String,
    /// The same, as a number.
    pub at_ns: u64,
    /// In which life of the channel; 0 where in none.
    pub incarnation: u64,
    /// On which connection, where on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u32>,
    /// `connected`, `disconnected`, `reconnecting`, `reconnected`, `error`, `health-check` or `configuration-changed`.
    pub event: String,
    /// Why, in one sentence.
    pub cause: String,
    /// So many before this one came too fast for the disk.
    #[serde(default)]
    pub left_out: u64,
}

/// How a link is to be tested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTestRequest {
    /// Dial a connection of its own even if the link is up.
    #[serde(default)]
    pub dial: bool,
}

/// What a test of a link found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkTest {
    /// The channel.
    pub channel: String,
    /// The link.
    pub link: String,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Whether a connection of its own was dialled; otherwise the present one was looked at.
    pub dialled: bool,
    /// In order; the last one failed, where one did.
    pub steps: Vec<LinkTestStep>,
}

/// A step of a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkTestStep {
    /// `grant`, `resolve`, `connect`, `round-trip`, `connection` or `heartbeat`.
    pub step: String,
    /// Whether it went well.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// What to do, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// How long it took.
    pub took_ns: u64,
}

/// An operator's redial is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkReconnect {
    /// The channel.
    pub channel: String,
    /// The link.
    pub link: String,
    /// How many connections are dialled anew.
    pub connections: usize,
}
