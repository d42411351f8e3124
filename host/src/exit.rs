//! How an incarnation ends: a value, not a string.
//!
//! Every end has a kind, a plain sentence, a remedy and, where the guest was running, its backtrace. Pure: what
//! wasmtime says is turned into an [`Exit`] at the edge that calls it (`driver`).

use std::fmt;

use crate::restart::ExitClass;

/// The kind of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitKind {
    /// The driver said `stopped` without being asked.
    Finished,
    /// The operator or the host asked it to stop, and it did, or was dropped at the deadline.
    Stopped,
    /// A wasm trap: unreachable code, a division by zero, an access out of bounds, a broken ABI.
    Trapped,
    /// It used more fuel than one call may.
    OutOfFuel,
    /// One call took longer than it may.
    DeadlineExceeded,
    /// It was refused memory and could not go on.
    OutOfMemory,
    /// What it asked for could not be meant, or is not allowed.
    Refused,
    /// It returned an error from `turn`.
    DriverError,
    /// It took its turns, and answered no health check.
    Unresponsive,
    /// It did not take its configuration, or is no driver for this host. No restart can mend that.
    Misconfigured,
    /// The host itself failed in this channel's task.
    HostFault,
}

impl ExitKind {
    /// Every kind.
    pub const ALL: &'static [ExitKind] = &[
        ExitKind::Finished,
        ExitKind::Stopped,
        ExitKind::Trapped,
        ExitKind::OutOfFuel,
        ExitKind::DeadlineExceeded,
        ExitKind::OutOfMemory,
        ExitKind::Refused,
        ExitKind::DriverError,
        ExitKind::Unresponsive,
        ExitKind::Misconfigured,
        ExitKind::HostFault,
    ];

    /// The name in logs, in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            ExitKind::Finished => "finished",
            ExitKind::Stopped => "stopped",
            ExitKind::Trapped => "trapped",
            ExitKind::OutOfFuel => "out-of-fuel",
            ExitKind::DeadlineExceeded => "deadline-exceeded",
            ExitKind::OutOfMemory => "out-of-memory",
            ExitKind::Refused => "refused",
            ExitKind::DriverError => "driver-error",
            ExitKind::Unresponsive => "unresponsive",
            ExitKind::Misconfigured => "misconfigured",
            ExitKind::HostFault => "host-fault",
        }
    }

    /// What the restart policy makes of it; `None` for an end that somebody asked for.
    pub const fn class(self) -> Option<ExitClass> {
        match self {
            ExitKind::Stopped => None,
            ExitKind::Finished => Some(ExitClass::Finished),
            ExitKind::Trapped
            | ExitKind::OutOfFuel
            | ExitKind::DeadlineExceeded
            | ExitKind::OutOfMemory
            | ExitKind::Refused
            | ExitKind::DriverError
            | ExitKind::Unresponsive
            | ExitKind::HostFault => Some(ExitClass::Faulted),
            ExitKind::Misconfigured => Some(ExitClass::Unmendable),
        }
    }

    /// What an operator or author can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            ExitKind::Finished => "start the channel again if it should run",
            ExitKind::Stopped => "start the channel when it should run again",
            ExitKind::Trapped => "report it to the driver's author with the backtrace",
            ExitKind::OutOfFuel => {
                "raise limits.fuel_per_turn if the work is real, else report an endless loop to the driver's author"
            }
            ExitKind::DeadlineExceeded => {
                "raise limits.turn_deadline if the work is real, else report an endless loop to the driver's author"
            }
            ExitKind::OutOfMemory => {
                "raise limits.memory if the need is real, else report a leak to the driver's author"
            }
            ExitKind::Refused => {
                "report it to the driver's author: the driver breaks the protocol of turns"
            }
            ExitKind::DriverError => {
                "read the driver's message; report it to the driver's author if it is unclear"
            }
            ExitKind::Unresponsive => {
                "raise health.timeout or health.failures if the driver is only slow, else report it to the driver's author"
            }
            ExitKind::Misconfigured => {
                "correct the channel's configuration or driver, then start the channel again"
            }
            ExitKind::HostFault => "report it to Bulkhead's developers with the log",
        }
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In which call the guest was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum During {
    /// Loading or instantiating, its start function included.
    Start,
    /// `configure`.
    Configure,
    /// `turn`.
    Turn,
    /// Between calls.
    Idle,
}

impl During {
    /// The name in logs and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            During::Start => "start",
            During::Configure => "configure",
            During::Turn => "turn",
            During::Idle => "idle",
        }
    }
}

/// One function on the guest's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function's name, as far as the driver carries names.
    pub function: String,
    /// `file:line:column`, where the driver carries them.
    pub source: Option<String>,
}

/// One event of the turn in which an incarnation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// As the WIT calls it: `poll`, `received`, ...
    pub kind: &'static str,
    /// What it was about: a group, a tag, a connection, a timer.
    pub target: String,
}

impl Told {
    /// The most that an exit keeps.
    pub const MAX: usize = 16;
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.target)
    }
}

/// The end of one incarnation.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// The kind.
    pub kind: ExitKind,
    /// In which call.
    pub during: During,
    /// What happened, in one plain sentence.
    pub sentence: String,
    /// The guest's stack, innermost first; empty where it was not running. At most [`Exit::MAX_FRAMES`].
    pub backtrace: Vec<Frame>,
    /// What the driver was told in that turn, in order; empty where it took none. At most [`Told::MAX`].
    pub events: Vec<Told>,
    /// How many more there were.
    pub events_left_out: usize,
    /// The fuel that the last call had used, where that is known.
    pub fuel: Option<u64>,
    /// The file that the recording of the incarnation is in, where there is one.
    pub bundle: Option<Box<std::path::Path>>,
}

impl Exit {
    /// The longest backtrace.
    pub const MAX_FRAMES: usize = crate::limits::FRAMES;
    /// The longest name of a function or place, in bytes.
    pub const MAX_NAME_BYTES: usize = 512;

    /// An end without a backtrace.
    pub fn new(kind: ExitKind, during: During, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            during,
            sentence: sentence.into(),
            backtrace: Vec::new(),
            events: Vec::new(),
            events_left_out: 0,
            fuel: None,
            bundle: None,
        }
    }

    /// About how long its texts are, in bytes.
    pub fn text_bytes(&self) -> usize {
        let frames = self.backtrace.iter().map(|frame| {
            let source = frame.source.as_ref().map_or(0, String::len);
            size_of::<Frame>() + frame.function.len() + source
        });
        let events = self.events.iter();
        let events = events.map(|told| size_of::<Told>() + told.target.len());
        let bundle = self
            .bundle
            .as_ref()
            .map_or(0, |path| path.as_os_str().len());
        self.sentence.len() + frames.sum::<usize>() + events.sum::<usize>() + bundle
    }

    /// The same, with the driver's stack.
    #[must_use]
    pub fn at(self, backtrace: Vec<Frame>) -> Self {
        Self { backtrace, ..self }
    }

    /// The same, with what the driver was told in that turn.
    #[must_use]
    pub fn in_turn(self, events: Vec<Told>, events_left_out: usize) -> Self {
        Self {
            events,
            events_left_out,
            ..self
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {}: {}",
            self.kind,
            self.during.as_str(),
            self.sentence
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_a_remedy_of_its_own() {
        let mut names: Vec<_> = ExitKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ExitKind::ALL.len());
        assert!(ExitKind::ALL.iter().all(|kind| !kind.remedy().is_empty()));
    }
}
