//! What everybody may see of a channel while its task works.
//!
//! The state goes out by `watch`, with a generation, so that nobody locks a channel to look at it; the tags have a table
//! of their own; counters are atomics that only the channel's task raises.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::locks::{Lock, Locks};
use super::mailbox::RequestError;
use super::pulse::Pulse;
use super::punctuality::{Punctuality, PunctualityCells};
use super::quarantine::Quarantine;
use super::waiting::Waiting;
use crate::bus::{Bus, ChannelEvent, Happened, Message};
use crate::clock::Clock;
use crate::config;
use crate::event::{Batch, Layout, MonotonicNs, Quality, Sample, WallNs};
use crate::exit::Exit;
use crate::history::Chronicle;
use crate::ids::{ChannelId, DeviceId, InstanceId, LinkId, TagId};
use crate::lifecycle::{Denied, Due, Input, Machine, State, Step};
use crate::link::Journal;
use crate::store::Store;
use crate::tags::TagTable;

/// Room in a batch that nothing stands in, in bytes.
const MAX_ROOM: usize = 4 * 1024;

/// How a channel is.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStatus {
    /// Raised with each change.
    pub generation: u64,
    /// The running state.
    pub state: State,
    /// Why, in one sentence.
    pub reason: String,
    /// Since when.
    pub since: WallNs,
    /// The present or last incarnation; 0 before the first.
    pub incarnation: u64,
    /// Restarts that the policy has spent.
    pub attempts: u32,
    /// When the next one begins by itself, in `backoff` and in `broken`.
    pub next_attempt: Option<WallNs>,
    /// The last end that nobody asked for: when, of which incarnation, how.
    pub last_exit: Option<(WallNs, u64, Exit)>,
    /// In the configuration's order.
    pub links: Vec<LinkStatus>,
    /// In the configuration's order.
    pub devices: Vec<DeviceStatus>,
    /// Since the host started.
    pub counters: Counters,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// Whether its driver wants a connection and every one it wants is up. A link that is not used is not up.
    pub up: bool,
    /// Whether its driver has opened a connection over it.
    pub wanted: bool,
    /// The peer, or why it is down.
    pub detail: String,
}

/// How a device is, as far as its driver has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// `up`, `down` or `unknown`.
    pub condition: &'static str,
    /// In the driver's words.
    pub why: String,
    /// Whether it is polled.
    pub standing: DeviceStanding,
}

/// Whether a device is polled with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceStanding {
    /// It is.
    Polled,
    /// It keeps silent, and is polled less.
    Demoted {
        /// From when on the next poll asks it; `None` while one does.
        next: Option<WallNs>,
    },
    /// An operator has taken it out of service.
    Locked(Lock),
}

impl DeviceStanding {
    /// As the API writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            DeviceStanding::Polled => "polled",
            DeviceStanding::Demoted { .. } => "demoted",
            DeviceStanding::Locked(_) => "locked",
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a channel has done since the host started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        /// The counters as the channel's task raises them.
        #[derive(Debug, Default)]
        pub(super) struct CounterCells { $(pub(super) $name: AtomicU64,)* }

        impl CounterCells {
            fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            fn set(&self, counters: Counters) {
                $(self.$name.store(counters.$name, Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    /// Turns taken.
    turns,
    /// Events handed to the driver.
    events,
    /// Actions that it asked for.
    actions,
    /// Samples that it published.
    samples,
    /// Polls handed out.
    polls,
    /// Requests that the driver made of its devices in polls.
    poll_requests,
    /// Of those, the ones that failed.
    poll_failures,
    /// Polls skipped because the one before was not done, or the host was late.
    polls_skipped,
    /// Reads, writes and commands handed to the driver.
    requests,
    /// Those that came while their link was down, and had to wait.
    waited,
    /// Answers that came when nobody waited for them any more: after the deadline, or after a cancel.
    late_answers,
    /// Events that were kept away from the driver; see `quarantine`.
    kept_away,
    /// Incarnations that ended in a fault.
    faults,
    /// Bytes that came in over links.
    bytes_in,
    /// Bytes that went out over links.
    bytes_out,
    /// Fuel of the last turn.
    fuel_last,
    /// The most memory that an incarnation held, in bytes.
    peak_memory,
}

/// Raises a counter. Only the channel's task does so, hence no read-modify-write is needed.
pub(super) fn raise(counter: &AtomicU64, by: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Relaxed,
    );
}

/// A channel as everybody sees it.
pub struct Shared {
    index: usize,
    edition: u64,
    config: Arc<config::Channel>,
    layout: Arc<Layout>,
    tags: TagTable,
    bus: Bus,
    clock: Clock,
    store: Store,
    status: watch::Sender<ChannelStatus>,
    /// Decides; the status shows what it decided. Only the channel's task and the start of the host step it.
    machine: Mutex<Machine>,
    epoch: u64,
    /// The samples published in this epoch.
    sequence: AtomicU64,
    chronicle: Arc<Chronicle>,
    journals: Arc<[Arc<Journal>]>,
    quarantine: Arc<Quarantine>,
    waiting: Waiting,
    locks: Arc<Locks>,
    pub(super) counters: CounterCells,
    /// In the order of the groups.
    pub(super) punctuality: Box<[PunctualityCells]>,
    pulse: Pulse,
}

/// What of the machine stands in the status.
struct Outlook {
    attempts: u32,
    retry_at: Option<MonotonicNs>,
}

impl Outlook {
    fn of(machine: &Machine) -> Self {
        Self {
            attempts: machine.attempts(),
            retry_at: machine.retry_at(),
        }
    }
}

/// What a [`Shared`] is made of.
pub struct SharedParts {
    /// The channel's place in the host's tables.
    pub index: usize,
    /// Counts the configurations that the channel has had, from 0.
    pub edition: u64,
    /// Its configuration.
    pub config: Arc<config::Channel>,
    /// In which its samples are counted.
    pub epoch: u64,
    /// Where it publishes.
    pub bus: Bus,
    /// The host's clock.
    pub clock: Clock,
    /// Where it keeps what outlives it.
    pub store: Store,
    /// What it has gone through.
    pub chronicle: Arc<Chronicle>,
    /// What its links do and have gone through, in the configuration's order.
    pub journals: Arc<[Arc<Journal>]>,
    /// What outlives its configuration; `None` for a channel that begins.
    pub kept: Option<Kept>,
}

/// What goes by names, and so holds under whatever configuration.
#[derive(Clone)]
pub struct Kept {
    locks: Arc<Locks>,
    quarantine: Arc<Quarantine>,
}

impl Shared {
    /// A channel that has never run.
    pub fn new(parts: SharedParts) -> Self {
        let links = parts.config.links.iter().map(|link| LinkStatus {
            name: link.name.clone(),
            up: false,
            wanted: false,
            detail: "not opened by the driver".into(),
        });
        let (kept, unread) = match parts.kept {
            Some(kept) => (kept, None),
            None => {
                let (locks, unread) = Locks::open(&parts.config.id, &parts.store);
                let kept = Kept {
                    locks: Arc::new(locks),
                    quarantine: Arc::new(Quarantine::open(&parts.config.id, &parts.store)),
                };
                (kept, unread)
            }
        };
        let Kept { locks, quarantine } = kept;
        if let Some(why) = unread {
            let sentence = format!(
                "which devices are locked could not be read, so none is; lock them again with `bulkhead device lock` ({why})"
            );
            tracing::error!(channel = %parts.config.id, "{sentence}");
            parts.chronicle.warned(parts.clock.wall(), 0, &sentence);
        }
        let devices = parts.config.devices.iter().map(|device| DeviceStatus {
            name: device.name.clone(),
            condition: "unknown",
            why: String::new(),
            standing: locks
                .of(&device.name)
                .map_or(DeviceStanding::Polled, DeviceStanding::Locked),
        });
        let status = ChannelStatus {
            generation: 0,
            state: State::Stopped,
            reason: "not started yet".into(),
            since: parts.clock.wall(),
            incarnation: 0,
            attempts: 0,
            next_attempt: None,
            last_exit: None,
            links: links.collect(),
            devices: devices.collect(),
            counters: Counters::default(),
        };
        Self {
            locks,
            index: parts.index,
            edition: parts.edition,
            quarantine,
            tags: TagTable::new(parts.config.tags.clone()),
            machine: Mutex::new(Machine::new(parts.config.restart.clone())),
            punctuality: parts
                .config
                .groups
                .iter()
                .map(|_| PunctualityCells::default())
                .collect(),
            layout: Arc::new(parts.config.layout()),
            config: parts.config,
            epoch: parts.epoch,
            bus: parts.bus,
            clock: parts.clock,
            store: parts.store,
            status: watch::Sender::new(status),
            sequence: AtomicU64::new(0),
            chronicle: parts.chronicle,
            journals: parts.journals,
            waiting: Waiting::default(),
            counters: CounterCells::default(),
            pulse: Pulse::default(),
        }
    }

    /// The channel's place in the host's tables.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What outlives its configuration.
    pub fn kept(&self) -> Kept {
        Kept {
            locks: self.locks.clone(),
            quarantine: self.quarantine.clone(),
        }
    }

    /// Counts the configurations that the channel has had within this run of the host, from 0.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// The channel's name.
    pub fn id(&self) -> &ChannelId {
        &self.config.id
    }

    /// The channel's configuration.
    pub fn config(&self) -> &Arc<config::Channel> {
        &self.config
    }

    /// The names behind its ids, as batches carry them.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// In which its samples are counted.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The channel's tags.
    pub fn tags(&self) -> &TagTable {
        &self.tags
    }

    /// The host's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Where the channel keeps what outlives it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How punctual the polls of its groups are, in the configuration's order.
    pub fn punctuality(&self) -> Vec<Punctuality> {
        self.punctuality
            .iter()
            .map(PunctualityCells::read)
            .collect()
    }

    /// Whether its task makes progress.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What the channel has gone through.
    pub fn chronicle(&self) -> &Arc<Chronicle> {
        &self.chronicle
    }

    /// What its links do and have gone through, in the configuration's order.
    pub fn journals(&self) -> &Arc<[Arc<Journal>]> {
        &self.journals
    }

    /// What is kept away from its driver.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// The requests that wait for a link.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The devices that an operator has taken out of service.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// The refusal of what is asked of a device that is locked; `None` if it is not.
    pub fn refusal_of_locked(&self, device: DeviceId) -> Option<RequestError> {
        let device = self.config.devices.get(device.index())?;
        let lock = self.locks.of(&device.name)?;
        Some(RequestError::DeviceLocked {
            channel: self.id().to_string(),
            why: lock.sentence(&device.name),
            device: device.name.clone(),
        })
    }

    /// Puts into the status whether a device is polled.
    pub(crate) fn set_standing(&self, device: DeviceId, standing: DeviceStanding) {
        self.update(|status| {
            if let Some(device) = status.devices.get_mut(device.index()) {
                device.standing = standing;
            }
        });
    }

    /// When a moment is, on the clock on the wall.
    pub(super) fn wall_of(&self, moment: MonotonicNs) -> WallNs {
        let wait = moment.since(self.clock.monotonic()).as_nanos();
        let wait = u64::try_from(wait).unwrap_or(u64::MAX);
        WallNs(self.clock.wall().0.saturating_add(wait))
    }

    /// Goes on where the channel was under the configuration before. Tags that are as they were keep what is known of them, if
    /// `meaning_stays` says that it still holds; consumers are told that the others are bad.
    pub fn take_over(&self, before: &Shared, meaning_stays: bool) {
        let places: HashMap<&str, usize> = before
            .config
            .tags
            .iter()
            .enumerate()
            .filter(|_| meaning_stays)
            .map(|(place, tag)| (&*tag.name, place))
            .collect();
        let mut kept = vec![false; before.config.tags.len()];
        // One that has lost its group is not read any more.
        let (groups_before, groups_now) = (group_names(&before.config), group_names(&self.config));
        let same: Vec<Option<usize>> = (self.config.tags.iter().enumerate())
            .map(|(at, tag)| {
                let place = *places.get(&*tag.name)?;
                let old = before.config.tags.get(place)?;
                let same = config::is_same_tag((&before.config, old), (&self.config, tag))
                    && config::is_same_way((&before.config, old), (&self.config, tag))
                    && groups_before.get(place) == groups_now.get(at);
                *kept.get_mut(place)? = same;
                same.then_some(place)
            })
            .collect();
        self.tags.take_over(&before.tags, &same);
        let gone: HashSet<usize> = (0..kept.len()).filter(|place| !kept[*place]).collect();
        let why = "the tag is another, or is no more, since the configuration was reloaded".into();
        let now = self.clock.wall();
        let changes = before
            .tags
            .mark_places(&gone, Quality::BadOutOfService, &why, now);
        before.publish(&before.instance(), changes, now);
        self.sequence
            .store(before.sequence.load(Ordering::Relaxed), Ordering::Relaxed);
        let status = before.status();
        self.counters.set(status.counters);
        self.update(|now| {
            now.generation = status.generation;
            now.incarnation = status.incarnation;
            now.last_exit = status.last_exit;
            now.state = State::Stopped;
            now.reason = status.reason;
            now.since = status.since;
            // Perhaps another since this was made.
            for device in &mut now.devices {
                let lock = self.locks.of(&device.name);
                device.standing = lock.map_or(DeviceStanding::Polled, DeviceStanding::Locked);
            }
        });
    }

    /// How the channel is.
    pub fn status(&self) -> ChannelStatus {
        let mut status = self.status.borrow().clone();
        status.counters = self.counters.read();
        status
    }

    /// The running state alone.
    pub fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Follows the status. Counters stand still in what is seen here.
    pub fn watch(&self) -> watch::Receiver<ChannelStatus> {
        self.status.subscribe()
    }

    /// The present incarnation, as it stands on every event.
    pub fn instance(&self) -> Arc<InstanceId> {
        let incarnation = self.status.borrow().incarnation;
        Arc::new(InstanceId {
            channel: self.id().clone(),
            incarnation,
        })
    }

    /// Changes the status, raises its generation.
    pub fn update(&self, change: impl FnOnce(&mut ChannelStatus)) {
        self.status.send_modify(|status| {
            change(status);
            status.generation += 1;
        });
    }

    /// Something was observed of the instance. Lets a new state be known, with this reason.
    pub fn step(&self, input: Input, reason: &str) -> Result<Step, Denied> {
        self.steer(
            |machine, now| machine.observe(input, now),
            |_| reason.to_owned(),
        )
    }

    /// The state stays, but its reason is another.
    pub fn explain(&self, reason: &str) {
        if self.status.borrow().reason != reason {
            self.update(|status| reason.clone_into(&mut status.reason));
        }
    }

    /// Lets the machine decide. Lets a new state be known, with the reason that `say` gives.
    pub fn steer(
        &self,
        act: impl FnOnce(&mut Machine, MonotonicNs) -> Result<Step, Denied>,
        say: impl FnOnce(&Step) -> String,
    ) -> Result<Step, Denied> {
        let (step, plan) = {
            let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            let step = act(&mut machine, self.clock.monotonic())?;
            (step, Outlook::of(&machine))
        };
        let reason = (step.next != step.before).then(|| say(&step));
        self.show(plan, reason.as_deref().map(|reason| (&step, reason)));
        Ok(step)
    }

    /// Lets the machine know the time. `turn` says from when on the host lets one more restart through.
    pub fn tick(
        &self,
        turn: impl FnOnce(MonotonicNs) -> MonotonicNs,
        say: impl FnOnce(&Step) -> String,
    ) -> Result<Due, Denied> {
        let (due, plan) = {
            let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            let due = machine.due(self.clock.monotonic(), turn)?;
            (due, Outlook::of(&machine))
        };
        match &due {
            Due::Launch(step) => self.show(plan, Some((step, &say(step)))),
            Due::Turn(_) | Due::Forgiven => self.show(plan, None),
            Due::Nothing | Due::Overdue => {}
        }
        Ok(due)
    }

    /// Gives attempts back to the restart budget: what they were spent on is out of the way.
    pub fn give_back(&self, attempts: u32) {
        let outlook = {
            let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            machine.give_back(attempts);
            Outlook::of(&machine)
        };
        self.show(outlook, None);
    }

    /// What the machine says. For what it decides, see [`Shared::steer`].
    pub fn machine<T>(&self, ask: impl FnOnce(&Machine) -> T) -> T {
        ask(&self.machine.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts into the status what was decided, and announces a new state.
    fn show(&self, outlook: Outlook, news: Option<(&Step, &str)>) {
        let (wall, now) = (self.clock.wall(), self.clock.monotonic());
        let next_attempt = outlook.retry_at.map(|at| {
            let wait = u64::try_from(at.since(now).as_nanos()).unwrap_or(u64::MAX);
            WallNs(wall.0.saturating_add(wait))
        });
        self.update(|status| {
            status.attempts = outlook.attempts;
            status.next_attempt = next_attempt;
            if let Some((step, reason)) = news {
                status.state = step.next;
                reason.clone_into(&mut status.reason);
                status.since = wall;
            }
        });
        let Some((step, reason)) = news else { return };
        let (instance, from, to) = (self.instance(), step.before, step.next);
        self.chronicle
            .stepped((wall, now), instance.incarnation, (from, to), reason);
        if to == State::Broken {
            tracing::error!(%instance, %from, %to, reason, "channel is broken");
        } else {
            tracing::info!(%instance, %from, %to, reason, "channel changed state");
        }
        self.announce(Happened::State {
            state: to,
            reason: reason.to_owned(),
        });
    }

    /// An incarnation ended in a fault.
    pub fn count_fault(&self) {
        raise(&self.counters.faults, 1);
    }

    /// Tells operators of something that the host noticed: in the log, in the history, on the bus.
    pub fn warn(&self, sentence: String) {
        tracing::warn!(instance = %self.instance(), "{sentence}");
        self.announce(Happened::Warning { sentence });
    }

    /// Puts an event on the bus, and into the history what belongs there.
    pub fn announce(&self, what: Happened) {
        let event = ChannelEvent {
            instance: self.instance(),
            at: self.clock.wall(),
            what,
        };
        let (at, incarnation) = (event.at, event.instance.incarnation);
        match &event.what {
            Happened::Exit(exit) => self.chronicle.exited(at, incarnation, exit),
            Happened::Warning { sentence } => self.chronicle.warned(at, incarnation, sentence),
            // A step is told by whoever takes it; the rest comes and goes too often for a history.
            Happened::State { .. }
            | Happened::Link { .. }
            | Happened::LinkEvent { .. }
            | Happened::Device { .. }
            | Happened::Alarm { .. }
            | Happened::Dropped { .. } => {}
        }
        self.bus.publish(&Message::Event(Arc::new(event)));
    }

    /// Puts samples on the bus, if there are any.
    pub fn publish(
        &self,
        instance: &Arc<InstanceId>,
        mut samples: Vec<Sample>,
        server_time: WallNs,
    ) {
        if samples.is_empty() {
            return;
        }
        // Room for all of a group, of which few tags have changed, would be held for as long as any consumer has the batch.
        if (samples.capacity() - samples.len()) * size_of::<Sample>() > MAX_ROOM {
            samples.shrink_to_fit();
        }
        let published = samples.len() as u64;
        let sequence = self.sequence.fetch_add(published, Ordering::Relaxed) + 1;
        let batch = Batch {
            instance: instance.clone(),
            layout: self.layout.clone(),
            epoch: self.epoch,
            sequence,
            offsets: None,
            server_time,
            samples,
        };
        self.bus.publish(&Message::Samples(Arc::new(batch)));
    }

    /// Whether a device is reached over a link: over its own, or, where it names none, over any.
    pub fn device_uses(&self, device: DeviceId, link: LinkId) -> bool {
        let own = self
            .config
            .devices
            .get(device.index())
            .and_then(|device| device.link);
        own.is_none_or(|own| own == link)
    }

    /// Why a tag is as it is: from the host down to the tag.
    pub fn reasons(&self, tag: TagId) -> Vec<String> {
        let status = self.status.borrow().clone();
        let (Some(config), Some(state)) = (self.tags.tags().get(tag.index()), self.tags.state(tag))
        else {
            return Vec::new();
        };
        let mut chain = vec![format!(
            "channel {} is {}: {}",
            self.id(),
            status.state,
            status.reason
        )];
        for (number, link) in (0u32..).zip(&status.links) {
            if link.wanted && self.device_uses(config.device, LinkId(number)) {
                let up = if link.up { "up" } else { "down" };
                chain.push(format!("link {} is {up}: {}", link.name, link.detail));
            }
        }
        if let Some(device) = status.devices.get(config.device.index()) {
            let why = if device.why.is_empty() {
                "the driver has not said more"
            } else {
                &device.why
            };
            chain.push(format!(
                "device {} is {}: {why}",
                device.name, device.condition
            ));
            match &device.standing {
                DeviceStanding::Polled => {}
                DeviceStanding::Demoted { .. } => chain.push(format!(
                    "device {} keeps silent, and is polled less",
                    device.name
                )),
                DeviceStanding::Locked(lock) => chain.push(lock.sentence(&device.name)),
            }
        }
        chain.push(match &state.reason {
            Some(reason) => format!("tag {} is {}: {reason}", config.name, state.quality),
            None => format!("tag {} is {}", config.name, state.quality),
        });
        chain
    }
}

/// The name of each tag's group.
fn group_names(channel: &config::Channel) -> Vec<Option<&str>> {
    let mut names = vec![None; channel.tags.len()];
    for group in &channel.groups {
        for tag in &group.tags {
            if let Some(name) = names.get_mut(tag.index()) {
                *name = Some(&*group.name);
            }
        }
    }
    names
}
