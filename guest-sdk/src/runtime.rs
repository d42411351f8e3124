//! One driver, run by turns: what `export!` forwards to, and what a native host or a test holds.

use std::collections::BTreeMap;
use std::rc::Rc;

use schemars::schema_for;

use crate::abi::{
    self, Action, CommandDone, DeviceId, Event, GroupId, Happening, HealthDone, Level, PollDone,
    Publish, Quality, ReadDone, Sample, StartReason, TagId, WriteDone,
};
use crate::config::{Config, Faults, parse};
use crate::context::Context;
use crate::driver::{Command, Driver, Poll, PollReport, Read, Start, Stop, Write};
use crate::error::Error;
use crate::executor::{BoxedTask, Cancelled, Done, Duty};
use crate::link::Link;
use crate::random::Random;
use crate::shared::{LogLine, Shared};
use crate::time::{self, Instant};

/// A driver with its tasks, timers and connections: everything that one incarnation is.
///
/// Deterministic: the same configuration, seed and events give the same actions.
pub struct Runtime<D: Driver> {
    shared: Rc<Shared>,
    driver: Option<Rc<D>>,
    phase: Phase,
    incarnation: u64,
    /// The tags of each group with their devices, for a poll that fails as a whole.
    groups: Groups,
}

/// Groups with their tags and the devices of these.
type Groups = BTreeMap<GroupId, Rc<[(TagId, DeviceId)]>>;

/// Where an incarnation stands.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Configured or not, `started` has not come. Goes to `Running`.
    Waiting,
    /// The driver was replaced since the last turn; the next one starts it, and is `Running`.
    Replaced,
    /// Goes to `Replaced`, `Stopped` or `Failed`.
    Running,
    /// `stopped` was said: nothing may follow.
    Stopped,
    /// `start` failed, and so does every turn from here on.
    Failed(Error),
}

impl<D: Driver> Runtime<D> {
    /// A runtime whose random numbers come from the host: for a component.
    pub fn new() -> Self {
        Self::with_random(Random::from_host())
    }

    /// A runtime whose random numbers come from `seed`: for a native host or a test.
    pub fn seeded(seed: u64) -> Self {
        Self::with_random(Random::seeded(seed))
    }

    fn with_random(random: Random) -> Self {
        Self {
            shared: Rc::new(Shared::new(random)),
            driver: None,
            phase: Phase::Waiting,
            incarnation: 0,
            groups: BTreeMap::new(),
        }
    }

    /// What the driver is.
    pub fn describe() -> abi::DriverInfo {
        let info = D::info();
        let links = info.links.iter().map(|wish| abi::LinkWish {
            name: wish.name.to_owned(),
            kinds: wish.kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            required: wish.required,
        });
        abi::DriverInfo {
            name: info.name.to_owned(),
            version: info.version.to_owned(),
            protocol: info.protocol.to_owned(),
            settings_schema: schema_for!(D::Settings).as_value().to_string(),
            device_schema: schema_for!(D::DeviceSettings).as_value().to_string(),
            tag_schema: schema_for!(D::TagSettings).as_value().to_string(),
            address_help: info.address_help.to_owned(),
            links: links.collect(),
            commands: D::commands().into_iter().map(Into::into).collect(),
            can: info.can,
        }
    }

    /// Takes a configuration; see [`Driver::configure`].
    ///
    /// # Errors
    ///
    /// Every fault at once. The configuration before stays in force then.
    pub fn configure(&mut self, config: abi::ChannelConfig) -> Result<(), Vec<abi::ConfigFault>> {
        self.shared.begin_configure();
        match self.build(config) {
            Ok((driver, groups)) => {
                self.replace(driver, groups);
                Ok(())
            }
            Err(faults) => {
                self.shared.abandon_configure();
                Err(faults.into_abi())
            }
        }
    }

    /// Takes a turn: events in, actions out.
    ///
    /// # Errors
    ///
    /// When [`Driver::start`] failed, or there was no configuration. The runtime is of no use then.
    pub fn turn(
        &mut self,
        now: abi::Instant,
        events: Vec<Event>,
    ) -> Result<Vec<Action>, abi::Error> {
        if self.driver.is_none() {
            return Err(Error::new("a turn before any configuration was accepted").into());
        }
        self.shared.clock.set(now);
        if self.phase == Phase::Replaced {
            self.begin(Start {
                incarnation: self.incarnation,
                reason: StartReason::Reconfigured,
                state: None,
                features: Vec::new(),
            });
        }
        for event in events {
            self.wake_until(event.at_ns);
            self.deliver(event.what);
            self.run();
        }
        self.wake_until(now.monotonic_ns);
        match &self.phase {
            Phase::Failed(error) => return Err(error.clone().into()),
            Phase::Stopped => {
                // Whatever came of taking things down must not follow the last word.
                let mut actions = self.shared.actions.take();
                let last = actions.iter().position(|action| *action == Action::Stopped);
                actions.truncate(last.map_or(0, |index| index + 1));
                return Ok(actions);
            }
            Phase::Waiting | Phase::Replaced | Phase::Running => {
                self.shared.connections.close_unclaimed(&self.shared);
                if let Some(arm) = self.shared.timers.arm(now.monotonic_ns) {
                    self.shared.push(arm);
                }
            }
        }
        Ok(self.shared.actions.take())
    }

    /// What the driver has logged since the last call, at most 1,024 lines. Empty in a component, whose log goes to the host at once.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.shared.take_log()
    }

    fn build(&self, config: abi::ChannelConfig) -> Result<(D, Groups), Faults> {
        let (parsed, mut faults) = parse::<D>(config, |link| Link::new(self.shared.clone(), link));
        let Some(parsed) = parsed else {
            return Err(faults);
        };
        let groups = groups_of(&parsed);
        match D::configure(parsed, Context::new(self.shared.clone())) {
            Ok(driver) => faults.into_result((driver, groups)),
            Err(more) => {
                faults.append(more);
                Err(faults)
            }
        }
    }

    /// Lets the sleeps end that were due at `nanos`: before what happened later, so that a reply that came in time is not too late
    /// only because the turn is.
    fn wake_until(&mut self, nanos: u64) {
        self.shared.timers.fire(nanos);
        self.run();
    }

    /// Puts `driver` in the place of the one before, whose tasks are dropped and answered.
    fn replace(&mut self, driver: D, groups: Groups) {
        let cancelled = self.shared.executor.cancel_all();
        let mid_exchange = cancelled.iter().any(|task| task.committed);
        self.groups = groups;
        self.driver = Some(Rc::new(driver));
        self.answer_cancelled(cancelled, "the configuration changed");
        self.shared.commit_configure(mid_exchange);
        if self.phase == Phase::Running {
            self.phase = Phase::Replaced;
        }
    }

    fn begin(&mut self, start: Start) {
        self.phase = Phase::Running;
        self.shared.connections.open_staged(&self.shared);
        self.spawn(Duty::Start, async move |driver| {
            quiet(driver.start(start).await)
        });
    }

    fn deliver(&mut self, what: Happening) {
        let connections = &self.shared.connections;
        match what {
            Happening::Started(start) => {
                self.incarnation = start.incarnation;
                connections.adopt(&self.shared, start.connections);
                self.begin(Start {
                    incarnation: start.incarnation,
                    reason: start.reason,
                    state: start.state,
                    features: start.features,
                });
            }
            Happening::Stop(stop) => self.stop(Stop {
                reason: stop.reason,
                deadline: Instant::from_nanos(stop.deadline_ns),
            }),
            Happening::Opened(opened) => connections.opened(&self.shared, opened),
            Happening::Closed(closed) => connections.closed(&closed),
            Happening::Accepted(accepted) => {
                if !connections.accepted(&self.shared, accepted) {
                    self.shared
                        .log(Level::Warn, "turned a caller away: too many wait already");
                }
            }
            Happening::Received(received) => connections.received(&self.shared, received),
            Happening::Sent(sent) => connections.sent(&sent),
            Happening::Timer(_) => self.shared.timers.disarm(),
            Happening::Poll(poll) => self.poll(poll),
            Happening::Read(read) => self.read(read),
            Happening::Write(write) => self.write(write),
            Happening::Command(command) => self.command(command),
            Happening::Cancel(request) => {
                let cancelled = self.shared.executor.cancel(request);
                self.answer_cancelled(cancelled, "nobody waits any more");
            }
            Happening::Health(request) => {
                self.spawn(Duty::Health(request), async move |driver| {
                    answer(driver.health().await, |()| {
                        Action::HealthDone(HealthDone {
                            request,
                            answer: Ok(()),
                        })
                    })
                });
            }
            Happening::Stored(id) => {
                self.shared.unstored.borrow_mut().remove(&id);
                self.shared.stored.wake();
            }
            Happening::Declined(declined) => self.declined(&declined),
        }
    }

    /// Tells whoever waits for what was not carried out; the log, where nobody does.
    fn declined(&self, declined: &abi::Declined) {
        let shared = &self.shared;
        if !shared.not_durable(declined) && !shared.connections.declined(shared, declined) {
            let sentence = format!("the host declined {:?}: {}", declined.action, declined.why);
            shared.log(Level::Warn, &sentence);
        }
    }

    fn poll(&self, poll: abi::Poll) {
        let abi::Poll {
            group,
            cycle,
            scheduled_ns,
            skip,
        } = poll;
        let shared = self.shared.clone();
        let tags = self.groups.get(&group).cloned();
        self.spawn(Duty::Poll { group, cycle }, async move |driver| {
            let poll = Poll {
                group,
                cycle,
                scheduled: Instant::from_nanos(scheduled_ns),
                skip: skip.clone(),
            };
            match driver.poll(poll).await {
                Ok(report) => Done::Answer(poll_done(group, cycle, &report)),
                Err(error) => {
                    shared.log(Level::Error, &format!("poll failed: {error}"));
                    publish_bad(
                        &shared,
                        tags.as_deref().unwrap_or_default(),
                        &skip,
                        error.quality,
                    );
                    Done::Failed(error)
                }
            }
        });
    }

    fn read(&self, read: abi::Read) {
        let request = read.request;
        let read = Read {
            tags: read.tags,
            deadline: Instant::from_nanos(read.deadline_ns),
        };
        self.spawn(Duty::Read(request), async move |driver| {
            answer(driver.read(read).await, |samples| {
                Action::ReadDone(ReadDone {
                    request,
                    answer: Ok(samples),
                })
            })
        });
    }

    fn write(&self, write: abi::Write) {
        let request = write.request;
        let write = Write {
            request,
            tag: write.tag,
            value: write.value,
            read_back: write.read_back,
            deadline: Instant::from_nanos(write.deadline_ns),
        };
        self.spawn(Duty::Write(request), async move |driver| {
            answer(driver.write(write).await, |read_back| {
                Action::WriteDone(WriteDone {
                    request,
                    answer: Ok(read_back),
                })
            })
        });
    }

    fn command(&self, command: abi::Command) {
        let request = command.request;
        let command = Command {
            request,
            name: command.name,
            payload: command.payload,
            deadline: Instant::from_nanos(command.deadline_ns),
        };
        self.spawn(Duty::Command(request), async move |driver| {
            answer(driver.command(command).await, |bytes| {
                Action::CommandDone(CommandDone {
                    request,
                    answer: Ok(bytes),
                })
            })
        });
    }

    /// Lets what runs finish for half of the time, then lets the driver take leave.
    fn stop(&self, stop: Stop) {
        let context = Context::new(self.shared.clone());
        let shared = self.shared.clone();
        self.spawn(Duty::Stop, async move |driver| {
            let grace = stop.deadline.since(context.now()) / 2;
            let answered = std::future::poll_fn(|cx| {
                if shared.executor.requests() == 0 {
                    return std::task::Poll::Ready(());
                }
                shared.answered.register(cx.waker());
                std::task::Poll::Pending
            });
            if context.timeout(grace, answered).await.is_err() {
                shared.log(Level::Warn, "stopping with requests unfinished");
            }
            driver.stop(stop).await;
            Done::Quiet
        });
    }

    fn spawn<F, R>(&self, duty: Duty, handler: F)
    where
        F: FnOnce(Rc<D>) -> R,
        R: Future<Output = Done> + 'static,
    {
        if let Some(driver) = &self.driver {
            let task: BoxedTask = Box::pin(handler(driver.clone()));
            self.shared.executor.spawn(duty, task);
        }
    }

    /// Runs until no task can go on. Nothing runs after the end.
    fn run(&mut self) {
        if self.has_ended() {
            return;
        }
        let shared = self.shared.clone();
        shared.executor.run(|duty, done| self.finished(duty, done));
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Failed(_))
    }

    fn finished(&mut self, duty: Duty, done: Done) {
        if self.has_ended() {
            return;
        }
        match (duty, done) {
            (Duty::Stop, _) => {
                let cancelled = self.shared.executor.cancel_all();
                self.answer_cancelled(cancelled, "the driver stops");
                self.shared.push(Action::Stopped);
                self.phase = Phase::Stopped;
            }
            (Duty::Start, Done::Failed(error)) => self.phase = Phase::Failed(error),
            (_, Done::Quiet) => {}
            (_, Done::Answer(action)) => self.shared.push(action),
            (duty, Done::Failed(error)) => self.refuse(duty, error),
        }
        if duty.is_request() {
            self.shared.answered.wake();
        }
    }

    fn answer_cancelled(&self, tasks: impl IntoIterator<Item = Cancelled>, why: &str) {
        for task in tasks {
            let acts = matches!(task.duty, Duty::Write(_) | Duty::Command(_));
            let error = if task.committed && acts {
                // Something of it has left: whoever asked must not take it for undone.
                Error::cancelled(&format!(
                    "{why}; the device may or may not have acted on it"
                ))
            } else {
                Error::cancelled(why)
            };
            self.refuse(task.duty, error);
        }
        self.shared.answered.wake();
    }

    /// Answers a request that failed.
    fn refuse(&self, duty: Duty, error: Error) {
        let error = error.into();
        let action = match duty {
            Duty::Nothing | Duty::Start | Duty::Stop => return,
            Duty::Poll { group, cycle } => {
                // A group that a reload took away is owed nothing, and unknown to the host.
                if !self.groups.contains_key(&group) {
                    return;
                }
                let mut report = PollReport::default();
                report.failed();
                poll_done(group, cycle, &report)
            }
            Duty::Read(request) => Action::ReadDone(ReadDone {
                request,
                answer: Err(error),
            }),
            Duty::Write(request) => Action::WriteDone(WriteDone {
                request,
                answer: Err(error),
            }),
            Duty::Command(request) => Action::CommandDone(CommandDone {
                request,
                answer: Err(error),
            }),
            Duty::Health(request) => Action::HealthDone(HealthDone {
                request,
                answer: Err(error),
            }),
        };
        self.shared.push(action);
    }
}

impl<D: Driver> Default for Runtime<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Driver> Drop for Runtime<D> {
    /// Tasks hold what they are held by; without this they would live for ever.
    fn drop(&mut self) {
        self.shared.executor.cancel_all();
    }
}

fn quiet(result: Result<(), Error>) -> Done {
    match result {
        Ok(()) => Done::Quiet,
        Err(error) => Done::Failed(error),
    }
}

fn answer<T>(result: Result<T, Error>, action: impl FnOnce(T) -> Action) -> Done {
    match result {
        Ok(value) => Done::Answer(action(value)),
        Err(error) => Done::Failed(error),
    }
}

fn poll_done(group: GroupId, cycle: u64, report: &PollReport) -> Action {
    Action::PollDone(PollDone {
        group,
        cycle,
        requests: report.requests(),
        failed: report.failures(),
        round_trip_ns: report.mean_round_trip().map(time::nanos),
    })
}

fn groups_of<D: Driver>(config: &Config<D>) -> Groups {
    let mut devices: Vec<(TagId, DeviceId)> = (config.tags.iter())
        .map(|tag| (tag.id, tag.device))
        .collect();
    devices.sort_unstable_by_key(|(tag, _)| *tag);
    let with_device = |id: &TagId| {
        let place = devices.binary_search_by_key(id, |(tag, _)| *tag).ok()?;
        devices.get(place).copied()
    };
    let groups = config.groups.iter();
    groups
        .map(|group| {
            let tags = group.tags.iter().filter_map(with_device).collect();
            (group.id, tags)
        })
        .collect()
}

fn publish_bad(shared: &Shared, tags: &[(TagId, DeviceId)], skip: &[DeviceId], quality: Quality) {
    let samples: Vec<Sample> = tags
        .iter()
        .filter(|(_, device)| !skip.contains(device))
        .map(|(tag, _)| Sample {
            tag: *tag,
            value: None,
            quality,
            source_time_ns: None,
        })
        .collect();
    if !samples.is_empty() {
        shared.push(Action::Publish(Publish { id: None, samples }));
    }
}
