//! What the puppet can be made to do.

use std::collections::HashMap;

use bulkhead_sdk::abi::{
    Action, Alarm, CommandDone, ConnectionId, DeviceCondition, DeviceState, Error, GroupId,
    Happening, HealthDone, LinkId, Metric, MetricKind, Open, Pause, PollDone, Probe, Progress,
    Publish, Quality, ReadDone, RequestId, Sample, Send, SetTimer, Severity, TagId, TimerId, Value,
    WriteDone,
};
use bulkhead_sdk::bindings::bulkhead::channel::log;
use serde::Deserialize;

/// What an event gives to the steps that answer it.
#[derive(Default)]
pub(crate) struct Cue {
    /// The timer, group, connection or tag that it is about.
    pub(crate) about: Option<u32>,
    cycle: u64,
    request: RequestId,
    tags: Vec<TagId>,
    /// The text that was received.
    bytes: Vec<u8>,
    /// Who sent it, where it was a datagram.
    peer: Option<String>,
}

impl Cue {
    pub(crate) fn of(what: &Happening, reads: &HashMap<RequestId, Vec<TagId>>) -> Self {
        let about = |about| Self {
            about: Some(about),
            ..Self::default()
        };
        let request = |request: RequestId| Self {
            request,
            tags: reads.get(&request).cloned().unwrap_or_default(),
            ..Self::default()
        };
        match what {
            Happening::Opened(opened) => about(opened.connection),
            Happening::Accepted(accepted) => about(accepted.connection),
            Happening::Closed(closed) => about(closed.connection),
            Happening::Received(received) => Self {
                bytes: received.bytes.clone(),
                peer: received.peer.clone(),
                ..about(received.connection)
            },
            Happening::Sent(sent) => about(sent.connection),
            Happening::Timer(timer) => about(*timer),
            Happening::Poll(poll) => Self {
                cycle: poll.cycle,
                ..about(poll.group)
            },
            Happening::Read(read) => request(read.request),
            Happening::Write(write) => Self {
                about: Some(write.tag),
                ..request(write.request)
            },
            Happening::Command(command) => request(command.request),
            Happening::Cancel(id) | Happening::Health(id) => request(*id),
            _ => Self::default(),
        }
    }
}

/// One thing to do. What is left out comes from the event that it answers.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Step {
    Open {
        connection: ConnectionId,
        link: LinkId,
        target: Option<String>,
    },
    Close(ConnectionId),
    Reset(ConnectionId),
    Send {
        connection: ConnectionId,
        #[serde(default)]
        text: String,
        /// So many more bytes.
        #[serde(default)]
        count: usize,
        /// The receiver of a datagram.
        peer: Option<String>,
    },
    /// Sends back what was received.
    Echo,
    Pause {
        connection: ConnectionId,
        on: bool,
    },
    StartTls(ConnectionId),
    SetTimer {
        timer: TimerId,
        after_ms: u64,
    },
    CancelTimer(TimerId),
    Publish {
        tag: TagId,
        value: Option<Worth>,
        #[serde(default)]
        quality: Grade,
        id: Option<u64>,
        /// The device's own time.
        source_ns: Option<u64>,
    },
    PollDone(PollAnswer),
    ReadDone(ReadAnswer),
    WriteDone(WriteAnswer),
    WriteFailed {
        #[serde(default = "bad")]
        quality: Grade,
        code: Option<u32>,
        message: String,
        /// Says the message so often, and in the trace too.
        times: Option<usize>,
    },
    CommandProgress(RequestId),
    CommandDone(RequestId),
    HealthDone(RequestId),
    DeviceState {
        device: u32,
        up: bool,
        why: String,
    },
    /// One was answered, in a nanosecond.
    Probe(ConnectionId),
    Metric(String),
    MetricOf {
        name: String,
        device: u32,
    },
    Alarm {
        code: String,
        #[serde(default)]
        severity: Grave,
        /// Raises or clears so many codes, each with its number behind it, instead of the one.
        count: Option<usize>,
        #[serde(default)]
        active: bool,
        device: Option<u32>,
        /// The device's own time.
        source_ns: Option<u64>,
    },
    /// Writes a line to the log, so often.
    Log {
        text: String,
        times: Option<usize>,
    },
    SaveState(String),
    SaveStateOf {
        bytes: usize,
    },
    Stopped,
    /// Leaves the write unanswered.
    Hold,
    /// Loops until it is stopped from outside.
    Spin,
    /// Panics.
    Trap,
    /// Returns an error from the turn.
    Fail(String),
    Repeat {
        times: usize,
        step: Box<Step>,
    },
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PollAnswer {
    group: Option<GroupId>,
    cycle: Option<u64>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadAnswer {
    request: Option<RequestId>,
    tags: Option<Vec<TagId>>,
    value: Option<Worth>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteAnswer {
    request: Option<RequestId>,
    value: Option<Worth>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Worth {
    Boolean(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    /// A text of so many bytes.
    TextOf(usize),
    Ints(Vec<i64>),
    /// An array of so many numbers.
    FloatsOf(usize),
    Texts(Vec<String>),
    /// An array of texts of so many bytes each.
    TextsOf(Vec<usize>),
}

impl From<&Worth> for Value {
    fn from(worth: &Worth) -> Self {
        match worth {
            Worth::Boolean(value) => Value::Boolean(*value),
            Worth::Int(value) => Value::Int(*value),
            Worth::Uint(value) => Value::Uint(*value),
            Worth::Float(value) => Value::Float(*value),
            Worth::Text(value) => Value::Text(value.clone()),
            Worth::TextOf(bytes) => Value::Text("x".repeat(*bytes)),
            Worth::Ints(values) => Value::Ints(values.clone()),
            Worth::FloatsOf(count) => Value::Floats(vec![0.0; *count]),
            Worth::Texts(values) => Value::Texts(values.clone()),
            Worth::TextsOf(lengths) => {
                Value::Texts(lengths.iter().map(|bytes| "x".repeat(*bytes)).collect())
            }
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grade {
    #[default]
    Good,
    Uncertain,
    Bad,
    BadNotConnected,
    BadTimeout,
}

fn bad() -> Grade {
    Grade::Bad
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grave {
    Info,
    #[default]
    Warning,
    Error,
    Critical,
}

impl From<Grave> for Severity {
    fn from(grave: Grave) -> Self {
        match grave {
            Grave::Info => Severity::Info,
            Grave::Warning => Severity::Warning,
            Grave::Error => Severity::Error,
            Grave::Critical => Severity::Critical,
        }
    }
}

impl From<Grade> for Quality {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::Good => Quality::Good,
            Grade::Uncertain => Quality::Uncertain,
            Grade::Bad => Quality::Bad,
            Grade::BadNotConnected => Quality::BadNotConnected,
            Grade::BadTimeout => Quality::BadTimeout,
        }
    }
}

impl Step {
    /// Whether it says itself what becomes of the write that brought it.
    pub(crate) fn answers_itself(&self) -> bool {
        matches!(
            self,
            Step::Hold | Step::WriteDone(_) | Step::WriteFailed { .. }
        )
    }

    /// Does it.
    pub(crate) fn perform(&self, cue: &Cue, actions: &mut Vec<Action>) -> Result<(), Error> {
        let action = match self {
            Step::Open {
                connection,
                link,
                target,
            } => Action::Open(Open {
                connection: *connection,
                link: *link,
                target: target.clone(),
            }),
            Step::Close(connection) => Action::Close(*connection),
            Step::Reset(connection) => Action::Reset(*connection),
            Step::Send {
                connection,
                text,
                count,
                peer,
            } => {
                let mut bytes = text.clone().into_bytes();
                bytes.resize(bytes.len() + count, b'.');
                send(*connection, peer.clone(), bytes)
            }
            Step::Echo => send(cue.about.unwrap_or(0), cue.peer.clone(), cue.bytes.clone()),
            Step::Pause { connection, on } => Action::Pause(Pause {
                connection: *connection,
                on: *on,
            }),
            Step::StartTls(connection) => Action::StartTls(*connection),
            Step::SetTimer { timer, after_ms } => Action::SetTimer(SetTimer {
                timer: *timer,
                after_ns: after_ms * 1_000_000,
            }),
            Step::CancelTimer(timer) => Action::CancelTimer(*timer),
            Step::Publish {
                tag,
                value,
                quality,
                id,
                source_ns,
            } => Action::Publish(Publish {
                id: *id,
                samples: vec![Sample {
                    tag: *tag,
                    value: value.as_ref().map(Value::from),
                    quality: (*quality).into(),
                    source_time_ns: *source_ns,
                }],
            }),
            Step::PollDone(answer) => Action::PollDone(PollDone {
                group: answer.group.or(cue.about).unwrap_or(0),
                cycle: answer.cycle.unwrap_or(cue.cycle),
                requests: 1,
                failed: 0,
                round_trip_ns: None,
            }),
            Step::ReadDone(answer) => {
                let sample = |tag: &TagId| Sample {
                    tag: *tag,
                    value: Some(
                        answer
                            .value
                            .as_ref()
                            .map_or(Value::Text("read".to_owned()), Value::from),
                    ),
                    quality: Quality::Good,
                    source_time_ns: None,
                };
                let tags = answer.tags.as_ref().unwrap_or(&cue.tags);
                Action::ReadDone(ReadDone {
                    request: answer.request.unwrap_or(cue.request),
                    answer: Ok(tags.iter().map(sample).collect()),
                })
            }
            Step::WriteDone(answer) => Action::WriteDone(WriteDone {
                request: answer.request.unwrap_or(cue.request),
                answer: Ok(answer.value.as_ref().map(Value::from)),
            }),
            Step::WriteFailed {
                quality,
                code,
                message,
                times,
            } => Action::WriteDone(WriteDone {
                request: cue.request,
                answer: Err(Error {
                    quality: (*quality).into(),
                    code: *code,
                    message: message.repeat(times.unwrap_or(1)),
                    trace: times.map(|times| message.repeat(times)),
                }),
            }),
            Step::CommandProgress(request) => Action::CommandProgress(Progress {
                request: *request,
                fraction: 0.5,
                message: String::new(),
            }),
            Step::CommandDone(request) => Action::CommandDone(CommandDone {
                request: *request,
                answer: Ok(Vec::new()),
            }),
            Step::HealthDone(request) => Action::HealthDone(HealthDone {
                request: *request,
                answer: Ok(()),
            }),
            Step::DeviceState { device, up, why } => Action::DeviceState(DeviceState {
                device: *device,
                condition: if *up {
                    DeviceCondition::Up
                } else {
                    DeviceCondition::Down
                },
                why: why.clone(),
            }),
            Step::Probe(connection) => Action::Probe(Probe {
                connection: *connection,
                round_trip_ns: Some(1),
            }),
            Step::Metric(name) => metric(name, None),
            Step::MetricOf { name, device } => metric(name, Some(*device)),
            Step::Alarm {
                code,
                severity,
                count,
                active,
                device,
                source_ns,
            } => {
                let alarm = |code: String| {
                    Action::Alarm(Alarm {
                        code,
                        severity: (*severity).into(),
                        active: *active,
                        message: "as told".to_owned(),
                        device: *device,
                        source_time_ns: *source_ns,
                    })
                };
                match count {
                    None => alarm(code.clone()),
                    Some(count) => {
                        let all = (0..*count).map(|number| alarm(format!("{code}{number}")));
                        actions.extend(all);
                        return Ok(());
                    }
                }
            }
            Step::Log { text, times } => {
                for _ in 0..times.unwrap_or(1) {
                    log::write(log::Level::Info, text);
                }
                return Ok(());
            }
            Step::SaveState(state) => Action::SaveState(state.clone().into_bytes()),
            Step::SaveStateOf { bytes } => Action::SaveState(vec![0; *bytes]),
            Step::Stopped => Action::Stopped,
            Step::Hold => return Ok(()),
            Step::Spin => {
                // Each look at the clock costs much time and little fuel, so that it is not the fuel that ends this.
                spin()
            }
            Step::Trap => panic!("told to"),
            Step::Fail(message) => return Err(broken(message)),
            Step::Repeat { times, step } => {
                return (0..*times).try_for_each(|_| step.perform(cue, actions));
            }
        };
        actions.push(action);
        Ok(())
    }
}

/// The error that ends the turn.
pub(crate) fn broken(message: &str) -> Error {
    Error {
        quality: Quality::Bad,
        code: None,
        message: message.to_owned(),
        trace: None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the guest looks at the clock that WASI gives it, which stands still"
)]
fn spin() -> ! {
    loop {
        std::hint::black_box(std::time::Instant::now());
    }
}

fn metric(name: &str, device: Option<u32>) -> Action {
    Action::Metric(Metric {
        name: name.to_owned(),
        kind: MetricKind::Gauge,
        unit: String::new(),
        device,
        value: 1.0,
    })
}

fn send(connection: ConnectionId, peer: Option<String>, bytes: Vec<u8>) -> Action {
    Action::Send(Send {
        connection,
        peer,
        bytes,
    })
}
