//! What a link is doing and has gone through: one journal per link, to which its connections' tasks tell what happens.
//!
//! - `event`: the last hundred things that happened to the link. `sieve`: how many of them go to the disk.
//! - `statistics`: what it did since it was first seen.
//! - `configuration`: the link's keys as text, so that the host says what is another than at its last start.
//!
//! A journal belongs to the channel as long as the host runs, so it outlives drivers; what it knows is on the disk, so it
//! outlives hosts. In memory are the present state and what the disk does not have yet. Bytes are counted in atomics;
//! everything else happens when a state changes.

mod configuration;
mod event;
mod sieve;
mod statistics;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::OpenOptions;
use super::desk::{Desk, Press, Wish};
use super::state::LinkState;
use crate::bus::{Bus, ChannelEvent, Happened, Message};
use crate::clock::Clock;
use crate::config::Link;
use crate::event::{MonotonicNs, WallNs};
use crate::history::Chronicle;
use crate::ids::{ChannelId, ConnectionId, InstanceId};
use crate::network::Change;
use crate::reconnection::State;
use crate::store::{Found, Keep, Ledger, Owner, Store, StoreError};
use event::OnDisk;
use sieve::Sieve;
use statistics::STATISTICS;

pub use event::{EventKind, LinkHistory, LinkPast, MAX_EVENTS};
pub use statistics::{LinkStatistics, Probes};

/// Events that wait for the disk.
const MAX_WAITING: usize = 99;

/// How a connection is, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Its number.
    pub id: ConnectionId,
    /// What it is doing.
    pub state: LinkState,
    /// Since when.
    pub since: MonotonicNs,
}

/// How a link is, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// The state of all its connections together.
    pub state: State,
    /// Its connections.
    pub connections: Vec<ConnectionStatus>,
    /// What it did since it was first seen.
    pub statistics: LinkStatistics,
    /// When a byte came in last.
    pub heard: Option<MonotonicNs>,
    /// Whether the driver's heartbeat is answered, where it has one.
    pub healthy: Option<bool>,
    /// Events since the last one in the history that came too fast for the disk.
    pub left_out: u64,
}

/// What a journal writes to besides itself.
#[derive(Clone)]
pub struct Keeper {
    /// The disk.
    pub store: Store,
    /// Where events come out.
    pub bus: Bus,
    /// The channel's history, for what its operators must see.
    pub chronicle: Arc<Chronicle>,
}

/// The journal of one link.
pub struct Journal {
    channel: ChannelId,
    name: String,
    /// Another after a reload that changes it.
    link: RwLock<Arc<Link>>,
    owner: Owner,
    clock: Clock,
    keeper: Option<Keeper>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// When a byte came in last; 0 for never.
    heard: AtomicU64,
    /// What the statistics were when this was opened.
    began: LinkStatistics,
    rest: Mutex<Rest>,
    /// A connection is no more.
    somebody_left: Notify,
    /// Whether the store has been asked to take what is new.
    asked: AtomicBool,
}

struct Rest {
    lines: Vec<Known>,
    /// Of these, the bytes are what they were when the host started.
    statistics: LinkStatistics,
    healthy: Option<bool>,
    sieve: Sieve,
    /// Events that are not on the disk yet.
    events: VecDeque<Vec<u8>>,
    /// Those that found no room, since the disk has been away for long.
    lost: u64,
    /// The bytes of which the disk knows.
    bytes_kept: u64,
    /// Whether anything is new besides bytes.
    changed: bool,
}

/// A connection over the link, for as long as its task lives.
pub(super) struct Line {
    journal: Arc<Journal>,
    desk: Arc<Desk>,
}

impl Line {
    pub(super) fn new(options: &OpenOptions, desk: &Arc<Desk>, end: &CancellationToken) -> Self {
        options.journal.opened(options, desk.clone(), end.clone());
        Self {
            journal: options.journal.clone(),
            desk: desk.clone(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.journal.gone(&self.desk);
    }
}

/// A connection, as the journal knows it.
struct Known {
    id: ConnectionId,
    target: Option<String>,
    /// Cancelled when the channel has dropped it.
    end: CancellationToken,
    desk: Arc<Desk>,
    state: LinkState,
    since: MonotonicNs,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Journal").field(&self.owner).finish()
    }
}

impl Journal {
    /// Goes on where the last run of the host ended. Without a keeper nothing goes to the disk or the bus.
    pub fn open(
        channel: ChannelId,
        link: Arc<Link>,
        clock: Clock,
        keeper: Option<Keeper>,
    ) -> Arc<Self> {
        let owner = Owner::link(&channel, &link.name);
        let kept = keeper
            .as_ref()
            .and_then(|keeper| kept(&keeper.store, &owner));
        let is_new = kept.is_none();
        let (statistics, before) = match kept {
            Some((statistics, configuration)) => (statistics, Some(configuration)),
            None => (
                LinkStatistics {
                    since: clock.wall(),
                    ..LinkStatistics::default()
                },
                None,
            ),
        };
        let journal = Arc::new(Self {
            owner,
            bytes_in: AtomicU64::new(statistics.bytes_in),
            bytes_out: AtomicU64::new(statistics.bytes_out),
            heard: AtomicU64::new(0),
            began: statistics.clone(),
            rest: Mutex::new(Rest {
                lines: Vec::new(),
                bytes_kept: statistics.bytes_in.wrapping_add(statistics.bytes_out),
                statistics,
                healthy: None,
                sieve: Sieve::default(),
                events: VecDeque::new(),
                lost: 0,
                changed: is_new,
            }),
            somebody_left: Notify::new(),
            asked: AtomicBool::new(false),
            channel,
            name: link.name.clone(),
            link: RwLock::new(link),
            clock,
            keeper,
        });
        if let Some(before) = before {
            journal.note_change(&before);
        }
        journal
    }

    /// The link.
    pub fn link(&self) -> Arc<Link> {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        link.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator has given the link of this name another configuration. Connections that are open keep theirs.
    pub fn reconfigure(self: &Arc<Self>, link: Arc<Link>) {
        let before = configuration::text(&self.link());
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
        self.note_change(&before);
    }

    fn note_change(self: &Arc<Self>, before: &str) {
        let now = configuration::text(&self.link());
        if let Some(change) = configuration::difference(before, &now) {
            let mut rest = self.rest();
            self.add(
                &mut rest,
                (0, None),
                EventKind::ConfigurationChanged,
                &change,
            );
            drop(rest);
            self.ask();
        }
    }

    /// This moment, on the host's clock.
    pub fn now(&self) -> MonotonicNs {
        self.clock.monotonic()
    }

    /// How the link is.
    pub fn report(&self) -> LinkReport {
        let rest = self.rest();
        let now = self.clock.monotonic();
        let heard = self.heard.load(Ordering::Relaxed);
        LinkReport {
            state: rest.state(),
            connections: rest
                .lines
                .iter()
                .map(|line| ConnectionStatus {
                    id: line.id,
                    state: line.state.clone(),
                    since: line.since,
                })
                .collect(),
            statistics: self.statistics(&rest, now),
            heard: (heard > 0).then_some(MonotonicNs(heard)),
            healthy: rest.healthy,
            left_out: rest.sieve.left_out(),
        }
    }

    /// What the statistics were when the link was first seen in this run of the host: what it has done since is the difference.
    pub fn began(&self) -> &LinkStatistics {
        &self.began
    }

    /// The history, as it is on the disk. Blocks for as long as the disk takes; whoever wants the newest event in it
    /// flushes the store before.
    pub fn history(&self) -> Result<LinkHistory, StoreError> {
        match &self.keeper {
            Some(keeper) => event::read(&keeper.store, &self.owner),
            None => Ok(LinkHistory::default()),
        }
    }

    /// Asks every connection of the link for a fresh stream: the operator's word. Gives how many there are.
    pub fn reconnect(&self) -> usize {
        let rest = self.rest();
        for line in &rest.lines {
            line.desk.wish(Wish::Press(Press::Reconnect));
        }
        rest.lines.len()
    }

    /// This machine's network has changed: each connection finds out what that means for it.
    pub fn network_changed(&self, change: &Change) {
        for line in &self.rest().lines {
            line.desk.network_changed(change);
        }
    }

    /// Has the store take what is new, if anything is.
    pub fn ask(self: &Arc<Self>) {
        let Some(keeper) = &self.keeper else { return };
        let bytes = self.bytes();
        let rest = self.rest();
        let news = rest.changed || !rest.events.is_empty() || bytes != rest.bytes_kept;
        drop(rest);
        if news && !self.asked.swap(true, Ordering::AcqRel) {
            keeper.store.ask(self.clone());
        }
    }

    // What the connections' tasks tell.

    /// So many bytes came in.
    pub(super) fn received(&self, bytes: usize, now: MonotonicNs) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.heard.store(now.0, Ordering::Relaxed);
    }

    /// So many bytes went out.
    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A driver has opened a connection.
    fn opened(&self, options: &OpenOptions, desk: Arc<Desk>, end: CancellationToken) {
        let since = self.clock.monotonic();
        self.rest().lines.push(Known {
            id: options.id,
            target: options.target.clone(),
            end,
            desk,
            state: LinkState::Connecting,
            since,
        });
    }

    /// Waits until no other connection to the same target is on its way out.
    pub(super) async fn left(&self, target: &Option<String>, desk: &Arc<Desk>) {
        loop {
            let mut gone = pin!(self.somebody_left.notified());
            // From now on: the last one may leave while we look.
            gone.as_mut().enable();
            let leaves = |line: &Known| {
                line.target == *target
                    && !Arc::ptr_eq(&line.desk, desk)
                    && (line.end.is_cancelled() || line.desk.is_closing())
            };
            if !self.rest().lines.iter().any(leaves) {
                return;
            }
            gone.await;
        }
    }

    /// A dial was begun.
    pub(super) fn dialled(&self) {
        let mut rest = self.rest();
        rest.statistics.dials += 1;
        rest.changed = true;
    }

    /// A dial led to a stream, after so long.
    pub(super) fn answered(&self, after: Duration) {
        self.rest().statistics.dial_time = Some(after);
    }

    /// A dial failed.
    pub(super) fn unanswered(&self) {
        self.rest().statistics.failed_dials += 1;
    }

    /// A connection is in another state, or in the same for another reason. Events follow from what it was before.
    pub(super) fn changed(self: &Arc<Self>, desk: &Arc<Desk>, state: LinkState, cause: &str) {
        let now = self.clock.monotonic();
        let incarnation = desk.incarnation();
        let mut rest = self.rest();
        let Some(line) = rest
            .lines
            .iter_mut()
            .find(|line| Arc::ptr_eq(&line.desk, desk))
        else {
            return;
        };
        let before = std::mem::replace(&mut line.state, state.clone());
        let was_since = line.since;
        if before.kind() != state.kind() {
            line.since = now;
        }
        let on = (incarnation, Some(line.id.0));
        if before.kind() == State::Connected && state.kind() != State::Connected {
            rest.statistics.up += now.since(was_since);
            rest.healthy = None;
        }
        if state.kind() == State::Connected {
            rest.statistics.streams += 1;
        }
        rest.changed = true;
        for kind in happened(&before, &state).into_iter().flatten() {
            let told = match (kind, &state) {
                (EventKind::Reconnecting, LinkState::Reconnecting { attempt, until, .. })
                    if before.kind() != State::Failed =>
                {
                    let wait = Duration::from_millis(
                        u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX),
                    );
                    let wait = humantime::format_duration(wait);
                    format!("redial {attempt} in {wait}")
                }
                (EventKind::Error, LinkState::Failed { .. }) => {
                    format!(
                        "{cause}: the attempts are spent, ask for another with `bulkhead link reconnect`"
                    )
                }
                _ => cause.to_owned(),
            };
            self.add(&mut rest, on, kind, &told);
        }
        drop(rest);
        if state.kind() == State::Failed
            && let Some(keeper) = &self.keeper
        {
            let sentence = format!(
                "link {} has failed: {cause}; its attempts are spent: see to the device and the way to it, then ask for \
                 another with `bulkhead link reconnect {}`",
                self.name, self.owner
            );
            let at = self.clock.wall();
            keeper.chronicle.warned(at, incarnation, &sentence);
            self.publish(keeper, incarnation, at, Happened::Warning { sentence });
        }
        self.ask();
    }

    /// The driver's heartbeat: a probe was sent, or answered after so long.
    pub(super) fn probed(self: &Arc<Self>, desk: &Arc<Desk>, answered: Option<Duration>) {
        let mut rest = self.rest();
        rest.changed = true;
        let Some(round_trip) = answered else {
            rest.statistics.probes.sent += 1;
            return;
        };
        rest.statistics.probes.answered(round_trip);
        if rest.healthy != Some(true) {
            rest.healthy = Some(true);
            let on = (desk.incarnation(), rest.id(desk));
            let told = format!("the peer answers the driver's probes, after {round_trip:.1?}");
            self.add(&mut rest, on, EventKind::HealthCheck, &told);
            drop(rest);
            self.ask();
        }
    }

    /// No probe was answered for too long. That the stream is lost follows.
    pub(super) fn silent(&self, desk: &Arc<Desk>) {
        let mut rest = self.rest();
        rest.healthy = Some(false);
        let on = (desk.incarnation(), rest.id(desk));
        let limit = humantime::format_duration(self.link().heartbeat.lost_after);
        let told = format!("no probe of the driver was answered for {limit}");
        self.add(&mut rest, on, EventKind::HealthCheck, &told);
    }

    /// A connection is no more: its task has ended or was dropped with its driver.
    fn gone(self: &Arc<Self>, desk: &Arc<Desk>) {
        let incarnation = desk.incarnation();
        let now = self.clock.monotonic();
        let mut rest = self.rest();
        let Some(at) = rest
            .lines
            .iter()
            .position(|line| Arc::ptr_eq(&line.desk, desk))
        else {
            return;
        };
        let line = rest.lines.swap_remove(at);
        if line.state.kind() == State::Connected {
            rest.statistics.up += now.since(line.since);
            rest.healthy = None;
            let on = (incarnation, Some(line.id.0));
            let cause = "dropped with the life of the driver that had opened it";
            self.add(&mut rest, on, EventKind::Disconnected, cause);
        }
        rest.changed = true;
        drop(rest);
        self.somebody_left.notify_waiters();
        self.ask();
    }

    fn add(
        &self,
        rest: &mut Rest,
        (incarnation, connection): (u64, Option<u32>),
        kind: EventKind,
        cause: &str,
    ) {
        let Some(keeper) = &self.keeper else { return };
        let at = self.clock.wall();
        let cause = event::cause(cause);
        let told = Happened::LinkEvent {
            link: self.name.clone(),
            connection,
            event: kind.as_str(),
            cause: cause.clone(),
        };
        self.publish(keeper, incarnation, at, told);
        if let Some(left_out) = rest.sieve.pass(self.clock.monotonic()) {
            let on_disk = OnDisk {
                at_ns: at.0,
                incarnation,
                connection,
                kind,
                cause,
                left_out: left_out + std::mem::take(&mut rest.lost),
            };
            rest.events.push_back(on_disk.encode());
            rest.bound();
        }
    }

    fn publish(&self, keeper: &Keeper, incarnation: u64, at: WallNs, what: Happened) {
        let instance = InstanceId {
            channel: self.channel.clone(),
            incarnation,
        };
        keeper.bus.publish(&Message::Event(Arc::new(ChannelEvent {
            instance: Arc::new(instance),
            at,
            what,
        })));
    }

    fn statistics(&self, rest: &Rest, now: MonotonicNs) -> LinkStatistics {
        let up = rest
            .lines
            .iter()
            .filter(|line| line.state.kind() == State::Connected);
        LinkStatistics {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            up: up.fold(rest.statistics.up, |up, line| up + now.since(line.since)),
            ..rest.statistics.clone()
        }
    }

    fn bytes(&self) -> u64 {
        let (bytes_in, bytes_out) = (&self.bytes_in, &self.bytes_out);
        bytes_in
            .load(Ordering::Relaxed)
            .wrapping_add(bytes_out.load(Ordering::Relaxed))
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn state(&self) -> State {
        State::of_all(self.lines.iter().map(|line| line.state.kind()))
    }

    fn id(&self, desk: &Arc<Desk>) -> Option<u32> {
        let known = self.lines.iter().find(|line| Arc::ptr_eq(&line.desk, desk));
        known.map(|line| line.id.0)
    }

    fn bound(&mut self) {
        while self.events.len() > MAX_WAITING {
            self.events.pop_front();
            self.lost += 1;
        }
    }
}

/// What happened, in order, as a connection went from one state to another.
fn happened(before: &LinkState, now: &LinkState) -> [Option<EventKind>; 2] {
    use EventKind::{Connected, Disconnected, Error, Reconnected, Reconnecting};
    match (before.kind(), now.kind()) {
        (State::Connecting, State::Connected) => [Some(Connected), None],
        (State::Reconnecting | State::Failed | State::Disconnected, State::Connected) => {
            [Some(Reconnected), None]
        }
        (State::Connected, State::Reconnecting) => [Some(Disconnected), Some(Reconnecting)],
        (State::Connected, State::Failed) => [Some(Disconnected), Some(Error)],
        (State::Connected, State::Disconnected) => [Some(Disconnected), None],
        (State::Connecting, State::Reconnecting) => [Some(Error), Some(Reconnecting)],
        (State::Failed, State::Reconnecting) => [Some(Reconnecting), None],
        (State::Connecting | State::Reconnecting, State::Failed) => [Some(Error), None],
        // The same failure again is no news.
        (State::Reconnecting, State::Reconnecting) if before.reason() != now.reason() => {
            [Some(Error), None]
        }
        _ => [None, None],
    }
}

fn kept(store: &Store, owner: &Owner) -> Option<(LinkStatistics, String)> {
    let why = match store.slot(&STATISTICS, owner) {
        Ok(Found::Nothing) => return None,
        Ok(Found::Whole(payload)) => match LinkStatistics::decode(&payload) {
            Some(kept) => return Some(kept),
            None => "their shape is not known".to_owned(),
        },
        Ok(Found::SetAside(damage)) => damage,
        Err(error) => error.to_string(),
    };
    tracing::warn!(link = %owner, why, "the link's statistics begin anew");
    None
}

impl Ledger for Journal {
    fn take(&self) -> Vec<Keep> {
        self.asked.store(false, Ordering::Release);
        let now = self.clock.monotonic();
        let mut rest = self.rest();
        let statistics = self.statistics(&rest, now);
        rest.bytes_kept = statistics.bytes_in.wrapping_add(statistics.bytes_out);
        rest.changed = false;
        let events = std::mem::take(&mut rest.events);
        drop(rest);
        let mut keep: Vec<Keep> = events
            .into_iter()
            .map(|event| Keep::List(event::list(), self.owner.clone(), event))
            .collect();
        let statistics = statistics.encode(&configuration::text(&self.link()));
        keep.push(Keep::Slot(&STATISTICS, self.owner.clone(), statistics));
        keep
    }

    fn put_back(&self, keep: Vec<Keep>) {
        let mut rest = self.rest();
        rest.changed = true;
        for keep in keep.into_iter().rev() {
            if let Keep::List(_, _, event) = keep {
                rest.events.push_front(event);
            }
        }
        rest.bound();
    }
}

#[cfg(test)]
mod tests;
