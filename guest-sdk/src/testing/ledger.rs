//! What the driver owes and what it may do: the rules of `wit/actions.wit`, held against every action.

use std::collections::{BTreeMap, BTreeSet};

use crate::abi::{
    Action, ChannelConfig, ConnectionId, DeviceId, Error, GroupId, LinkId, Quality, RequestId,
    Sample, TagId, TimerId, Value,
};
use crate::data_type::DataType;

const MIB: usize = 1024 * 1024;

/// How a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `read-done`.
    Read(Result<Vec<Sample>, Error>),
    /// `write-done`.
    Write(Result<Option<Value>, Error>),
    /// `command-done`.
    Command(Result<Vec<u8>, Error>),
    /// `health-done`.
    Health(Result<(), Error>),
}

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Read(Vec<TagId>),
    Write(TagId),
    Command,
    Health,
}

/// A connection, as the host knows it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) link: LinkId,
    pub(super) up: bool,
    /// Closed for good.
    pub(super) dead: bool,
    /// How many streams there have been, and how many of them the driver was told of. What it sends
    /// before it knows of the newest was meant for an older one, and is dropped.
    pub(super) streams: u32,
    pub(super) streams_told: u32,
    /// Sent and not credited.
    pub(super) in_flight: u32,
    pub(super) paused: bool,
    /// What the driver has sent and no test has taken.
    pub(super) sent: Vec<u8>,
    /// The same on a datagram link, with the peers that it named.
    pub(super) datagrams: Vec<(Option<String>, Vec<u8>)>,
}

impl Line {
    pub(super) fn new(link: LinkId) -> Self {
        Self {
            link,
            up: false,
            dead: false,
            streams: 0,
            streams_told: 0,
            in_flight: 0,
            paused: false,
            sent: Vec::new(),
            datagrams: Vec::new(),
        }
    }

    /// Whether it is up, and the driver means this very stream.
    pub(super) fn in_step(&self) -> bool {
        self.up && self.streams_told == self.streams
    }
}

/// Everything by which an action can be judged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) polls: BTreeMap<GroupId, u64>,
    pub(super) requests: BTreeMap<RequestId, Asked>,
    pub(super) lines: BTreeMap<ConnectionId, Line>,
    pub(super) timers: BTreeMap<TimerId, u64>,
    pub(super) stop_asked: bool,
    pub(super) stopped: bool,
    metrics: BTreeSet<(String, Option<DeviceId>)>,
    alarms: BTreeSet<(String, Option<DeviceId>)>,
}

impl Ledger {
    /// Judges one action, and settles what it answers.
    pub(super) fn check(
        &mut self,
        action: &Action,
        config: &ChannelConfig,
        send_window: u32,
    ) -> Result<(), String> {
        ensure(!self.stopped, || "an action after `stopped`".to_owned())?;
        match action {
            Action::Open(open) => {
                let id = open.connection;
                ensure(id < 1 << 31, || {
                    format!("connection {id} is in the host's range")
                })?;
                ensure(!self.lines.contains_key(&id), || {
                    format!("connection {id} was used before")
                })?;
                ensure(config.links.iter().any(|link| link.id == open.link), || {
                    format!("no link {}", open.link)
                })?;
            }
            Action::Close(id) | Action::Reset(id) | Action::StartTls(id) => self.known(*id)?,
            Action::Pause(pause) => self.known(pause.connection)?,
            Action::Probe(probe) => self.known(probe.connection)?,
            Action::Send(send) => {
                self.known(send.connection)?;
                let line = &self.lines[&send.connection];
                let room = send_window.saturating_sub(line.in_flight) as usize;
                let count = send.bytes.len();
                ensure(count <= MIB, || format!("a send of {count} bytes"))?;
                ensure(!line.in_step() || count <= room, || {
                    format!("a send of {count} bytes into a window of {room}")
                })?;
            }
            Action::SetTimer(timer) => {
                let set = self.timers.len() + usize::from(!self.timers.contains_key(&timer.timer));
                ensure(set <= 4096, || "more than 4,096 timers".to_owned())?;
            }
            Action::CancelTimer(_) => {}
            Action::Publish(publish) => {
                for sample in &publish.samples {
                    check_sample(sample, config)?;
                }
            }
            Action::PollDone(done) => {
                let owed = self.polls.remove(&done.group);
                ensure(owed == Some(done.cycle), || {
                    format!("no such poll is under way: {done:?}")
                })?;
                ensure(done.failed <= done.requests, || {
                    format!("more failures than requests: {done:?}")
                })?;
            }
            Action::ReadDone(done) => {
                let Some(Asked::Read(tags)) = self.requests.remove(&done.request) else {
                    return Err(format!("no such read is under way: {done:?}"));
                };
                check_error(done.answer.as_ref().err())?;
                if let Ok(samples) = &done.answer {
                    let answered: Vec<TagId> = samples.iter().map(|sample| sample.tag).collect();
                    ensure(answered == tags, || {
                        format!("read {tags:?}, answered {answered:?}")
                    })?;
                    for sample in samples {
                        check_sample(sample, config)?;
                    }
                }
            }
            Action::WriteDone(done) => {
                let Some(Asked::Write(tag)) = self.requests.remove(&done.request) else {
                    return Err(format!("no such write is under way: {done:?}"));
                };
                check_error(done.answer.as_ref().err())?;
                if let Ok(Some(value)) = &done.answer {
                    check_value(tag, value, config)?;
                }
            }
            Action::CommandProgress(progress) => {
                ensure(
                    self.requests.get(&progress.request) == Some(&Asked::Command),
                    || format!("no such command is under way: {progress:?}"),
                )?;
                ensure((0.0..=1.0).contains(&progress.fraction), || {
                    format!("a fraction of {}", progress.fraction)
                })?;
            }
            Action::CommandDone(done) => {
                ensure(
                    self.requests.remove(&done.request) == Some(Asked::Command),
                    || format!("no such command is under way: {done:?}"),
                )?;
                check_error(done.answer.as_ref().err())?;
                let count = done.answer.as_ref().map_or(0, Vec::len);
                ensure(count <= MIB, || format!("an answer of {count} bytes"))?;
            }
            Action::HealthDone(done) => {
                ensure(
                    self.requests.remove(&done.request) == Some(Asked::Health),
                    || format!("no such health check is under way: {done:?}"),
                )?;
                check_error(done.answer.as_ref().err())?;
            }
            Action::DeviceState(state) => check_device(state.device, config)?,
            Action::Metric(metric) => {
                self.metrics.insert((metric.name.clone(), metric.device));
                ensure(self.metrics.len() <= 64, || {
                    "more than 64 metrics".to_owned()
                })?;
            }
            Action::Alarm(alarm) => {
                self.alarms.insert((alarm.code.clone(), alarm.device));
                ensure(self.alarms.len() <= 64, || "more than 64 alarms".to_owned())?;
                if let Some(device) = alarm.device {
                    check_device(device, config)?;
                }
            }
            Action::SaveState(state) => ensure(state.len() <= MIB, || {
                format!("a state of {} bytes", state.len())
            })?,
            Action::Stopped => {
                ensure(self.stop_asked, || "`stopped` without `stop`".to_owned())?;
                ensure(self.requests.is_empty() && self.polls.is_empty(), || {
                    format!(
                        "`stopped` with requests unanswered: {:?} {:?}",
                        self.requests, self.polls
                    )
                })?;
                self.stopped = true;
            }
        }
        Ok(())
    }

    fn known(&self, id: ConnectionId) -> Result<(), String> {
        ensure(self.lines.contains_key(&id), || {
            format!("connection {id} was never opened")
        })
    }
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

fn check_error(error: Option<&Error>) -> Result<(), String> {
    ensure(
        error.is_none_or(|error| error.quality >= Quality::Bad),
        || format!("a failure that is not bad: {error:?}"),
    )
}

fn check_device(id: u32, config: &ChannelConfig) -> Result<(), String> {
    ensure(config.devices.iter().any(|device| device.id == id), || {
        format!("no device {id}")
    })
}

fn check_sample(sample: &Sample, config: &ChannelConfig) -> Result<(), String> {
    match &sample.value {
        Some(value) => check_value(sample.tag, value, config),
        None => {
            ensure(config.tags.iter().any(|tag| tag.id == sample.tag), || {
                format!("no tag {}", sample.tag)
            })?;
            ensure(sample.quality >= Quality::Bad, || {
                format!("a {:?} sample without a value", sample.quality)
            })
        }
    }
}

fn check_value(tag: TagId, value: &Value, config: &ChannelConfig) -> Result<(), String> {
    let Some(tag) = config.tags.iter().find(|known| known.id == tag) else {
        return Err(format!("no tag {tag}"));
    };
    let fits = tag
        .data_type
        .parse::<DataType>()
        .is_ok_and(|data_type| data_type.accepts(value));
    ensure(fits, || {
        format!("{value:?} for tag {}, a {}", tag.name, tag.data_type)
    })
}
