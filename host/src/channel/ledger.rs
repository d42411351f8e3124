//! What an incarnation has under way, told by its events and actions alone.
//!
//! A channel at work knows this from its links, timers and schedules; where there are none (a replay, a script of a
//! conformance test) it follows from what the driver was given and what it answered. The same `validate` checks both.
//!
//! One thing cannot be known here to the byte: how much of a send window is free. The host gives it back when bytes have left, and
//! tells the driver later; here it is given back when the driver is told. So a list that the channel refused is refused here
//! too, but one that a driver got away with may be refused as well.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::alarms::{Alarms, Said};
use super::allowance::Allowance;
use super::connections::{UsedIds, Ways};
use super::health::HealthChecks;
use super::mailbox::Ask;
use super::pending::{Owed, Pending};
use super::polls::Polls;
use super::timers::Timers;
use super::validate::{self, Context, Refusal, Spent};
use crate::bindings::actions::Action;
use crate::bindings::events::{Event, Happening, Outlook};
use crate::config;
use crate::event::{MonotonicNs, Value, WallNs};
use crate::ids::{ConnectionId, GroupId, LinkId, RequestId, TagId, TimerId};
use crate::limits::NOTICES;
use crate::tags::Rules;

/// What a list of actions is checked against, besides what is under way.
#[derive(Clone, Debug, Default)]
pub struct LedgerParts {
    /// The channel's tags.
    pub tags: Vec<config::Tag>,
    /// Its groups.
    pub groups: Vec<config::Group>,
    /// How many devices it has.
    pub devices: usize,
    /// How many links it has.
    pub links: usize,
    /// How many samples it may publish.
    pub samples_per_second: u32,
}

/// What is under way.
pub struct Ledger {
    tags: Vec<config::Tag>,
    rules: Rules,
    devices: usize,
    samples_per_second: u32,
    connections: Told,
    polls: Polls,
    pending: Pending,
    health: HealthChecks,
    timers: Timers,
    alarms: Alarms,
    samples: Allowance,
    notices: Allowance,
    /// What the list that was checked last takes of both.
    spent: Spent,
}

/// The connections, as far as the driver was told of them.
struct Told {
    links: usize,
    used: UsedIds,
    /// What is left of the send window, where the connection is up.
    opened: BTreeMap<u32, Option<usize>>,
}

impl Ways for Told {
    fn count(&self) -> usize {
        self.opened.len()
    }

    fn has_link(&self, link: LinkId) -> bool {
        link.index() < self.links
    }

    fn least_free(&self) -> u32 {
        self.used.least_free()
    }

    fn was_opened(&self, id: ConnectionId) -> bool {
        self.used.contains(id.0)
    }

    fn window_left(&self, id: ConnectionId) -> Option<usize> {
        self.opened.get(&id.0).copied().flatten()
    }
}

impl Ledger {
    /// An incarnation that takes its first turn now.
    pub fn new(parts: LedgerParts, begun: MonotonicNs) -> Self {
        Self {
            polls: Polls::new(&parts.groups, 0, begun),
            rules: Rules::new(&parts.tags),
            tags: parts.tags,
            devices: parts.devices,
            samples_per_second: parts.samples_per_second,
            connections: Told {
                links: parts.links,
                used: UsedIds::default(),
                opened: BTreeMap::new(),
            },
            pending: Pending::default(),
            health: HealthChecks::new(None, 0, begun),
            timers: Timers::default(),
            alarms: Alarms::default(),
            samples: Allowance::new(u64::from(parts.samples_per_second), begun),
            notices: Allowance::new(NOTICES, begun),
            spent: Spent::default(),
        }
    }

    /// The driver is given these events.
    pub fn deliver(&mut self, events: &[Event]) {
        for event in events {
            match &event.what {
                Happening::Started(start) => {
                    for connection in &start.connections {
                        self.connections.used.use_up(connection.id);
                        self.open(connection.id, Some(connection.send_window));
                    }
                }
                Happening::Opened(opened) => self.open(opened.connection, Some(opened.send_window)),
                Happening::Accepted(accepted) => {
                    self.open(accepted.connection, Some(accepted.send_window));
                }
                Happening::Closed(closed) => match closed.outlook {
                    Outlook::Redialling | Outlook::GivenUp => self.open(closed.connection, None),
                    Outlook::Ended => drop(self.connections.opened.remove(&closed.connection)),
                },
                Happening::Sent(sent) => {
                    if let Some(Some(left)) = self.connections.opened.get_mut(&sent.connection) {
                        *left = left.saturating_add(usize::try_from(sent.bytes).unwrap_or(0));
                    }
                }
                Happening::Timer(timer) => self.timers.cancel(TimerId(*timer)),
                Happening::Poll(poll) => self.polls.handed_out(GroupId(poll.group), poll.cycle),
                Happening::Read(read) => {
                    let tags = read.tags.iter().copied().map(TagId).collect();
                    self.owe(read.request, Ask::Read(tags));
                }
                Happening::Write(write) => {
                    let ask = Ask::Write {
                        tag: TagId(write.tag),
                        value: Value::from(write.value.clone()),
                        read_back: write.read_back,
                    };
                    self.owe(write.request, ask);
                }
                Happening::Command(command) => {
                    let ask = Ask::Command {
                        name: command.name.as_str().into(),
                        payload: Vec::new(),
                        progress: watch::Sender::new(None),
                    };
                    self.owe(command.request, ask);
                }
                Happening::Health(health) => self.health.told(RequestId(*health)),
                Happening::Stop(_)
                | Happening::Received(_)
                | Happening::Cancel(_)
                | Happening::Stored(_)
                | Happening::Declined(_) => {}
            }
        }
    }

    fn open(&mut self, connection: u32, window: Option<u32>) {
        let window = window.map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        self.connections.opened.insert(connection, window);
    }

    fn owe(&mut self, request: u64, ask: Ask) {
        self.pending.insert(RequestId(request), Owed::unasked(ask));
    }

    /// Checks a whole list, as a channel does.
    pub fn check(&mut self, actions: &[Action], now: MonotonicNs) -> Result<(), Refusal> {
        if actions.is_empty() {
            return Ok(());
        }
        let context = Context {
            tags: &self.tags,
            rules: &self.rules,
            devices: self.devices,
            connections: &self.connections,
            polls: &self.polls,
            pending: &self.pending,
            health: &self.health,
            timers: &self.timers,
            alarms: &self.alarms,
            // It declines nothing.
            declined: 0,
            samples_per_second: self.samples_per_second,
            samples_left: self.samples.left(now),
            notices_left: self.notices.left(now),
        };
        self.spent = validate::validate(actions, &context)?;
        Ok(())
    }

    /// Notes what a list changes, which was checked just before. Says whether the driver has stopped with it.
    pub fn apply(&mut self, actions: &[Action], now: MonotonicNs) -> bool {
        let spent = std::mem::take(&mut self.spent);
        self.samples.spend(spent.samples);
        self.notices.spend(spent.notices);
        let mut stopped = false;
        for action in actions {
            match action {
                Action::Open(open) => {
                    self.connections.used.use_up(open.connection);
                    self.open(open.connection, None);
                }
                Action::Send(send) => {
                    if let Some(Some(left)) = self.connections.opened.get_mut(&send.connection) {
                        *left = left.saturating_sub(send.bytes.len());
                    }
                }
                Action::SetTimer(timer) => self.timers.set(
                    TimerId(timer.timer),
                    now,
                    std::time::Duration::from_nanos(timer.after_ns),
                ),
                Action::CancelTimer(timer) => self.timers.cancel(TimerId(*timer)),
                Action::PollDone(done) => {
                    self.polls.done(GroupId(done.group));
                }
                Action::ReadDone(done) => self.settle(done.request),
                Action::WriteDone(done) => self.settle(done.request),
                Action::CommandDone(done) => self.settle(done.request),
                Action::HealthDone(done) => self.health.answered(RequestId(done.request), Ok(())),
                Action::Alarm(alarm) => {
                    let said = Said {
                        severity: alarm.severity.into(),
                        active: alarm.active,
                        message: alarm.message.clone(),
                        source_time: alarm.source_time_ns.map(WallNs),
                    };
                    self.alarms.say((&alarm.code, alarm.device), &said);
                }
                Action::Stopped => stopped = true,
                Action::Publish(_)
                | Action::Close(_)
                | Action::Reset(_)
                | Action::Pause(_)
                | Action::StartTls(_)
                | Action::CommandProgress(_)
                | Action::DeviceState(_)
                | Action::Probe(_)
                | Action::Metric(_)
                | Action::SaveState(_) => {}
            }
        }
        stopped
    }

    fn settle(&mut self, request: u64) {
        drop(self.pending.remove(RequestId(request)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::actions::{Open, PollDone, Send, SetTimer, WriteDone};
    use crate::bindings::events::{
        CloseReason, Closed, Opened, Poll, Sent, Start, StartReason, Write,
    };
    use crate::bindings::types;

    const NOW: MonotonicNs = MonotonicNs(1_000_000);

    fn ledger() -> Ledger {
        let parts = LedgerParts {
            tags: Vec::new(),
            groups: vec![config::Group {
                name: "g".into(),
                period: std::time::Duration::from_secs(1),
                tags: Vec::new(),
                stale_after: None,
            }],
            devices: 1,
            links: 1,
            samples_per_second: 10,
        };
        let mut ledger = Ledger::new(parts, NOW);
        give(
            &mut ledger,
            Happening::Started(Start {
                incarnation: 1,
                reason: StartReason::First,
                state: None,
                connections: Vec::new(),
                features: Vec::new(),
            }),
        );
        ledger
    }

    fn give(ledger: &mut Ledger, what: Happening) {
        ledger.deliver(&[Event { at_ns: 0, what }]);
    }

    /// Checks, and applies what is in order.
    fn ask(ledger: &mut Ledger, action: Action) -> Result<(), String> {
        let actions = [action];
        ledger
            .check(&actions, NOW)
            .map_err(|refusal| refusal.to_string())?;
        ledger.apply(&actions, NOW);
        Ok(())
    }

    fn send(bytes: usize) -> Action {
        Action::Send(Send {
            connection: 1,
            peer: None,
            bytes: vec![0; bytes],
        })
    }

    #[test]
    fn a_connection_is_followed_from_opening_to_its_end() {
        let mut ledger = ledger();
        assert!(ask(&mut ledger, send(1)).unwrap_err().contains("not open"));
        let open = |connection| {
            Action::Open(Open {
                connection,
                link: 0,
                target: None,
            })
        };
        ask(&mut ledger, open(1)).unwrap();
        ask(&mut ledger, send(1000)).expect("dropped: it is not up");
        assert!(ask(&mut ledger, open(1)).unwrap_err().contains("ascend"));
        give(
            &mut ledger,
            Happening::Opened(Opened {
                connection: 1,
                link: 0,
                secured: false,
                peer: String::new(),
                send_window: 10,
            }),
        );
        ask(&mut ledger, send(8)).unwrap();
        assert!(
            ask(&mut ledger, send(3))
                .unwrap_err()
                .contains("has 2 left")
        );
        give(
            &mut ledger,
            Happening::Sent(Sent {
                connection: 1,
                bytes: 8,
            }),
        );
        ask(&mut ledger, send(10)).unwrap();
        give(
            &mut ledger,
            Happening::Closed(Closed {
                connection: 1,
                reason: CloseReason::ByPeer,
                outlook: Outlook::Ended,
            }),
        );
        ask(&mut ledger, send(100)).expect("gone, which it need not have looked at yet");
    }

    #[test]
    fn polls_writes_and_timers_are_under_way_until_they_are_answered() {
        let mut ledger = ledger();
        let done = |cycle| {
            Action::PollDone(PollDone {
                group: 0,
                cycle,
                requests: 0,
                failed: 0,
                round_trip_ns: None,
            })
        };
        assert!(ask(&mut ledger, done(5)).is_err());
        give(
            &mut ledger,
            Happening::Poll(Poll {
                group: 0,
                cycle: 5,
                scheduled_ns: 0,
                skip: Vec::new(),
            }),
        );
        assert!(ask(&mut ledger, done(4)).is_err());
        ask(&mut ledger, done(5)).unwrap();
        assert!(ask(&mut ledger, done(5)).is_err(), "answered twice");

        let answer = || {
            Action::WriteDone(WriteDone {
                request: 9,
                answer: Ok(None),
            })
        };
        assert!(ask(&mut ledger, answer()).is_err());
        give(
            &mut ledger,
            Happening::Write(Write {
                request: 9,
                tag: 0,
                value: types::Value::Int(1),
                read_back: false,
                deadline_ns: 0,
            }),
        );
        ask(&mut ledger, answer()).unwrap();
        assert!(ask(&mut ledger, answer()).is_err());

        for timer in 0..4096 {
            ask(
                &mut ledger,
                Action::SetTimer(SetTimer { timer, after_ns: 1 }),
            )
            .unwrap();
        }
        let one_more = || {
            Action::SetTimer(SetTimer {
                timer: 5000,
                after_ns: 1,
            })
        };
        assert!(ask(&mut ledger, one_more()).is_err());
        give(&mut ledger, Happening::Timer(7));
        ask(&mut ledger, one_more()).unwrap();
        assert!(!ledger.apply(&[], NOW) && ledger.apply(&[Action::Stopped], NOW));
    }
}
