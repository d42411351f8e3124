//! A driver on a stage: virtual time, and whoever stands at the other end of each of its connections.
//!
//! Around [`VirtualHost`] this does what a host does at run time: it keeps timers, dials and redials, polls and asks, and hands over
//! events in batches. Every list of actions is checked with the channel's own rules, so a driver that answers twice or breaks
//! the protocol of turns in any other way ends here as it would end there. Time passes only by [`Stage::advance`] and [`Stage::until`].
//!
//! It judges nothing. What the driver has done lies in [`Heard`], for whoever looks.

use std::collections::{BTreeMap, VecDeque};

use super::heard::{Answer, Asked, Heard, Question, TurnRecord, kind};
use super::outcome::NoPass;
use super::peer::{Peer, Reach, Reaction};
use crate::bindings::actions::Action;
use crate::bindings::config::{ChannelConfig, ConfigFault};
use crate::bindings::events::{
    ActionKind, CloseReason, Closed, Command, Connection, Declined, Event, Happening, Opened,
    Outlook, Poll, Read, Received, Sent, Start, StartReason, Stop, StopReason, Write,
};
use crate::bindings::types::Value;
use crate::channel::Portion;
use crate::driver::{Budget, Driver, InstanceSpec, TurnStats};
use crate::event::{MonotonicNs, WallNs};
use crate::exit::Exit;
use crate::ids::{ChannelId, InstanceId};
use crate::limits::{MEMORY, SAMPLES, SEND_WINDOW, START_FUEL, TURN_FUEL};
use crate::virtual_host::{VirtualHost, VirtualSetup};

/// One second, in nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;
/// One millisecond, in nanoseconds.
pub(super) const MILLISECOND: u64 = 1_000_000;

/// 2026-01-01T00:00:00Z.
const WALL: u64 = 1_767_225_600 * SECOND;
/// When a stage's monotonic clock begins.
const BEGIN: u64 = SECOND;
/// The most bytes in one `received`.
const PIECE: usize = 64 << 10;
/// A reset redials at once, but at most once in this time; a lost connection after it.
const REDIAL: u64 = SECOND;
/// More turns in one wait than any honest driver takes.
const PATIENCE: u64 = 200_000;
/// Wall time; no part of any verdict, except that a driver may not hang the whole run.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// How a life begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Where its random numbers begin.
    pub seed: u64,
    /// Bytes that it may hold; else what the suite allows, or a channel has that says nothing of it.
    pub memory: Option<u64>,
    /// How many events a turn has at most.
    pub batch: usize,
    /// Counted from 1.
    pub incarnation: u64,
    /// Why.
    pub reason: StartReason,
    /// What it has saved before.
    pub state: Option<Vec<u8>>,
    /// Connections that outlived the incarnation before.
    pub kept: Vec<Kept>,
    /// After so many turns it is ended, as by a fault.
    pub end_after: Option<u64>,
    /// Whether every turn is recorded.
    pub record: bool,
}

impl Default for Beginning {
    fn default() -> Self {
        Self {
            seed: 7,
            memory: None,
            batch: 256,
            incarnation: 1,
            reason: StartReason::First,
            state: None,
            kept: Vec::new(),
            end_after: None,
            record: false,
        }
    }
}

/// A connection that outlived its incarnation.
#[derive(Clone, Debug)]
pub struct Kept {
    pub connection: u32,
    pub link: u32,
    /// As it was opened.
    pub target: Option<String>,
}

/// A connection, as the host has it.
#[derive(Debug)]
struct Line {
    link: u32,
    target: Option<String>,
    is_up: bool,
    /// Bytes that were sent and not credited yet.
    uncredited: u32,
}

/// A driver at work, in virtual time.
pub struct Stage {
    config: ChannelConfig,
    host: Option<VirtualHost>,
    exit: Option<Exit>,
    was_killed: bool,
    spins: bool,
    now: u64,
    portion: Portion,
    end_after: Option<u64>,
    record: bool,
    taken: u64,
    spent: u64,
    queue: VecDeque<Happening>,
    timers: BTreeMap<u32, u64>,
    redials: BTreeMap<u32, u64>,
    last_reset: BTreeMap<u32, u64>,
    lines: BTreeMap<u32, Line>,
    cycles: BTreeMap<u32, u64>,
    next_request: u64,
    peer: Box<dyn Peer>,
    /// What the driver has done.
    pub heard: Heard,
}

/// The spec of an instance on a stage.
pub(super) fn spec(seed: u64, memory: u64, incarnation: u64) -> InstanceSpec {
    InstanceSpec {
        instance: InstanceId {
            channel: ChannelId::new("conform").expect("the word keeps to the rule"),
            incarnation,
        },
        memory,
        seed,
        start: Budget {
            fuel: START_FUEL,
            deadline: DEADLINE,
        },
        turn: Budget {
            fuel: TURN_FUEL.default,
            deadline: DEADLINE,
        },
    }
}

/// The moment at which every life begins.
pub(super) fn beginning() -> (MonotonicNs, WallNs) {
    (MonotonicNs(BEGIN), WallNs(WALL))
}

impl Stage {
    /// Instantiates, configures, and takes the first turn. A configuration that the driver refuses is a failure.
    pub async fn begin(
        driver: &Driver,
        config: &ChannelConfig,
        beginning: Beginning,
        peer: Box<dyn Peer>,
    ) -> Result<Self, NoPass> {
        let mut stage = Self::prepare(driver, config, &beginning, peer).await?;
        stage.started(beginning);
        stage.settle().await;
        Ok(stage)
    }

    /// As [`Stage::begin`], before the first turn; nothing is waiting for it yet.
    pub async fn prepare(
        driver: &Driver,
        config: &ChannelConfig,
        beginning: &Beginning,
        peer: Box<dyn Peer>,
    ) -> Result<Self, NoPass> {
        let setup = VirtualSetup {
            spec: spec(
                beginning.seed,
                beginning.memory.unwrap_or(MEMORY.default),
                beginning.incarnation,
            ),
            config: config.clone(),
            samples_per_second: u32::try_from(SAMPLES.default).unwrap_or(u32::MAX),
        };
        let now = self::beginning();
        let host = VirtualHost::start(driver, setup, now)
            .await
            .map_err(|error| {
                NoPass::Broken(format!("the sample configuration cannot be: {error}"))
            })?
            .map_err(|exit| NoPass::from(&exit))?;
        let host = host
            .configure(now)
            .await
            .map_err(|exit| NoPass::from(&exit))?;
        Ok(Self {
            config: config.clone(),
            host: Some(host),
            exit: None,
            was_killed: false,
            spins: false,
            now: BEGIN,
            portion: Portion::new(beginning.batch, TURN_FUEL.default),
            end_after: beginning.end_after,
            record: beginning.record,
            taken: 0,
            spent: 0,
            queue: VecDeque::new(),
            timers: BTreeMap::new(),
            redials: BTreeMap::new(),
            last_reset: BTreeMap::new(),
            lines: BTreeMap::new(),
            cycles: BTreeMap::new(),
            next_request: beginning.incarnation * 1_000_000,
            peer,
            heard: Heard::default(),
        })
    }

    /// Hands over another configuration, between turns. What the stage knows of the plant stays as it was.
    pub async fn configure(
        &mut self,
        config: &ChannelConfig,
    ) -> Result<Result<(), Vec<ConfigFault>>, NoPass> {
        let Some(host) = self.host.take() else {
            return Err(NoPass::failed("the driver has ended"));
        };
        let now = self.moment();
        let (host, answer) = host
            .reconfigure(config, now)
            .await
            .map_err(|exit| NoPass::from(&exit))?;
        self.host = Some(host);
        Ok(answer)
    }

    fn moment(&self) -> (MonotonicNs, WallNs) {
        (MonotonicNs(self.now), WallNs(WALL + (self.now - BEGIN)))
    }

    /// Puts the first event in line.
    pub fn started(&mut self, beginning: Beginning) {
        let connections = beginning.kept.into_iter().map(|kept| {
            let line = Line {
                link: kept.link,
                target: kept.target.clone(),
                is_up: true,
                uncredited: 0,
            };
            self.lines.insert(kept.connection, line);
            Connection {
                id: kept.connection,
                link: kept.link,
                target: kept.target,
                secured: is_secured(&self.config, kept.link),
                peer: "conform".to_owned(),
                send_window: SEND_WINDOW,
            }
        });
        let connections = connections.collect();
        self.happen(Happening::Started(Start {
            incarnation: beginning.incarnation,
            reason: beginning.reason,
            state: beginning.state,
            connections,
            features: Vec::new(),
        }));
    }

    /// Nanoseconds on the monotonic clock.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many turns were taken.
    pub fn turns(&self) -> u64 {
        self.taken
    }

    /// What they cost together, in fuel.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// The configuration that the driver has.
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// What the last turn cost; nothing where the driver has ended.
    pub fn stats(&self) -> TurnStats {
        self.host
            .as_ref()
            .map(VirtualHost::stats)
            .unwrap_or_default()
    }

    /// Another peer takes over.
    pub fn meet(&mut self, peer: Box<dyn Peer>) {
        self.peer = peer;
    }

    /// Whether the driver has stopped, or was ended.
    pub fn has_ended(&self) -> bool {
        self.host.is_none()
    }

    /// Fails if the driver has ended by a fault of its own, or never comes to rest.
    pub fn check(&self) -> Result<(), NoPass> {
        if let Some(exit) = &self.exit {
            return Err(NoPass::from(exit));
        }
        if self.spins {
            return Err(NoPass::failed(format!(
                "the driver took {PATIENCE} turns in one wait; let its timers rest"
            )));
        }
        if self.heard.stopped_at.is_some() && !self.heard.stop_asked {
            return Err(NoPass::failed("the driver stopped without being asked"));
        }
        Ok(())
    }

    /// Puts an event in line for the next turn.
    pub fn happen(&mut self, what: Happening) {
        self.queue.push_back(what);
    }

    /// Takes turns until nothing waits. The clock stands still.
    pub async fn settle(&mut self) {
        let mut turns = 0;
        while !self.queue.is_empty() && self.host.is_some() {
            let count = self.queue.len().min(self.portion.events());
            let at_ns = self.now;
            let events: Vec<Event> = self
                .queue
                .drain(..count)
                .map(|what| Event { at_ns, what })
                .collect();
            self.turn(&events).await;
            turns += 1;
            if turns > PATIENCE {
                self.spins = true;
                self.host = None;
            }
        }
    }

    /// Lets time pass; each timer on the way runs out at its own moment.
    pub async fn advance(&mut self, nanos: u64) {
        let until = self.now.saturating_add(nanos);
        self.until(until, |_| false).await;
        self.now = self.now.max(until);
    }

    /// Lets time pass until something is so, at most until a moment. Says whether it is.
    pub async fn until(&mut self, latest: u64, is_so: impl Fn(&Stage) -> bool) -> bool {
        self.settle().await;
        let mut moments = 0;
        loop {
            if is_so(self) {
                return true;
            }
            let next = self.next_moment().filter(|moment| *moment <= latest);
            let (Some(moment), true) = (next, self.host.is_some()) else {
                return false;
            };
            self.now = self.now.max(moment);
            self.ring();
            self.settle().await;
            moments += 1;
            if moments > PATIENCE {
                self.spins = true;
                self.host = None;
            }
        }
    }

    fn next_moment(&self) -> Option<u64> {
        self.timers
            .values()
            .chain(self.redials.values())
            .min()
            .copied()
    }

    /// What is due now happens: timers in their order, then dials.
    fn ring(&mut self) {
        let now = self.now;
        let mut due: Vec<(u64, u32)> = Vec::new();
        self.timers.retain(|timer, at| {
            if *at <= now {
                due.push((*at, *timer));
            }
            *at > now
        });
        due.sort_unstable();
        self.queue
            .extend(due.into_iter().map(|(_, timer)| Happening::Timer(timer)));
        let redials: Vec<u32> = self
            .redials
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| *id)
            .collect();
        for connection in redials {
            self.redials.remove(&connection);
            self.dial(connection);
        }
    }

    async fn turn(&mut self, events: &[Event]) {
        let Some(host) = self.host.take() else {
            return;
        };
        if self.end_after.is_some_and(|most| self.taken >= most) {
            self.was_killed = true;
            return;
        }
        self.taken += 1;
        let now = self.moment();
        match host.give(now, events).await {
            Err(exit) => self.exit = Some(exit),
            Ok((mut host, actions)) => {
                self.spent += host.stats().fuel;
                self.portion.took(events.len(), host.stats().fuel);
                if self.record {
                    self.heard.turns.push(TurnRecord {
                        events: events.iter().map(|event| kind(&event.what)).collect(),
                        fuel: host.stats().fuel,
                        actions: format!("{actions:?}"),
                    });
                }
                if let Err(exit) = host.check(now.0, &actions) {
                    self.exit = Some(exit);
                    return;
                }
                let has_stopped = host.note(now.0, &actions);
                self.apply(actions);
                if has_stopped {
                    self.heard.stopped_at = Some(self.now);
                } else {
                    self.host = Some(host);
                }
            }
        }
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open(open) => {
                    let line = Line {
                        link: open.link,
                        target: open.target,
                        is_up: false,
                        uncredited: 0,
                    };
                    self.lines.insert(open.connection, line);
                    self.heard.opens.push_back((open.connection, open.link));
                    self.dial(open.connection);
                }
                Action::Close(connection) => {
                    if self.lines.remove(&connection).is_some() {
                        self.heard.closes.push_back(connection);
                        self.forget(connection);
                        self.closed(connection, CloseReason::Requested, Outlook::Ended);
                    }
                }
                Action::Reset(connection) => self.reset(connection),
                Action::Send(send) => self.send(send.connection, &send.bytes),
                Action::SetTimer(timer) => {
                    let after = timer.after_ns.max(MILLISECOND);
                    self.timers
                        .insert(timer.timer, self.now.saturating_add(after));
                }
                Action::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                }
                Action::Publish(publish) => {
                    if publish.id.is_some() {
                        self.decline(ActionKind::Publish, None, publish.id);
                    }
                    self.heard.samples.extend(publish.samples);
                }
                Action::PollDone(done) => self.heard.poll_done(done, self.now),
                Action::ReadDone(done) => {
                    self.heard
                        .answered(done.request, Answer::Read(done.answer), self.now)
                }
                Action::WriteDone(done) => {
                    self.heard
                        .answered(done.request, Answer::Write(done.answer), self.now)
                }
                Action::CommandDone(done) => {
                    self.heard
                        .answered(done.request, Answer::Command(done.answer), self.now)
                }
                Action::HealthDone(done) => {
                    self.heard
                        .answered(done.request, Answer::Health(done.answer), self.now)
                }
                Action::StartTls(connection) => {
                    self.decline(ActionKind::StartTls, Some(connection), None);
                }
                Action::Metric(_) => self.decline(ActionKind::Metric, None, None),
                Action::DeviceState(state) => self.heard.device_states.push_back(state),
                Action::Alarm(alarm) => self.heard.alarms.push_back(alarm),
                Action::SaveState(state) => self.heard.state = Some(state),
                Action::Pause(_)
                | Action::Probe(_)
                | Action::CommandProgress(_)
                | Action::Stopped => {}
            }
        }
    }

    fn decline(&mut self, action: ActionKind, connection: Option<u32>, batch: Option<u64>) {
        self.happen(Happening::Declined(Declined {
            action,
            connection,
            batch,
            why: "this host does not support it; do without".to_owned(),
        }));
    }

    fn dial(&mut self, connection: u32) {
        let Some(link) = self.lines.get(&connection).map(|line| line.link) else {
            return;
        };
        match self.peer.dialled(link) {
            Reach::Up => self.bring_up(connection),
            Reach::Refused => {
                self.closed(connection, CloseReason::Refused, Outlook::Redialling);
                self.redials.insert(connection, self.now + REDIAL);
            }
            Reach::Unanswered => {}
        }
    }

    /// A connection comes up, unless it is; nobody need dial it then.
    pub fn bring_up(&mut self, connection: u32) {
        self.redials.remove(&connection);
        let Some(line) = self.lines.get_mut(&connection).filter(|line| !line.is_up) else {
            return;
        };
        line.is_up = true;
        line.uncredited = 0;
        let link = line.link;
        self.happen(Happening::Opened(Opened {
            connection,
            link,
            secured: is_secured(&self.config, link),
            peer: "conform".to_owned(),
            send_window: SEND_WINDOW,
        }));
    }

    /// The peer of a link cannot be reached, or hangs up: every connection over it goes down.
    pub fn lose(&mut self, link: u32, reason: CloseReason) {
        for connection in self.connections(link) {
            if let Some(line) = self.lines.get_mut(&connection) {
                line.is_up = false;
            }
            self.closed(connection, reason, Outlook::Redialling);
            self.redials.insert(connection, self.now + REDIAL);
        }
    }

    /// As [`Stage::lose`], and nobody dials anew, whatever the driver is told of that. Those that end are gone.
    pub fn lose_for_now(&mut self, link: u32, reason: CloseReason, outlook: Outlook) {
        for connection in self.connections(link) {
            self.redials.remove(&connection);
            match outlook {
                Outlook::Redialling | Outlook::GivenUp => {
                    if let Some(line) = self.lines.get_mut(&connection) {
                        line.is_up = false;
                    }
                }
                Outlook::Ended => drop(self.lines.remove(&connection)),
            }
            self.closed(connection, reason, outlook);
        }
    }

    /// Where the connection over a link was opened to, if there is one.
    pub fn target(&self, link: u32) -> Option<String> {
        let mut lines = self.lines.values();
        lines.find(|line| line.link == link)?.target.clone()
    }

    /// The connections that the driver has over a link, whether they are up or not.
    pub fn connections(&self, link: u32) -> Vec<u32> {
        let lines = self.lines.iter().filter(|(_, line)| line.link == link);
        lines.map(|(connection, _)| *connection).collect()
    }

    /// Whether a connection over this link is up.
    pub fn is_up(&self, link: u32) -> bool {
        self.lines
            .values()
            .any(|line| line.link == link && line.is_up)
    }

    fn reset(&mut self, connection: u32) {
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        let was_up = std::mem::take(&mut line.is_up);
        let link = line.link;
        self.heard.resets.push_back((connection, link));
        if !was_up {
            return;
        }
        self.forget(connection);
        self.closed(connection, CloseReason::Requested, Outlook::Redialling);
        let least = self
            .last_reset
            .get(&connection)
            .map_or(0, |last| last + REDIAL);
        self.last_reset.insert(connection, self.now);
        if self.now >= least {
            self.dial(connection);
        } else {
            self.redials.insert(connection, least);
        }
    }

    /// What a stream has brought and the driver was not given goes with it.
    fn forget(&mut self, connection: u32) {
        self.queue.retain(|what| !matches!(what, Happening::Received(received) if received.connection == connection));
        self.redials.remove(&connection);
    }

    fn closed(&mut self, connection: u32, reason: CloseReason, outlook: Outlook) {
        self.happen(Happening::Closed(Closed {
            connection,
            reason,
            outlook,
        }));
    }

    fn send(&mut self, connection: u32, bytes: &[u8]) {
        let Some(line) = self.lines.get_mut(&connection).filter(|line| line.is_up) else {
            return;
        };
        let link = line.link;
        line.uncredited = line
            .uncredited
            .saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let credit = line.uncredited;
        if credit >= SEND_WINDOW / 2 {
            line.uncredited = 0;
            self.happen(Happening::Sent(Sent {
                connection,
                bytes: credit,
            }));
        }
        self.heard.sent.entry(link).or_default().extend(bytes);
        self.heard.sends += 1;
        for reaction in self.peer.heard(link, bytes) {
            match reaction {
                Reaction::Bytes(bytes) => self.receive_on(connection, &bytes),
                Reaction::HangUp => self.lose(link, CloseReason::ByPeer),
            }
        }
    }

    /// Bytes arrive over a link; says whether there was a connection to bring them.
    pub fn receive(&mut self, link: u32, bytes: &[u8]) -> bool {
        let line = self
            .lines
            .iter()
            .find(|(_, line)| line.link == link && line.is_up);
        let Some(connection) = line.map(|(connection, _)| *connection) else {
            return false;
        };
        self.receive_on(connection, bytes);
        true
    }

    fn receive_on(&mut self, connection: u32, bytes: &[u8]) {
        let Some(line) = self.lines.get(&connection) else {
            return;
        };
        let link = self.config.links.iter().find(|link| link.id == line.link);
        let peer = link
            .filter(|link| link.kind == "udp")
            .map(|_| "192.0.2.1:9".to_owned());
        for piece in bytes.chunks(PIECE) {
            self.heard.received += piece.len() as u64;
            self.happen(Happening::Received(Received {
                connection,
                peer: peer.clone(),
                bytes: piece.to_vec(),
            }));
        }
    }

    /// A group is due, unless it still is. Says whether it was asked.
    pub fn poll(&mut self, group: u32, skip: Vec<u32>) -> bool {
        let cycle = self.cycles.entry(group).or_default();
        *cycle += 1;
        let cycle = *cycle;
        if self.heard.is_polling(group) {
            return false;
        }
        self.heard.polls.insert(group, (cycle, self.now));
        self.happen(Happening::Poll(Poll {
            group,
            cycle,
            scheduled_ns: self.now,
            skip,
        }));
        true
    }

    /// Somebody wants tags read.
    pub fn read(&mut self, tags: Vec<u32>, timeout: u64) -> u64 {
        let (request, deadline_ns) = self.ask(Question::Read, timeout);
        self.happen(Happening::Read(Read {
            request,
            tags,
            deadline_ns,
        }));
        request
    }

    /// Somebody wants a tag written.
    pub fn write(&mut self, tag: u32, value: Value, read_back: bool, timeout: u64) -> u64 {
        let (request, deadline_ns) = self.ask(Question::Write, timeout);
        self.happen(Happening::Write(Write {
            request,
            tag,
            value,
            read_back,
            deadline_ns,
        }));
        request
    }

    /// Somebody gives a command.
    pub fn command(&mut self, name: &str, payload: &[u8], timeout: u64) -> u64 {
        let (request, deadline_ns) = self.ask(Question::Command, timeout);
        self.happen(Happening::Command(Command {
            request,
            name: name.to_owned(),
            payload: payload.to_vec(),
            deadline_ns,
        }));
        request
    }

    /// Somebody asks whether the driver is well.
    pub fn health(&mut self) -> u64 {
        let (request, _) = self.ask(
            Question::Health,
            crate::limits::HEALTH_TIMEOUT.default.as_secs() * SECOND,
        );
        self.happen(Happening::Health(request));
        request
    }

    fn ask(&mut self, question: Question, timeout: u64) -> (u64, u64) {
        self.next_request += 1;
        let deadline = self.now.saturating_add(timeout);
        let asked = Asked {
            question,
            at: self.now,
            deadline,
            answer: None,
        };
        self.heard.requests.insert(self.next_request, asked);
        (self.next_request, deadline)
    }

    /// The driver is to stop, with so much time to take leave.
    pub fn stop(&mut self, within: u64, reason: StopReason) {
        self.heard.stop_asked = true;
        self.happen(Happening::Stop(Stop {
            deadline_ns: self.now + within,
            reason,
        }));
    }

    /// Whether the driver was ended by [`Beginning::end_after`].
    pub fn was_killed(&self) -> bool {
        self.was_killed
    }
}

/// Whether TLS is on over a link from the beginning.
fn is_secured(config: &ChannelConfig, link: u32) -> bool {
    let link = config.links.iter().find(|known| known.id == link);
    link.is_some_and(|link| link.kind == "tls")
}
