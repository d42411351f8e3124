//! How doors speak to a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::answered::{Answered, Answers, Asked};
use super::commands::{Desk, MAX_UNDER_WAY, Opening, RunningCommand, UnderWay};
use super::life::Command;
use super::pace::Pace;
use super::prepare::{Identity, Needs};
use crate::audit::{self, Audit};
use crate::bus::Happened;
use crate::channel::{
    Answer, Ask, ChannelStatus, DEAD_LETTERS_ALARM, DeviceStanding, Letter, MAX_REASON, Mail,
    Punctuality, Request, RequestError, Shared,
};
use crate::config;
use crate::driver::{CommandInfo, DriverInfo};
use crate::event::{Layout, MonotonicNs, Sample, Severity, Value, WallNs};
use crate::history::{History, Statistics};
use crate::ids::{ChannelId, DeviceId, RequestId, TagId};
use crate::lifecycle::{self, Denied, Order};
use crate::link::{Journal, LinkHistory};
use crate::sink::{JsonValue, Time};
use crate::store::StoreError;
use crate::tags::{self, TagTable};
use crate::text::shown;

/// The longest that a request may wait.
const MAX_TIMEOUT: Duration = crate::limits::COMMAND_TIME.most;

/// How long a reader of a history waits for the newest events to be on the disk.
const FLUSH: Duration = Duration::from_secs(5);

/// A channel, as doors see it.
pub struct ChannelHandle {
    pub(super) shared: Arc<Shared>,
    mailbox: mpsc::Sender<Mail>,
    commands: mpsc::Sender<Command>,
    requests: Arc<AtomicU64>,
    /// The places of the tags, in the order of their names.
    by_name: Box<[u32]>,
    /// What its driver says of itself.
    info: Arc<DriverInfo>,
    /// The commands that are under way.
    desk: Desk,
    /// Where writes are written down.
    audit: Arc<Audit>,
    driver: Identity,
    needs: Needs,
    /// When tags were written that may not be written often.
    pace: Arc<Pace>,
    /// How requests were answered.
    answered: Arc<Answered>,
}

/// What a handle is made of.
pub(super) struct HandleParts {
    pub(super) shared: Arc<Shared>,
    pub(super) info: Arc<DriverInfo>,
    pub(super) driver: Identity,
    pub(super) needs: Needs,
    pub(super) mailbox: mpsc::Sender<Mail>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) requests: Arc<AtomicU64>,
    pub(super) audit: Arc<Audit>,
    pub(super) pace: Arc<Pace>,
}

/// Who wants a tag written.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// By which door they come, such as `http`.
    pub via: &'static str,
    /// As they call themselves; nobody has checked that.
    pub by: Option<&'a str>,
}

/// A write that will be written down when it is answered, or when nobody waits for the answer any more.
struct Noted<'a> {
    channel: &'a ChannelHandle,
    tag: &'a str,
    writer: Writer<'a>,
    value: serde_json::Value,
    asked: WallNs,
    answer: audit::Answer<'static>,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let unheard = || audit::Answer {
            code: "unheard",
            message: None,
        };
        self.channel.audit.record(&audit::Write {
            time: Time(self.asked).to_string(),
            answered: Time(self.channel.shared.clock().wall()).to_string(),
            via: self.writer.via,
            by: self.writer.by,
            channel: self.channel.id().as_str(),
            tag: self.tag,
            value: self.value.take(),
            answer: std::mem::replace(&mut self.answer, unheard()),
        });
    }
}

impl ChannelHandle {
    pub(super) fn new(parts: HandleParts) -> Self {
        let tags = parts.shared.tags().tags();
        let name = |place: &u32| tags.get(*place as usize).map(|tag| &tag.name);
        let mut by_name: Box<[u32]> = (0u32..).zip(tags.iter()).map(|(place, _)| place).collect();
        by_name.sort_unstable_by_key(name);
        Self {
            by_name,
            shared: parts.shared,
            mailbox: parts.mailbox,
            commands: parts.commands,
            requests: parts.requests,
            info: parts.info,
            desk: Desk::default(),
            audit: parts.audit,
            driver: parts.driver,
            needs: parts.needs,
            pace: parts.pace,
            answered: Arc::default(),
        }
    }

    /// Which driver it runs.
    pub(super) fn driver(&self) -> &Identity {
        &self.driver
    }

    /// What an instance of it takes of the pool.
    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    /// Where its task takes mail.
    pub(super) fn mail(&self) -> &mpsc::Sender<Mail> {
        &self.mailbox
    }

    /// When its tags were written last.
    pub(super) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Where its task takes commands.
    pub(super) fn commands_in(&self) -> &mpsc::Sender<Command> {
        &self.commands
    }

    /// Gives its task a command. Waits where many are waiting; says nothing where the task has ended.
    pub(super) async fn command(&self, command: Command) {
        drop(self.commands.send(command).await);
    }

    /// Its name.
    pub fn id(&self) -> &ChannelId {
        self.shared.id()
    }

    /// Its configuration.
    pub fn config(&self) -> &Arc<config::Channel> {
        self.shared.config()
    }

    /// The names behind its ids, as batches carry them.
    pub fn layout(&self) -> &Arc<Layout> {
        self.shared.layout()
    }

    /// How it is.
    pub fn status(&self) -> ChannelStatus {
        self.shared.status()
    }

    /// What it is doing.
    pub fn state(&self) -> lifecycle::State {
        self.shared.state()
    }

    /// For how long its task has made no progress in the host's own code, if it hangs.
    pub fn late(&self, now: MonotonicNs) -> Option<Duration> {
        self.shared.pulse().late(now)
    }

    /// How punctual the polls of its groups are, in the configuration's order.
    pub fn punctuality(&self) -> Vec<Punctuality> {
        self.shared.punctuality()
    }

    /// How many reads, writes and commands wait for a link to come up again.
    pub fn waiting(&self) -> usize {
        self.shared.waiting().len()
    }

    /// How much waits for its next turn, and how much may.
    pub fn mailbox(&self) -> (usize, usize) {
        let room = self.mailbox.max_capacity();
        (room.saturating_sub(self.mailbox.capacity()), room)
    }

    /// How requests were answered since the channel took up its configuration: reads, writes, commands.
    pub fn answers(&self) -> [Answers; 3] {
        self.answered.read()
    }

    /// Follows how it is. Counters stand still in what is seen here.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<ChannelStatus> {
        self.shared.watch()
    }

    /// Its tags.
    pub fn tags(&self) -> &TagTable {
        self.shared.tags()
    }

    /// The tag of this name.
    pub fn tag_id(&self, name: &str) -> Option<TagId> {
        let tags = self.shared.tags().tags();
        let found = self.by_name.binary_search_by(|place| {
            let known = tags.get(*place as usize).map(|tag| &*tag.name);
            known.cmp(&Some(name))
        });
        found
            .ok()
            .and_then(|at| self.by_name.get(at))
            .copied()
            .map(TagId)
    }

    /// Why a tag is as it is: from the channel down to the tag.
    pub fn reasons(&self, tag: TagId) -> Vec<String> {
        self.shared.reasons(tag)
    }

    /// What it has done since it was first seen.
    pub fn statistics(&self) -> Statistics {
        self.shared.chronicle().statistics()
    }

    /// What that was when the channel was first seen in this run of the host.
    pub fn began(&self) -> &Statistics {
        self.shared.chronicle().began()
    }

    /// How long its turns took in this run of the host, all together.
    pub fn turn_time(&self) -> Duration {
        self.shared.chronicle().turn_time()
    }

    /// What has happened to it, and whether all of that is on the disk: what is not is not told yet.
    pub async fn history(&self) -> Result<(History, bool), StoreError> {
        // Asked again, since what could not be kept before must not be taken for kept.
        self.shared.chronicle().ask();
        let flushed = tokio::time::timeout(FLUSH, self.shared.store().flush()).await;
        let durable = matches!(flushed, Ok(Ok(())));
        let chronicle = self.shared.chronicle().clone();
        let history = tokio::task::spawn_blocking(move || chronicle.history()).await;
        let history = history.map_err(|error| StoreError::Task {
            reason: error.to_string(),
        })??;
        Ok((history, durable))
    }

    /// What its links do and have gone through, in the configuration's order.
    pub fn journals(&self) -> &[Arc<Journal>] {
        self.shared.journals()
    }

    /// What has happened to one of its links, and whether all of that is on the disk.
    pub async fn link_history(
        &self,
        journal: &Arc<Journal>,
    ) -> Result<(LinkHistory, bool), StoreError> {
        journal.ask();
        let flushed = tokio::time::timeout(FLUSH, self.shared.store().flush()).await;
        let durable = matches!(flushed, Ok(Ok(())));
        let journal = journal.clone();
        let history = tokio::task::spawn_blocking(move || journal.history()).await;
        let history = history.map_err(|error| StoreError::Task {
            reason: error.to_string(),
        })??;
        Ok((history, durable))
    }

    /// Starts it.
    pub async fn start(&self) -> Result<(), Denied> {
        self.order(Order::Start).await
    }

    /// Asks it to stop. Returns when that is under way.
    pub async fn stop(&self) -> Result<(), Denied> {
        self.order(Order::Stop).await
    }

    /// Asks it to stop, and to begin again then. Returns when that is under way.
    pub async fn restart(&self) -> Result<(), Denied> {
        self.order(Order::Restart).await
    }

    /// Forgets earlier attempts to restart it; starts it if it is broken or waits for the next.
    pub async fn reset(&self) -> Result<(), Denied> {
        self.order(Order::Reset).await
    }

    async fn order(&self, order: Order) -> Result<(), Denied> {
        let (reply, answer) = oneshot::channel();
        let gone = |shared: &Shared| Denied {
            state: shared.state(),
            input: order.into(),
            why: "is no more: the host stops, or a reload has removed it; nothing needs to be done",
        };
        if self
            .commands
            .send(Command::Order { order, reply })
            .await
            .is_err()
        {
            return Err(gone(&self.shared));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(gone(&self.shared)),
        }
    }

    /// Reads tags from the device, now. The samples come in the order asked for, in engineering units.
    pub async fn read(
        &self,
        tags: Vec<TagId>,
        timeout: Duration,
    ) -> Result<Vec<Sample>, RequestError> {
        let pending = self.answered.begin(Asked::Read, self.shared.clock());
        let read = self.read_uncounted(tags, timeout).await;
        pending.end(&read);
        read
    }

    async fn read_uncounted(
        &self,
        tags: Vec<TagId>,
        timeout: Duration,
    ) -> Result<Vec<Sample>, RequestError> {
        let mut unique = Vec::with_capacity(tags.len());
        for tag in &tags {
            let config = self.tag(*tag)?;
            if config.access == config::Access::Write {
                return Err(RequestError::NotReadable {
                    tag: config.name.to_string(),
                });
            }
            if let Some(refusal) = self.refusal_of_locked(*tag) {
                return Err(refusal);
            }
            if !unique.contains(tag) {
                unique.push(*tag);
            }
        }
        if unique.is_empty() {
            return Ok(Vec::new());
        }
        match self.request(Ask::Read(unique.into()), timeout).await? {
            Answer::Read(samples) => Ok(tags
                .iter()
                .filter_map(|tag| samples.iter().find(|sample| sample.tag == *tag).cloned())
                .collect()),
            Answer::Write(_) | Answer::Command(_) => Err(RequestError::Restarted),
        }
    }

    /// Writes a tag, in engineering units. Gives what was read back, where that was asked for. Who asked, and how it was answered,
    /// is in the audit log when this returns.
    pub async fn write(
        &self,
        tag: TagId,
        value: Value,
        read_back: bool,
        timeout: Duration,
        writer: Writer<'_>,
    ) -> Result<Option<Value>, RequestError> {
        let config = self.tag(tag)?;
        let mut noted = Noted {
            channel: self,
            tag: &config.name,
            writer,
            value: serde_json::to_value(JsonValue(&value)).unwrap_or_default(),
            asked: self.shared.clock().wall(),
            answer: audit::Answer {
                code: "unheard",
                message: None,
            },
        };
        let pending = self.answered.begin(Asked::Write, self.shared.clock());
        let done = self.write_unnoted(tag, value, read_back, timeout).await;
        pending.end(&done);
        noted.answer = match &done {
            Ok(_) => audit::Answer {
                code: "done",
                message: None,
            },
            Err(error) => audit::Answer {
                code: error.code(),
                message: Some(error.to_string()),
            },
        };
        done
    }

    async fn write_unnoted(
        &self,
        tag: TagId,
        value: Value,
        read_back: bool,
        timeout: Duration,
    ) -> Result<Option<Value>, RequestError> {
        let config = self.tag(tag)?;
        if !config.access.is_writable() {
            return Err(RequestError::NotWritable {
                tag: config.name.to_string(),
            });
        }
        if let Some(refusal) = self.refusal_of_locked(tag) {
            return Err(refusal);
        }
        let value = tags::to_device(config, value)?;
        let ask = Ask::Write {
            tag,
            value,
            read_back,
        };
        let put = self.put_in_time(config, ask, timeout)?;
        match self.answer_to(put, timeout).await? {
            Answer::Write(read) => Ok(read),
            Answer::Read(_) | Answer::Command(_) => Err(RequestError::Restarted),
        }
    }

    /// The commands that its driver lists. A driver that lists none may take any.
    pub fn commands(&self) -> &[CommandInfo] {
        &self.info.commands
    }

    /// Gives a command, which is under way then.
    pub fn run_command(
        &self,
        name: &str,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<RunningCommand, RequestError> {
        let pending = self.answered.begin(Asked::Command, self.shared.clock());
        match self.open_command(name, payload, timeout) {
            Ok(opening) => Ok(self.desk.open(opening, pending)),
            Err(error) => {
                let refused = Err(error);
                pending.end(&refused);
                refused
            }
        }
    }

    fn open_command(
        &self,
        name: &str,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Opening, RequestError> {
        let timeout = timeout.min(MAX_TIMEOUT);
        let offered = self.commands();
        if !offered.is_empty() && !offered.iter().any(|offered| offered.name == name) {
            let known: Vec<&str> = offered.iter().map(|known| &*known.name).collect();
            return Err(RequestError::NoSuchCommand {
                channel: self.id().to_string(),
                command: name.chars().take(64).collect(),
                known: known.join(", "),
            });
        }
        if self.desk.is_full() {
            return Err(RequestError::TooManyCommands {
                channel: self.id().to_string(),
                most: MAX_UNDER_WAY,
            });
        }
        let clock = self.shared.clock();
        let (since, deadline) = (clock.wall(), clock.monotonic().after(timeout));
        let (progress, reports) = watch::channel(None);
        let ask = Ask::Command {
            name: name.into(),
            payload,
            progress,
        };
        let (request, answer) = self.put(ask, timeout)?;
        Ok(Opening {
            request,
            name: name.to_owned(),
            since,
            timeout,
            deadline: clock.instant(deadline),
            progress: reports,
            answer,
            mailbox: self.mailbox.clone(),
            waiting: self.shared.waiting().clone(),
        })
    }

    /// The commands that are under way, in the order in which they were given.
    pub fn commands_under_way(&self) -> Vec<UnderWay> {
        self.desk.under_way()
    }

    /// Takes a command back: whoever waits for it is told so, and so is the driver. Gives whether it was under way.
    pub fn cancel_command(&self, request: RequestId) -> bool {
        self.desk.cancel(request)
    }

    /// The events that are kept away from its driver, the oldest first.
    pub fn dead_letters(&self) -> Vec<Letter> {
        self.shared.quarantine().letters()
    }

    /// A dead letter, and what its event carried. Reads the disk.
    pub fn dead_letter(&self, number: u64) -> Result<Option<(Letter, Vec<u8>)>, StoreError> {
        self.shared.quarantine().letter(number)
    }

    /// Takes a dead letter off the list, which lifts its block; with `forget`, a saved state is given up besides. Nothing is sent again.
    pub async fn lift_dead_letter(
        &self,
        number: u64,
        forget: bool,
    ) -> Result<Option<Letter>, StoreError> {
        let Some((letter, left)) = self.shared.quarantine().lift(number, forget).await? else {
            return Ok(None);
        };
        tracing::info!(channel = %self.id(), letter = number, forget, "a dead letter was taken off the list");
        if left == 0 {
            self.shared.announce(Happened::Alarm {
                code: DEAD_LETTERS_ALARM.to_owned(),
                severity: Severity::Error,
                active: false,
                message: "nothing is kept away from the driver any more".to_owned(),
                device: None,
                source_time: None,
            });
        }
        Ok(Some(letter))
    }

    /// Takes a device out of service: it is not polled, its tags are bad, nothing is written to it. It is on the disk when this is done.
    /// Gives whether there is such a device.
    pub async fn lock_device(&self, device: &str, why: &str) -> Result<bool, StoreError> {
        let why = shown(why, MAX_REASON);
        let now = self.shared.clock().wall();
        self.set_lock(device, Some((now, &why))).await
    }

    /// Puts a device into service again. Gives whether there is such a device.
    pub async fn unlock_device(&self, device: &str) -> Result<bool, StoreError> {
        self.set_lock(device, None).await
    }

    async fn set_lock(
        &self,
        device: &str,
        lock: Option<(WallNs, &str)>,
    ) -> Result<bool, StoreError> {
        let devices = &self.shared.config().devices;
        let Some(place) = devices.iter().position(|known| known.name == device) else {
            return Ok(false);
        };
        let (shared, id) = (
            &self.shared,
            DeviceId(u32::try_from(place).unwrap_or(u32::MAX)),
        );
        let keeper = (shared.id(), shared.store());
        shared.locks().set(keeper, device, lock).await?;
        match lock {
            Some((_, why)) => {
                tracing::warn!(channel = %self.id(), device, why, "a device was locked by an operator");
            }
            None => {
                tracing::info!(channel = %self.id(), device, "a device was unlocked by an operator")
            }
        }
        let standing = shared.locks().of(device);
        let standing = standing.map_or(DeviceStanding::Polled, DeviceStanding::Locked);
        shared.set_standing(id, standing);
        let (condition, why) = match lock {
            Some((_, why)) => ("locked", why.to_owned()),
            None => ("unlocked", String::new()),
        };
        shared.announce(Happened::Device {
            device: device.to_owned(),
            condition,
            why,
        });
        // It only wakes a driver's task: one that is awake looks for itself.
        if let Err(error) = self.mailbox.try_send(Mail::Locks) {
            tracing::debug!(channel = %self.id(), %error, "the channel is awake, or has no task");
        }
        Ok(true)
    }

    /// The refusal of what is asked of a tag whose device is locked.
    pub fn refusal_of_locked(&self, tag: TagId) -> Option<RequestError> {
        let tag = self.shared.tags().tags().get(tag.index())?;
        self.shared.refusal_of_locked(tag.device)
    }

    fn tag(&self, tag: TagId) -> Result<&config::Tag, RequestError> {
        self.shared
            .tags()
            .tags()
            .get(tag.index())
            .ok_or_else(|| RequestError::NoSuchTag {
                channel: self.id().to_string(),
                tag: tag.to_string(),
            })
    }

    /// Puts a write into the mailbox, unless the tag was written too short a time ago.
    fn put_in_time(
        &self,
        config: &config::Tag,
        ask: Ask,
        timeout: Duration,
    ) -> Result<Put, RequestError> {
        let timeout = timeout.min(MAX_TIMEOUT);
        let Some(interval) = config.treatment.write_interval() else {
            return self.put(ask, timeout);
        };
        let now = self.shared.clock().monotonic();
        let admitted = self
            .pace
            .admit(&config.name, interval, now)
            .map_err(|wait| RequestError::RateLimited {
                tag: config.name.to_string(),
                interval,
                wait,
            })?;
        let put = self.put(ask, timeout);
        if put.is_err() {
            self.pace.take_back(admitted);
        }
        put
    }

    async fn request(&self, ask: Ask, timeout: Duration) -> Result<Answer, RequestError> {
        let put = self.put(ask, timeout.min(MAX_TIMEOUT))?;
        self.answer_to(put, timeout).await
    }

    async fn answer_to(
        &self,
        (id, mut answer): Put,
        timeout: Duration,
    ) -> Result<Answer, RequestError> {
        let timeout = timeout.min(MAX_TIMEOUT);
        let deadline = self.shared.clock().monotonic().after(timeout);
        match tokio::time::timeout_at(self.shared.clock().instant(deadline), &mut answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RequestError::Restarted),
            Err(_) => match self.shared.waiting().withdraw(id) {
                Some(link_down) => Err(link_down),
                // It may have been answered at this very moment: then that is what it was.
                None => {
                    answer.close();
                    let late = answer.try_recv();
                    late.unwrap_or(Err(RequestError::TimedOut { after: timeout }))
                }
            },
        }
    }

    /// Puts a request into the mailbox, as it is: neither tags nor values are checked here. The answer may come late, while
    /// the channel is between two drivers; whoever waits for it keeps the time.
    pub fn submit(
        &self,
        ask: Ask,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Result<Answer, RequestError>>, RequestError> {
        self.put(ask, timeout).map(|(_, answer)| answer)
    }

    fn put(&self, ask: Ask, timeout: Duration) -> Result<Put, RequestError> {
        let (can, kind) = match &ask {
            Ask::Read(_) => ("read", "read"),
            Ask::Write { .. } => ("write", "write"),
            Ask::Command { name, .. } if **name == *"browse" => ("browse", "browse"),
            Ask::Command { .. } => ("commands", "take commands"),
        };
        if !self.info.can.contains(&can) {
            return Err(RequestError::NotSupported {
                channel: self.id().to_string(),
                kind,
            });
        }
        let state = self.shared.state();
        match state {
            lifecycle::State::Stopped | lifecycle::State::Stopping | lifecycle::State::Broken => {
                let why = self.shared.status().reason;
                return Err(RequestError::NotRunning {
                    channel: self.id().to_string(),
                    state,
                    why,
                });
            }
            // In the others a driver takes it, or soon will: it waits in the mailbox, for as long as its deadline allows.
            lifecycle::State::Starting
            | lifecycle::State::Running
            | lifecycle::State::Degraded
            | lifecycle::State::Restarting
            | lifecycle::State::Backoff => {}
        }
        let (reply, answer) = oneshot::channel();
        let clock = self.shared.clock();
        let deadline = clock.monotonic().after(timeout);
        let id = RequestId(self.requests.fetch_add(1, Ordering::Relaxed) + 1);
        let request = Request {
            id,
            edition: self.shared.edition(),
            ask,
            deadline,
            timeout,
            reply,
        };
        match self.mailbox.try_send(Mail::Request(Box::new(request))) {
            Ok(()) => Ok((id, answer)),
            Err(TrySendError::Full(_)) => Err(RequestError::Busy {
                channel: self.id().to_string(),
            }),
            Err(TrySendError::Closed(_)) => Err(RequestError::Restarted),
        }
    }
}

/// A request that waits in the mailbox, and where its answer comes out.
type Put = (RequestId, oneshot::Receiver<Result<Answer, RequestError>>);
