//! What may wait for a channel's next turn, and how requests are answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::event::{MonotonicNs, Quality, Sample, Value};
use crate::ids::{RequestId, TagId};
use crate::lifecycle::State;
use crate::link::LinkMail;
use crate::tags::BadValue;

/// One thing that waits. A mailbox has room for dozens of these even while it is empty, so what is large is boxed.
#[derive(Debug)]
pub enum Mail {
    /// From one of the channel's connections.
    Link(Box<LinkMail>),
    /// From a door.
    Request(Box<Request>),
    /// The locks of devices have changed.
    Locks,
    /// Whoever gave this command does not wait any more.
    Cancel(RequestId),
}

impl From<LinkMail> for Mail {
    fn from(mail: LinkMail) -> Self {
        Mail::Link(Box::new(mail))
    }
}

/// The receiving end: it outlives incarnations, so what was not dispatched goes to the next one.
pub type Mailbox = mpsc::Receiver<Mail>;

/// A mailbox with room for `bound` things. Whoever puts something in waits when it is full (links), or is told (doors).
pub fn mailbox(bound: usize) -> (mpsc::Sender<Mail>, Mailbox) {
    mpsc::channel(bound.max(1))
}

/// A read, a write or a command on its way to a driver.
#[derive(Debug)]
pub struct Request {
    /// Unique within the host process.
    pub id: RequestId,
    /// Which edition of the channel's configuration its ids point into.
    pub edition: u64,
    /// What is asked.
    pub ask: Ask,
    /// When whoever asked stops waiting.
    pub deadline: MonotonicNs,
    /// How long that was from the beginning.
    pub timeout: Duration,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, RequestError>>,
}

impl Request {
    /// Answers it. Whoever asked may have gone; then the answer has no reader, which is no fault.
    pub(super) fn answer(self, answer: Result<Answer, RequestError>) {
        drop(self.reply.send(answer));
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Read these tags from the device.
    Read(Box<[TagId]>),
    /// Write one tag.
    Write {
        /// The tag.
        tag: TagId,
        /// In the device's own terms, checked against the tag's type.
        value: Value,
        /// Whether to read it afterwards.
        read_back: bool,
    },
    /// Do something that the protocol offers besides tags.
    Command {
        /// What.
        name: Arc<str>,
        /// With what; empty once the driver has it.
        payload: Vec<u8>,
        /// Where the driver's reports go; of several the last one counts.
        progress: watch::Sender<Option<Progress>>,
    },
}

/// How far a command has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f32,
    /// In the driver's words.
    pub message: String,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One sample for each tag that was asked for, in engineering units.
    Read(Vec<Sample>),
    /// What was read back, in engineering units, where that was asked for.
    Write(Option<Value>),
    /// What the driver answered to a command.
    Command(Vec<u8>),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The channel has no driver to ask.
    #[error("channel {channel} is {state}: {why}")]
    NotRunning {
        /// The channel.
        channel: String,
        /// Its state.
        state: State,
        /// Why it is in that state.
        why: String,
    },
    /// Too much waits already.
    #[error(
        "channel {channel} is busy: its mailbox is full; ask again later, or raise limits.mailbox"
    )]
    Busy {
        /// The channel.
        channel: String,
    },
    /// No such tag.
    #[error("channel {channel} has no tag {tag}; `bulkhead tag list` shows those there are")]
    NoSuchTag {
        /// The channel.
        channel: String,
        /// The tag.
        tag: String,
    },
    /// The operator did not allow it.
    #[error("tag {tag} may not be written; give it access = \"rw\" or \"w\" in the configuration")]
    NotWritable {
        /// The tag.
        tag: String,
    },
    /// The operator did not allow it.
    #[error("tag {tag} may not be read; give it access = \"r\" or \"rw\" in the configuration")]
    NotReadable {
        /// The tag.
        tag: String,
    },
    /// The driver has not declared that it can do this.
    #[error(
        "the driver of channel {channel} does not offer to {kind}; `bulkhead inspect` shows what it can do"
    )]
    NotSupported {
        /// The channel.
        channel: String,
        /// What was asked: `read`, `write` or `take commands`.
        kind: &'static str,
    },
    /// The driver lists its commands, and this is none of them.
    #[error("the driver of channel {channel} has no command `{command}`; it has {known}")]
    NoSuchCommand {
        /// The channel.
        channel: String,
        /// The command.
        command: String,
        /// Those that there are.
        known: String,
    },
    /// As many commands as a channel may have under way.
    #[error(
        "channel {channel} has {most} commands under way already; wait for one to end, or cancel one"
    )]
    TooManyCommands {
        /// The channel.
        channel: String,
        /// The most.
        most: usize,
    },
    /// The tag was written too short a time ago. The driver has not seen this write.
    #[error(
        "tag {tag} may be written once in {interval:?} (`write_interval`); ask again in {wait:?}"
    )]
    RateLimited {
        /// The tag.
        tag: String,
        /// The shortest time between two writes.
        interval: Duration,
        /// What is left of it.
        wait: Duration,
    },
    /// The value does not fit.
    #[error(transparent)]
    BadValue(#[from] BadValue),
    /// The driver or the device said no.
    #[error("{message}")]
    Failed {
        /// What kind of failure it is; a bad one.
        quality: Quality,
        /// The protocol's own code, where it has one.
        code: Option<u32>,
        /// In the driver's words.
        message: String,
        /// For the driver's author.
        trace: Option<String>,
    },
    /// An operator has taken the device out of service.
    #[error("{why}; `bulkhead device unlock {channel}/{device}` puts it into service again")]
    DeviceLocked {
        /// The channel.
        channel: String,
        /// The device.
        device: String,
        /// That it is locked, and why.
        why: String,
    },
    /// The link that leads there is down. Nothing was sent to the device.
    #[error("{why}, and {stayed}")]
    LinkDown {
        /// The link.
        link: String,
        /// Why it is down: a sentence that begins with the link.
        why: Arc<str>,
        /// How the request ended.
        stayed: Stayed,
    },
    /// No answer in time. Whether the device has acted on it is not known.
    #[error("no answer within {after:?}; the device may or may not have acted on it")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The driver ended while it worked on it. Whether the device has acted on it is not known; it is not sent again.
    #[error(
        "the driver was restarted while it worked on this; the device may or may not have acted on it, and it is not sent again"
    )]
    Restarted,
    /// Whoever asked has taken it back. Whether the device has acted on it is not known.
    #[error("it was cancelled; the device may or may not have acted on it")]
    Cancelled,
    /// It has ended the driver each time, and is kept away from it.
    #[error(
        "{what} has ended the driver {faults} times and is kept away from it; `bulkhead dead-letter retry {letter}` gives it another chance"
    )]
    Quarantined {
        /// What.
        what: String,
        /// How often.
        faults: u32,
        /// The letter, as `channel/number`.
        letter: String,
    },
}

/// How a request ended whose link stayed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stayed {
    /// It has waited in vain.
    #[error("it was not up within {after:?}")]
    Down {
        /// How long it might wait.
        after: Duration,
    },
    /// As many wait as may.
    #[error("{waiting} requests wait for a link already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// Nobody dials it any more.
    #[error("its attempts are spent; `bulkhead link reconnect` asks for another")]
    GaveUp,
    /// The operator lets none wait.
    #[error("requests do not wait for it here (`requests.while_down`)")]
    Refused,
}

impl RequestError {
    /// The name in the HTTP API.
    pub fn code(&self) -> &'static str {
        match self {
            RequestError::NotRunning { .. } => "not-running",
            RequestError::Busy { .. } => "busy",
            RequestError::NoSuchTag { .. } => "no-such-tag",
            RequestError::NotWritable { .. } => "not-writable",
            RequestError::NotReadable { .. } => "not-readable",
            RequestError::NotSupported { .. } => "not-supported",
            RequestError::RateLimited { .. } => "rate-limited",
            RequestError::BadValue(_) => "bad-value",
            RequestError::Failed { .. } => "failed",
            RequestError::DeviceLocked { .. } => "device-locked",
            RequestError::LinkDown { .. } => "link-down",
            RequestError::TimedOut { .. } => "timed-out",
            RequestError::Restarted => "restarted",
            RequestError::Cancelled => "cancelled",
            RequestError::Quarantined { .. } => "quarantined",
            RequestError::NoSuchCommand { .. } => "no-such-command",
            RequestError::TooManyCommands { .. } => "too-many-commands",
        }
    }
}
