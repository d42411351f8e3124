//! Commands, and the events that are kept away from their drivers.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The commands of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commands {
    /// The channel.
    pub channel: String,
    /// Those that its driver lists. A driver that lists none may take any.
    pub offered: Vec<Command>,
    /// In the order in which they were given.
    pub under_way: Vec<CommandUnderWay>,
}

/// A command that a driver offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// What it does, takes and answers, in the driver's words.
    pub help: String,
    /// JSON Schema of the payload; absent where that is bytes of no stated form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_schema: Option<Json>,
    /// JSON Schema of the answer; absent where that is bytes of no stated form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_schema: Option<Json>,
    /// Whether it may change anything at a device, or at how the driver goes on.
    pub changes: bool,
}

/// A command that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandUnderWay {
    /// Its number.
    pub request: u64,
    /// Its name.
    pub command: String,
    /// When it was given.
    pub since: String,
    /// The same, as a number.
    pub since_ns: u64,
    /// How long it may take.
    pub timeout_ms: u64,
    /// What the driver has said of it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<CommandProgress>,
}

/// How far a command has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandProgress {
    /// From 0 to 1.
    pub fraction: f32,
    /// In the driver's words.
    pub message: String,
}

/// What a command takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// Any JSON: its text is what the driver gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// Any bytes, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Default 30,000; 1 to 300,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A command is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAccepted {
    /// The channel.
    pub channel: String,
    /// The command.
    pub command: String,
    /// Its number, by which it can be taken back.
    pub request: u64,
}

/// A command was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandDone {
    /// The channel.
    pub channel: String,
    /// The command.
    pub command: String,
    /// Its number.
    pub request: u64,
    /// The answer, where it is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// The answer, where it is anything else. Neither is there where it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

/// A command was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCancelled {
    /// The channel.
    pub channel: String,
    /// Its number.
    pub request: u64,
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// Channel by channel in the configuration's order, the oldest first.
    pub dead_letters: Vec<DeadLetter>,
    /// What to ask with for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An event that is kept away from its driver, since it ended the driver each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The channel.
    pub channel: String,
    /// Its number within the channel.
    pub number: u64,
    /// `poll`, `received`, `read`, `write`, `command` or `started`.
    pub kind: String,
    /// The group, link, tag or command; `saved state`.
    pub target: String,
    /// How many bytes the event carries.
    pub length: u64,
    /// Of them, in hexadecimal digits.
    pub sha256: String,
    /// Since when it is kept away.
    pub at: String,
    /// The same, as a number.
    pub at_ns: u64,
    /// The last life that it ended.
    pub incarnation: u64,
    /// How many it ended.
    pub faults: u32,
    /// How the last one ended: `trapped`, ...
    pub exit: String,
    /// The same, in one sentence.
    pub message: String,
}

/// A dead letter, with what its event carried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterDetail {
    /// As in a list.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Its bytes, or the first of them.
    pub payload_base64: String,
    /// Whether these are all.
    pub whole: bool,
    /// What keeping it away means.
    pub effect: String,
    /// What `retry` does.
    pub retry: String,
    /// What `drop` does.
    pub drop: String,
}
