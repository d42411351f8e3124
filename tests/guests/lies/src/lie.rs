//! The lies, each by its name in the settings.

use bulkhead_sdk::abi::{
    Action, Alarm, CommandDone, DeviceCondition, DeviceState, Open, PollDone, Progress, Publish,
    Quality, ReadDone, Sample, Send, SetTimer, Severity, TagId, Value, WriteDone,
};
use serde::Deserialize;

/// What could not be meant. Every id that the host gives out is far below [`NOBODY`].
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lie {
    // In a poll.
    UnknownTag,
    WrongType,
    GoodWithoutValue,
    TextTooLong,
    ArrayTooLong,
    UnknownGroup,
    PollDoneTwice,
    WrongCycle,
    UnknownDevice,
    UnknownRequest,
    UnknownLink,
    OpenTwice,
    OpenHostId,
    SendUnopened,
    SendTooLarge,
    WindowExceeded,
    TooManyTimers,
    StateTooLarge,
    TooManyActions,
    AlarmOfUnknownDevice,
    StoppedUnasked,
    // In a read.
    ReadTwice,
    ReadOtherTag,
    ReadTooFew,
    ReadAnsweredAsWrite,
    // In a write.
    WriteTwice,
    WriteWrongType,
    WriteAnsweredAsCommand,
    // In a command.
    CommandTwice,
    CommandAnsweredAsRead,
    CommandTooLong,
    ProgressTooFar,
    ProgressOfNothing,
    ProgressOfNobody,
    ProgressAfterDone,
    // In a stop.
    AfterStopped,
}

/// An id that nobody has.
const NOBODY: u32 = 0x7fff_fff0;

impl Lie {
    /// What follows a true answer to a poll.
    pub(crate) fn in_a_poll(
        self,
        done: &PollDone,
        tags: &[TagId],
        send_window: u32,
    ) -> Vec<Action> {
        let tag = tags.first().copied().unwrap_or(0);
        match self {
            Lie::UnknownTag => vec![publish(NOBODY, Some(Value::Float(1.0)))],
            Lie::WrongType => vec![publish(tag, Some(Value::Text("warm".to_owned())))],
            Lie::GoodWithoutValue => vec![publish(tag, None)],
            Lie::TextTooLong => vec![publish(tag, Some(Value::Text("x".repeat(64 * 1024 + 1))))],
            Lie::ArrayTooLong => vec![publish(tag, Some(Value::Floats(vec![0.0; 65_537])))],
            Lie::UnknownGroup => vec![Action::PollDone(PollDone {
                group: NOBODY,
                ..*done
            })],
            Lie::PollDoneTwice => vec![Action::PollDone(*done)],
            Lie::WrongCycle => vec![Action::PollDone(PollDone {
                cycle: done.cycle + 1,
                ..*done
            })],
            Lie::UnknownDevice => vec![Action::DeviceState(DeviceState {
                device: NOBODY,
                condition: DeviceCondition::Up,
                why: "it was never configured".to_owned(),
            })],
            Lie::UnknownRequest => vec![Action::WriteDone(WriteDone {
                request: u64::MAX - 1,
                answer: Ok(None),
            })],
            Lie::UnknownLink => vec![Action::Open(Open {
                connection: 77,
                link: NOBODY,
                target: None,
            })],
            Lie::OpenTwice => {
                let open = Action::Open(Open {
                    connection: 77,
                    link: 0,
                    target: None,
                });
                vec![open.clone(), open]
            }
            Lie::OpenHostId => vec![Action::Open(Open {
                connection: 1 << 31,
                link: 0,
                target: None,
            })],
            Lie::SendUnopened => vec![send(NOBODY, 1)],
            Lie::SendTooLarge => vec![send(super::CONNECTION, 1024 * 1024 + 1)],
            Lie::WindowExceeded => vec![
                send(super::CONNECTION, send_window),
                send(super::CONNECTION, 1),
            ],
            Lie::TooManyTimers => (0..=4096)
                .map(|timer| {
                    Action::SetTimer(SetTimer {
                        timer,
                        after_ns: u64::MAX / 2,
                    })
                })
                .collect(),
            Lie::StateTooLarge => vec![Action::SaveState(vec![0; 1024 * 1024 + 1])],
            Lie::TooManyActions => (0..=65_536).map(Action::CancelTimer).collect(),
            Lie::AlarmOfUnknownDevice => vec![Action::Alarm(Alarm {
                code: "door".to_owned(),
                severity: Severity::Warning,
                active: true,
                message: "open".to_owned(),
                device: Some(NOBODY),
                source_time_ns: None,
            })],
            Lie::StoppedUnasked => vec![Action::Stopped],
            _ => Vec::new(),
        }
    }

    /// The answer to a read.
    pub(crate) fn in_a_read(self, truth: ReadDone) -> Vec<Action> {
        let told = Action::ReadDone(truth.clone());
        match (self, truth.answer) {
            (Lie::ReadTwice, _) => vec![told.clone(), told],
            (Lie::ReadOtherTag, Ok(mut samples)) => {
                if let Some(first) = samples.first_mut() {
                    first.tag = first.tag.wrapping_add(1);
                }
                vec![Action::ReadDone(ReadDone {
                    request: truth.request,
                    answer: Ok(samples),
                })]
            }
            (Lie::ReadTooFew, Ok(mut samples)) => {
                samples.pop();
                vec![Action::ReadDone(ReadDone {
                    request: truth.request,
                    answer: Ok(samples),
                })]
            }
            (Lie::ReadAnsweredAsWrite, _) => {
                vec![Action::WriteDone(WriteDone {
                    request: truth.request,
                    answer: Ok(None),
                })]
            }
            _ => vec![told],
        }
    }

    /// The answer to a write.
    pub(crate) fn in_a_write(self, truth: WriteDone) -> Vec<Action> {
        let told = Action::WriteDone(truth.clone());
        match self {
            Lie::WriteTwice => vec![told.clone(), told],
            Lie::WriteWrongType => {
                let answer = Ok(Some(Value::Text("warm".to_owned())));
                vec![Action::WriteDone(WriteDone {
                    request: truth.request,
                    answer,
                })]
            }
            Lie::WriteAnsweredAsCommand => {
                vec![Action::CommandDone(CommandDone {
                    request: truth.request,
                    answer: Ok(Vec::new()),
                })]
            }
            _ => vec![told],
        }
    }

    /// The answer to a command.
    pub(crate) fn in_a_command(self, truth: CommandDone) -> Vec<Action> {
        let told = Action::CommandDone(truth.clone());
        let progress = |request, fraction| {
            Action::CommandProgress(Progress {
                request,
                fraction,
                message: "on its way".to_owned(),
            })
        };
        match self {
            Lie::CommandTwice => vec![told.clone(), told],
            Lie::CommandAnsweredAsRead => vec![Action::ReadDone(ReadDone {
                request: truth.request,
                answer: Ok(Vec::new()),
            })],
            Lie::CommandTooLong => vec![Action::CommandDone(CommandDone {
                request: truth.request,
                answer: Ok(vec![0; 1024 * 1024 + 1]),
            })],
            Lie::ProgressTooFar => vec![progress(truth.request, 1.001), told],
            Lie::ProgressOfNothing => vec![progress(truth.request, f32::NAN), told],
            Lie::ProgressOfNobody => vec![progress(u64::MAX - 1, 0.5), told],
            Lie::ProgressAfterDone => vec![told, progress(truth.request, 1.0)],
            _ => vec![progress(truth.request, 1.0), told],
        }
    }

    /// The answer to a stop.
    pub(crate) fn in_a_stop(self) -> Vec<Action> {
        match self {
            Lie::AfterStopped => vec![Action::Stopped, Action::CancelTimer(0)],
            _ => vec![Action::Stopped],
        }
    }
}

fn publish(tag: TagId, value: Option<Value>) -> Action {
    let sample = Sample {
        tag,
        value,
        quality: Quality::Good,
        source_time_ns: None,
    };
    Action::Publish(Publish {
        id: None,
        samples: vec![sample],
    })
}

fn send(connection: u32, count: u32) -> Action {
    Action::Send(Send {
        connection,
        peer: None,
        bytes: vec![0x55; count as usize],
    })
}
