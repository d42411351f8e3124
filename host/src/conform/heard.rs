//! What a driver has done on its stage.

use std::collections::{BTreeMap, VecDeque};

use crate::bindings::actions::{Alarm, DeviceState, PollDone};
use crate::bindings::events::Happening;
use crate::bindings::types::{Error, Quality, Sample, Value};

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `read`.
    Read,
    /// `write`.
    Write,
    /// `command`.
    Command,
    /// `health`.
    Health,
}

impl Question {
    /// The word in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Question::Read => "read",
            Question::Write => "write",
            Question::Command => "command",
            Question::Health => "health check",
        }
    }
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a read.
    Read(Result<Vec<Sample>, Error>),
    /// To a write.
    Write(Result<Option<Value>, Error>),
    /// To a command.
    Command(Result<Vec<u8>, Error>),
    /// To a health check.
    Health(Result<(), Error>),
}

impl Answer {
    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Answer::Read(answer) => answer.as_ref().err(),
            Answer::Write(answer) => answer.as_ref().err(),
            Answer::Command(answer) => answer.as_ref().err(),
            Answer::Health(answer) => answer.as_ref().err(),
        }
    }
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Of which kind.
    pub question: Question,
    /// When.
    pub at: u64,
    /// Until when it should be answered.
    pub deadline: u64,
    /// When it was answered, and how.
    pub answer: Option<(u64, Answer)>,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnRecord {
    /// The kinds of its events.
    pub events: Vec<&'static str>,
    /// What it cost.
    pub fuel: u64,
    /// What the driver asked for.
    pub actions: String,
}

/// What a driver has done, and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Heard {
    /// Bytes that it has sent, by link.
    pub sent: BTreeMap<u32, Vec<u8>>,
    /// How often it has sent.
    pub sends: u64,
    /// How many bytes were given to it.
    pub received: u64,
    /// What it has published.
    pub samples: VecDeque<Sample>,
    /// Connections that it has opened, with their links.
    pub opens: VecDeque<(u32, u32)>,
    /// Connections that it has reset, with their links.
    pub resets: VecDeque<(u32, u32)>,
    /// Connections that it has closed.
    pub closes: VecDeque<u32>,
    /// Polls under way: cycle, and since when.
    pub polls: BTreeMap<u32, (u64, u64)>,
    /// Polls that were answered: when, and how.
    pub dones: VecDeque<(u64, PollDone)>,
    /// Every request, by its id.
    pub requests: BTreeMap<u64, Asked>,
    /// What it says of its devices.
    pub device_states: VecDeque<DeviceState>,
    /// Its alarms.
    pub alarms: VecDeque<Alarm>,
    /// What it has saved last.
    pub state: Option<Vec<u8>>,
    /// Whether it was asked to stop.
    pub stop_asked: bool,
    /// When it has stopped.
    pub stopped_at: Option<u64>,
    /// Every turn, where that was asked for.
    pub turns: Vec<TurnRecord>,
}

impl Heard {
    pub(super) fn poll_done(&mut self, done: PollDone, now: u64) {
        self.polls.remove(&done.group);
        self.dones.push_back((now, done));
    }

    pub(super) fn answered(&mut self, request: u64, answer: Answer, now: u64) {
        if let Some(asked) = self.requests.get_mut(&request) {
            asked.answer = Some((now, answer));
        }
    }

    /// Whether a group is still being polled.
    pub fn is_polling(&self, group: u32) -> bool {
        self.polls.contains_key(&group)
    }

    /// Forgets what was published, sent and answered; what is under way stays.
    pub fn forget(&mut self) {
        self.sent.clear();
        self.samples.clear();
        self.dones.clear();
        self.device_states.clear();
        self.alarms.clear();
        self.requests.retain(|_, asked| asked.answer.is_none());
    }

    /// The answer to a request, if it has come.
    pub fn answer(&self, request: u64) -> Option<&Answer> {
        let (_, answer) = self.requests.get(&request)?.answer.as_ref()?;
        Some(answer)
    }

    /// The requests and polls that were not answered.
    pub fn owed(&self) -> Vec<String> {
        let open = self
            .requests
            .iter()
            .filter(|(_, asked)| asked.answer.is_none());
        let requests = open.map(|(id, asked)| format!("{} {id}", asked.question.as_str()));
        let polls = self
            .polls
            .iter()
            .map(|(group, (cycle, _))| format!("poll of group {group}, cycle {cycle}"));
        requests.chain(polls).collect()
    }

    /// The good samples among those published, and those in answers to reads.
    pub fn good(&self) -> impl Iterator<Item = &Sample> {
        let read = self
            .requests
            .values()
            .filter_map(|asked| match &asked.answer {
                Some((_, Answer::Read(Ok(samples)))) => Some(samples),
                _ => None,
            });
        self.samples
            .iter()
            .chain(read.flatten())
            .filter(|sample| is_good(sample.quality))
    }
}

/// Whether a quality says that the value was read from the device as it is.
pub(super) fn is_good(quality: Quality) -> bool {
    matches!(quality, Quality::Good | Quality::GoodLocalOverride)
}

/// A value as people read it; the same for the same value.
pub(super) fn shown_value(value: Option<&Value>) -> String {
    fn all<T: ToString>(all: &[T]) -> String {
        let all: Vec<String> = all.iter().map(T::to_string).collect();
        format!("[{}]", all.join(", "))
    }
    match value {
        None => "no value".to_owned(),
        Some(Value::Boolean(value)) => value.to_string(),
        Some(Value::Int(value)) => value.to_string(),
        Some(Value::Uint(value)) => value.to_string(),
        Some(Value::Float(value)) => value.to_string(),
        Some(Value::Text(text)) => format!("{text:?}"),
        Some(Value::Bytes(bytes)) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"hex:{digits}\"")
        }
        Some(Value::Booleans(values)) => all(values),
        Some(Value::Ints(values)) => all(values),
        Some(Value::Uints(values)) => all(values),
        Some(Value::Floats(values)) => all(values),
        Some(Value::Texts(values)) => format!("{values:?}"),
    }
}

/// The name of a quality, as the API has it.
pub(super) fn shown_quality(quality: Quality) -> &'static str {
    crate::event::Quality::from(quality).as_str()
}

/// The kind of an event, as the WIT calls it.
pub(super) fn kind(what: &Happening) -> &'static str {
    match what {
        Happening::Started(_) => "started",
        Happening::Stop(_) => "stop",
        Happening::Opened(_) => "opened",
        Happening::Closed(_) => "closed",
        Happening::Accepted(_) => "accepted",
        Happening::Received(_) => "received",
        Happening::Sent(_) => "sent",
        Happening::Timer(_) => "timer",
        Happening::Poll(_) => "poll",
        Happening::Read(_) => "read",
        Happening::Write(_) => "write",
        Happening::Command(_) => "command",
        Happening::Cancel(_) => "cancel",
        Happening::Health(_) => "health",
        Happening::Stored(_) => "stored",
        Happening::Declined(_) => "declined",
    }
}
