//! What a replay has shown.

use serde::Serialize;

use crate::exit::{Exit, ExitKind};
use crate::recorder::{ExitRecord, FrameRecord};

/// What a replay has shown, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same driver ended the same.
    Reproduced,
    /// The same driver ended otherwise, or not at all.
    NotReproduced,
    /// Another driver took the whole recording without a fault.
    Holds,
    /// Another driver faults too.
    Faults,
}

impl Verdict {
    /// As the JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::NotReproduced => "not-reproduced",
            Verdict::Holds => "holds",
            Verdict::Faults => "faults",
        }
    }
}

/// An end, and where it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ending {
    /// `trapped`, `out-of-fuel`, ...
    pub exit: String,
    /// In which call.
    pub during: String,
    /// What happened, in one sentence.
    pub message: String,
    /// The fuel that the last call had used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// In which turn, counted from 1; 0 before the first.
    pub turn: u64,
    /// The events of that turn.
    pub events: Vec<String>,
    /// The guest's stack, innermost first.
    pub backtrace: Vec<FrameRecord>,
}

impl Ending {
    /// Whether the incarnation ended in order: a session that was kept, and no crash.
    pub fn in_order(&self) -> bool {
        [ExitKind::Stopped, ExitKind::Finished]
            .iter()
            .any(|kind| kind.as_str() == self.exit)
    }

    pub(super) fn new(exit: &Exit, turn: u64, events: Vec<String>) -> Self {
        let record = ExitRecord::new(exit);
        Self {
            exit: record.kind,
            during: record.during,
            message: record.message,
            fuel: record.fuel,
            turn,
            events,
            backtrace: record.backtrace,
        }
    }
}

/// Where a replay first went another way than the recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// `start`, `configure` or `turn N`.
    pub at: String,
    /// What was recorded: fuel, and how many actions.
    pub recorded: String,
    /// What came now.
    pub replayed: String,
}

/// What a replay has shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// In one word.
    pub verdict: Verdict,
    /// Whether the recording lacks its middle.
    pub best_effort: bool,
    /// Whether the driver is the one that crashed, by its digest.
    pub same_driver: bool,
    /// Turns that were replayed, and those that were recorded.
    pub turns: u64,
    /// Of how many.
    pub turns_recorded: u64,
    /// The end that was recorded.
    pub recorded: Ending,
    /// The end that came now, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Ending>,
    /// Where they first differ, other than in their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    /// What to keep in mind, each in one sentence.
    pub notes: Vec<String>,
}
