//! The shapes of the API's JSON. They are the API's own: what the host uses within may change without them.
//!
//! Times come twice, as `sink::record` says. Fields may be added later; readers skip those that they do not know.

mod devices;
mod links;
mod outbox;
mod reload;
mod requests;
mod sinks;
mod stream;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use devices::{Device, DeviceLock, Devices};
pub use links::{
    LinkConnection, LinkDetail, LinkHistory, LinkPage, LinkPast, LinkPolicy, LinkReconnect,
    LinkStatistics, LinkSummary, LinkTest, LinkTestRequest, LinkTestStep,
};
pub use outbox::{Outbox, OutboxDetail, OutboxList, OutboxMark, OutboxPurged};
pub use reload::{Reload, ReloadRequest};
pub use requests::{
    Command, CommandAccepted, CommandCancelled, CommandDone, CommandProgress, CommandRequest,
    CommandUnderWay, Commands, DeadLetter, DeadLetterDetail, DeadLetterPage,
};
pub use sinks::{Sink, SinkConnection};
pub use stream::{ChannelEvent, Gap, Happened, Streams};

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// For programs: `no-such-tag`, `not-running`, ...
    pub code: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// What kind of failure it is, where the driver or the device said no: the quality that a sample would have, such as
    /// `bad-timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// The protocol's own code, where the device refused and the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_code: Option<u32>,
    /// For the driver's author, where the driver refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Where a configuration was refused: what `bulkhead check --json` says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<Box<serde_json::Value>>,
    /// When to ask again at the earliest, where it was asked too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

/// The body of every answer that is a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// The refusal.
    pub error: Error,
}

/// How the host is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The host's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: String,
    /// The same, as a number.
    pub started_at_ns: u64,
    /// For how long it has run.
    pub uptime_ms: u64,
    /// How many channels are in which state. States without a channel are left out.
    pub channels: BTreeMap<String, usize>,
    /// Of all channels.
    pub tags: TagCounts,
    /// In the configuration's order.
    pub sinks: Vec<Sink>,
    /// Who reads the stream.
    pub streams: Streams,
}

/// Whether the host itself is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Whether it is.
    pub live: bool,
    /// Channels whose task hangs in the host's own code; at most 100.
    pub hanging: Vec<Hanging>,
}

/// A channel whose task hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hanging {
    /// The channel.
    pub channel: String,
    /// How much longer than it may its work has taken.
    pub late_ms: u64,
}

/// Whether every channel that should run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether they all do.
    pub ready: bool,
    /// How many channels are running.
    pub running: usize,
    /// The others, in the configuration's order; at most 100.
    pub not_running: Vec<NotRunning>,
    /// How many more there are.
    pub left_off: usize,
}

/// A channel that is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRunning {
    /// The channel.
    pub channel: String,
    /// `degraded`, `broken`, ...
    pub state: String,
    /// Whether that keeps the host from being ready.
    pub missing: bool,
    /// Why it is in that state.
    pub reason: String,
    /// When it is tried again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ns: Option<u64>,
}

/// How many tags there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagCounts {
    /// Those whose quality is good at this moment.
    pub good: usize,
    /// All of them.
    pub total: usize,
}

/// A page of channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelPage {
    /// In the configuration's order.
    pub channels: Vec<Channel>,
    /// What to ask with for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A channel in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub id: String,
    /// The component, as the configuration writes it.
    pub driver: String,
    /// `running`, `backoff`, ...
    pub state: String,
    /// Why, in one sentence.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// The same, as a number.
    pub since_ns: u64,
    /// The present or last life; 0 before the first.
    pub incarnation: u64,
    /// Restarts that its policy has spent.
    pub attempts: u32,
    /// When the next life begins by itself, in `backoff` and `broken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ns: Option<u64>,
    /// Its tags.
    pub tags: TagCounts,
    /// Its links.
    pub links: Vec<Link>,
    /// Reads, writes and commands that wait for a link to come up again.
    #[serde(default)]
    pub waiting: usize,
}

/// Everything that is known of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelDetail {
    /// As in a list.
    #[serde(flatten)]
    pub channel: Channel,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Its poll groups.
    pub groups: Vec<Group>,
    /// The last end that nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
    /// What it has done since the host started.
    pub counters: BTreeMap<String, u64>,
    /// What it has done since it was first seen, over restarts of the host.
    pub statistics: Statistics,
}

/// What a channel has done since it was first seen. After a crash of the host the last minute may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// When it was first seen.
    pub since: String,
    /// The same, as a number.
    pub since_ns: u64,
    /// Lives that have begun.
    pub lives: u64,
    /// How many of them ended how. Kinds that never came are left out.
    pub exits: BTreeMap<String, u64>,
    /// For how long it was `running` or `degraded`.
    pub running_ms: u64,
    /// Fuel of all turns.
    pub fuel: u64,
    /// Fuel of the last turn since the host started.
    pub fuel_last_turn: u64,
    /// The most fuel of one turn.
    pub fuel_max_turn: u64,
    /// The most memory that a life held.
    pub peak_memory_bytes: u64,
    /// How long turns took.
    pub turn_latency: Latency,
}

/// How long turns took, as far as buckets know it that are each twice as wide as the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many turns.
    pub turns: u64,
    /// Half of them were shorter than this; `null` without turns, or where it is longer than the longest bucket.
    pub p50_ns: Option<u64>,
    /// 99 % of them were shorter than this.
    pub p99_ns: Option<u64>,
    /// 99.9 % of them were shorter than this.
    pub p999_ns: Option<u64>,
    /// Those that are not empty, the shortest first.
    pub buckets: Vec<Bucket>,
}

/// Turns of about the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// They were shorter than this, and not shorter than half of it; `null` for all that were longer than that.
    pub below_ns: Option<u64>,
    /// How many.
    pub turns: u64,
}

/// The last things that happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The channel.
    pub channel: String,
    /// The oldest first; at most 100.
    pub events: Vec<Past>,
    /// Older ones that made room.
    pub dropped: u64,
    /// Those that were found damaged, and were set aside.
    pub unreadable: u64,
    /// Whether everything that has happened is on the disk, and therefore here. False where the disk is too slow or away.
    pub durable: bool,
}

/// Something that happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Ascends from 1.
    pub number: u64,
    /// When.
    pub at: String,
    /// The same, as a number.
    pub at_ns: u64,
    /// In which of its lives.
    pub incarnation: u64,
    /// What.
    #[serde(flatten)]
    pub what: PastWhat,
}

/// What happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PastWhat {
    /// Its running state changed.
    State {
        /// The state before.
        from: String,
        /// The state since.
        state: String,
        /// The cause.
        reason: String,
    },
    /// A life ended that nobody had asked to.
    Exit {
        /// `trapped`, `out-of-fuel`, ...
        exit: String,
        /// In which call.
        during: String,
        /// What happened, in one sentence.
        message: String,
    },
    /// The host noticed something that an operator should know.
    Warning {
        /// In one sentence.
        message: String,
    },
}

/// A link of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub connect: String,
    /// Whether what its driver opened is up.
    pub up: bool,
    /// Whether its driver has opened a connection over it.
    pub wanted: bool,
    /// The peer, or why it is down.
    pub detail: String,
}

/// A poll group of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its period.
    pub period_ms: u64,
    /// How many tags it has.
    pub tags: usize,
    /// How punctual its polls are, since the channel took up its configuration.
    #[serde(default)]
    pub punctuality: Punctuality,
}

/// How punctual the polls of a group are. Quantiles are at most twice too long; they are absent where nothing was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punctuality {
    /// Polls handed to the driver.
    pub polls: u64,
    /// Moments of the schedule without a poll: the one before was not done, or the host was late.
    pub skipped: u64,
    /// Requests that the driver made for them.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long after its moment half of them were handed out, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation_p50_ns: Option<u64>,
    /// How long after its moment 99 of 100 were handed out, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation_p99_ns: Option<u64>,
    /// How long after its moment any was handed out, at most.
    pub deviation_most_ns: u64,
    /// All of them by how late they were, those that are not empty, the most punctual first.
    #[serde(default)]
    pub deviations: Vec<Deviations>,
    /// How long half of them took, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_p50_ns: Option<u64>,
    /// How long 99 of 100 took, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_p99_ns: Option<u64>,
    /// The mean time from request to answer of the last poll that had any, as the driver says; 0 where none had.
    pub round_trip_ns: u64,
}

/// Polls that were about equally late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviations {
    /// They were handed out within this after their moment, and not within half of it; `null` for all that were later than that.
    pub below_ns: Option<u64>,
    /// How many.
    pub polls: u64,
}

/// The end of a life that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// When.
    pub at: String,
    /// The same, as a number.
    pub at_ns: u64,
    /// Which life.
    pub incarnation: u64,
    /// How.
    #[serde(flatten)]
    pub exit: Exit,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Whose life it was: `wasm/press-3#7`.
    pub instance: String,
    /// `trapped`, `out-of-fuel`, ...
    pub exit: String,
    /// In which call: `start`, `configure`, `turn` or `idle`.
    pub during: String,
    /// What happened, in one sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The fuel that the last call had used, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// The file on the host that `bulkhead replay` repeats it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The driver's stack, innermost first.
    pub backtrace: Vec<Frame>,
    /// What it was told in the turn in which it ended; at most 16.
    #[serde(default)]
    pub events: Vec<Told>,
    /// How many more there were.
    #[serde(default)]
    pub events_left_out: usize,
}

/// One event of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `poll`, `received`, ...
    pub event: String,
    /// What it was about.
    pub target: String,
}

/// One function on a driver's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// `file:line:column`, where the driver carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A page of tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagPage {
    /// In the configuration's order, channel by channel.
    pub tags: Vec<Tag>,
    /// What to ask with for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A tag and its last value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// Its channel.
    pub channel: String,
    /// Its name.
    pub tag: String,
    /// The device that holds it.
    pub device: String,
    /// Its type at the device, such as `int16` or `float32[8]`.
    pub data_type: String,
    /// `r`, `w` or `rw`.
    pub access: String,
    /// Such as `bar`; may be empty.
    pub unit: String,
    /// The last value that was read; `null` before the first.
    pub value: serde_json::Value,
    /// How far it can be trusted.
    pub quality: String,
    /// Why it is not good, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the device took the value, if the protocol says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_time: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_time_ns: Option<u64>,
    /// When the host received the value, or changed its quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time_ns: Option<u64>,
}

/// Everything that is known of a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagDetail {
    /// As in a list.
    #[serde(flatten)]
    pub tag: Tag,
    /// In the protocol's own syntax.
    pub address: String,
    /// For people; may be empty.
    pub description: String,
    /// The poll group, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The group's period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// `value = raw * scale + offset`.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Which bits of the raw value are the tag's, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Which one bit is, from 0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit: Option<u8>,
    /// What lies beyond is shown as the nearer of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp: Option<[f64; 2]>,
    /// What lies beyond is uncertain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<[f64; 2]>,
    /// `always`, `change`, `interval` or `both`.
    pub report: String,
    /// The smallest change that counts.
    pub deadband: f64,
    /// How often it is reported whether or not it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// After how long without a report the next sample is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_silence_ms: Option<u64>,
    /// The shortest time between two writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_interval_ms: Option<u32>,
    /// Why the tag is as it is: from the host down to the tag.
    pub reasons: Vec<String>,
}

/// What `read` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// Default 5,000; 1 to 300,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What reading many tags takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadManyRequest {
    /// Written `channel/tag`; 1 to 1,000.
    pub tags: Vec<String>,
    /// Default 5,000; 1 to 300,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What was read from the device, just now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The channel.
    pub channel: String,
    /// The tag.
    pub tag: String,
    /// `null` if there is none.
    pub value: serde_json::Value,
    /// The unit; may be empty.
    pub unit: String,
    /// How far it can be trusted.
    pub quality: String,
    /// When the device took it, if the protocol says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_time: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_time_ns: Option<u64>,
    /// When the host received it.
    pub server_time: String,
    /// The same, as a number.
    pub server_time_ns: u64,
}

/// What became of one of many tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReadResult {
    /// It was read.
    Done(Reading),
    /// It was not.
    Failed {
        /// As it was asked for.
        reference: String,
        /// Why.
        error: Error,
    },
}

/// What became of many tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadManyAnswer {
    /// In the order asked for.
    pub results: Vec<ReadResult>,
}

/// What `write` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    /// In the tag's units.
    pub value: serde_json::Value,
    /// Whether to read the tag afterwards. Default false.
    #[serde(default)]
    pub read_back: bool,
    /// Default 5,000; 1 to 300,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Who writes, for the audit log: at most 64 bytes, unchecked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One of many writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteOf {
    /// Written `channel/tag`.
    pub tag: String,
    /// In the tag's units.
    pub value: serde_json::Value,
}

/// What `write` of many tags takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteManyRequest {
    /// 1 to 1,000; those of one channel are done in this order.
    pub writes: Vec<WriteOf>,
    /// Whether to read each tag afterwards. Default false.
    #[serde(default)]
    pub read_back: bool,
    /// For each. Default 5,000; 1 to 300,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Who writes, for the audit log: at most 64 bytes, unchecked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What became of one of many writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WriteResult {
    /// The device has taken it.
    Done(Written),
    /// It has not, or nobody knows.
    Failed {
        /// As it was asked for.
        reference: String,
        /// Why.
        error: Error,
    },
}

/// What became of many writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriteManyAnswer {
    /// In the order asked for.
    pub results: Vec<WriteResult>,
}

/// What was written last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The newest first.
    pub entries: Vec<crate::audit::Entry>,
    /// What to give as `before` for those that came earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_before: Option<u64>,
}

/// The device has taken a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The channel.
    pub channel: String,
    /// The tag.
    pub tag: String,
    /// What was written, in the tag's units.
    pub value: serde_json::Value,
    /// What the device held afterwards, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_back: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_as_they_are_written() {
        let exit = Exit {
            instance: "wasm/press-3#7".into(),
            exit: "trapped".into(),
            during: "turn".into(),
            message: "unreachable".into(),
            remedy: "report it".into(),
            fuel: None,
            bundle: None,
            backtrace: vec![Frame {
                function: "poll".into(),
                source: None,
            }],
            events: vec![Told {
                event: "timer".into(),
                target: "timer 3".into(),
            }],
            events_left_out: 2,
        };
        let event = ChannelEvent {
            channel: "press-3".into(),
            incarnation: 7,
            at: "1970-01-01T00:00:00.000000001Z".into(),
            at_ns: 1,
            what: Happened::Exit(exit),
        };
        let json = serde_json::to_string(&event).unwrap();
        let expected = "{\"channel\":\"press-3\",\"incarnation\":7,\"at\":\"1970-01-01T00:00:00.000000001Z\",\"at_ns\":1,\
                        \"kind\":\"exit\",\"instance\":\"wasm/press-3#7\",\"exit\":\"trapped\",\"during\":\"turn\",\"message\":\"unreachable\",\
                        \"remedy\":\"report it\",\"backtrace\":[{\"function\":\"poll\"}],\
                        \"events\":[{\"event\":\"timer\",\"target\":\"timer 3\"}],\"events_left_out\":2}";
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<ChannelEvent>(&json).unwrap(), event);
    }

    #[test]
    fn what_is_asked_is_read_strictly_and_to_the_last_digit() {
        let read = |json: &str| serde_json::from_str::<WriteRequest>(json);
        let exact = read("{\"value\":18446744073709551615}").unwrap();
        assert_eq!(
            (exact.value.as_u64(), exact.read_back),
            (Some(u64::MAX), false)
        );
        // Digits that a hasty parser rounds the wrong way.
        let hard = read("{\"value\":122.416294033786585}").unwrap();
        assert_eq!(
            hard.value.as_f64(),
            Some("122.416294033786585".parse().unwrap())
        );
        assert!(
            read("{\"value\":1,\"readback\":true}").is_err(),
            "a misspelt key must not be taken for its absence"
        );
        assert!(read("{}").is_err());
    }
}
