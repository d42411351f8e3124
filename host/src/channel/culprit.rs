//! The quarantine at work in an incarnation: who is accused, who is cleared, what is kept away.
//!
//! An event is accused only where it was alone in its turn, so that no other can have been the cause; after a fault an incarnation
//! takes one event in each turn until it has proved to be healthy, and later on each event that is under suspicion has a turn for itself. What a kept-away event means depends on what it is:
//!
//! | event | kept away |
//! |---|---|
//! | `poll` | the group is not polled; its tags are bad, and say why |
//! | `received` | the bytes are dropped, and the connection is reset: its stream has a hole now |
//! | `read`, `write`, `command` | answered `quarantined` |
//! | `started` with a saved state | the driver starts without it |

use std::borrow::Cow;
use std::sync::Arc;

use super::incarnation::Incarnation;
use super::quarantine::{Accused, Letter, SAVED, Sentence};
use super::shared::raise;
use crate::bindings::events::{Event, Happening};
use crate::bus::Happened;
use crate::event::{MonotonicNs, Quality, Severity};
use crate::exit::{During, Exit, ExitKind};
use crate::ids::{ConnectionId, GroupId};
use crate::poison::Kind;

/// The code of the alarm that is up while a channel has dead letters.
pub(crate) const ALARM: &str = "dead-letters";

/// What is the same about an event each time it comes.
struct Subject<'e> {
    kind: Kind,
    target: Cow<'e, str>,
    payload: Cow<'e, [u8]>,
}

impl Incarnation<'_> {
    /// What can be kept away of an event, if anything can.
    fn subject<'e>(&'e self, what: &'e Happening) -> Option<Subject<'e>> {
        let config = self.shared.config();
        let tag = |id: u32| config.tags.get(id as usize).map(|tag| &*tag.name);
        let (kind, target, payload) = match what {
            Happening::Poll(poll) => {
                let group = config.groups.get(poll.group as usize)?;
                (Kind::Poll, group.name.as_str(), Cow::default())
            }
            Happening::Received(received) => {
                let link = self
                    .connections
                    .get(ConnectionId(received.connection))?
                    .link;
                let name = config.links.get(link.index())?.name.as_str();
                (Kind::Received, name, Cow::Borrowed(&*received.bytes))
            }
            Happening::Read(read) => {
                let names: Vec<&str> = read.tags.iter().filter_map(|id| tag(*id)).collect();
                let first = names.first().copied()?;
                (Kind::Read, first, Cow::Owned(names.join("\n").into()))
            }
            Happening::Write(write) => {
                let value = format!("{:?}", write.value).into_bytes();
                (Kind::Write, tag(write.tag)?, Cow::Owned(value))
            }
            Happening::Command(command) => {
                let payload = Cow::Borrowed(&*command.payload);
                (Kind::Command, command.name.as_str(), payload)
            }
            Happening::Started(start) => {
                let state = start.state.as_deref()?;
                (Kind::Started, SAVED, Cow::Borrowed(state))
            }
            Happening::Stop(_)
            | Happening::Opened(_)
            | Happening::Closed(_)
            | Happening::Accepted(_)
            | Happening::Sent(_)
            | Happening::Timer(_)
            | Happening::Cancel(_)
            | Happening::Health(_)
            | Happening::Stored(_)
            | Happening::Declined(_) => return None,
        };
        Some(Subject {
            kind,
            target: target.into(),
            payload,
        })
    }

    /// The letter that keeps this event away from the driver.
    pub(super) fn kept_away(&self, what: &Happening) -> Option<Letter> {
        let quarantine = self.shared.quarantine();
        if !quarantine.blocks() {
            return None;
        }
        let subject = self.subject(what)?;
        let letter = quarantine.blocked(subject.kind, &subject.target, &subject.payload)?;
        raise(&self.shared.counters.kept_away, 1);
        Some(letter)
    }

    /// Whether this event is under suspicion: it comes alone then, so that it is known by name if it ends the driver again,
    /// and takes no other with it.
    pub(super) fn is_suspect(&self, what: &Happening) -> bool {
        let quarantine = self.shared.quarantine();
        quarantine.watches()
            && self.subject(what).is_some_and(|subject| {
                quarantine.suspects(subject.kind, &subject.target, &subject.payload)
            })
    }

    /// The turn went well: what was in it is cleared.
    pub(super) fn acquit(&self) {
        for Event { what, .. } in &self.batch {
            if let Some(Subject {
                kind,
                target,
                payload,
            }) = self.subject(what)
                && self.shared.quarantine().passed(kind, &target, &payload)
            {
                tracing::info!(instance = %self.id, %kind, %target, "an event under suspicion was lived through");
            }
        }
    }

    /// The turn has ended the driver: where it had one event, that is accused.
    pub(super) async fn accuse(&mut self, exit: &Exit, now: MonotonicNs) {
        let Some(accused) = self.accused(exit) else {
            return;
        };
        let (shared, incarnation) = (self.shared, self.id.incarnation);
        let now = (now, shared.clock().wall());
        let quarantine = shared.quarantine();
        match quarantine.accuse(accused, exit, incarnation, now).await {
            Sentence::Suspected { faults } => {
                tracing::debug!(instance = %self.id, faults, "the event of this turn is under suspicion");
            }
            Sentence::Quarantined { letter, dropped } => self.announce(&letter, dropped.as_deref()),
        }
    }

    fn accused(&self, exit: &Exit) -> Option<Accused> {
        if exit.during != During::Turn || !blames_the_event(exit.kind) {
            return None;
        }
        let [Event { what, .. }] = self.batch.as_slice() else {
            return None;
        };
        let subject = self.subject(what)?;
        Some(Accused {
            kind: subject.kind,
            target: subject.target.into_owned(),
            payload: subject.payload.into_owned(),
        })
    }

    fn announce(&self, letter: &Letter, dropped: Option<&Letter>) {
        let channel = self.shared.id();
        let message = format!(
            "{} has ended the driver {} times and is kept away from it; see `bulkhead dead-letter show {channel}/{}`",
            described(letter),
            letter.faults,
            letter.number
        );
        tracing::error!(instance = %self.id, letter = letter.number, kind = %letter.fingerprint.kind, target = letter.fingerprint.target, "{message}");
        self.shared.announce(Happened::Alarm {
            code: ALARM.to_owned(),
            severity: Severity::Error,
            active: true,
            message,
            device: None,
            source_time: None,
        });
        if let Some(dropped) = dropped {
            tracing::warn!(instance = %self.id, letter = dropped.number, "the list of dead letters is full: the oldest went, and its event is kept away no longer");
            self.shared.announce(Happened::Dropped {
                count: 1,
                what: "dead letters, since the list was full; their events are kept away no longer",
            });
        }
    }

    /// A group is due that is not polled: its tags say so, once in each life.
    pub(super) fn leave_out(&mut self, group: GroupId, letter: &Letter) {
        self.polls.done(group);
        if self.left_out.contains(&group) {
            return;
        }
        self.left_out.push(group);
        let config = self.shared.config().clone();
        let Some(group) = config.groups.get(group.index()) else {
            return;
        };
        let names: Vec<&str> = group
            .tags
            .iter()
            .filter_map(|tag| config.tags.get(tag.index()))
            .map(|tag| &*tag.name)
            .collect();
        let why: Arc<str> = format!(
            "{} is not polled, since that has ended the driver {} times: `bulkhead dead-letter show {}/{}` says more",
            described(letter),
            letter.faults,
            self.shared.id(),
            letter.number
        )
        .into();
        let wall = self.shared.clock().wall();
        let changes =
            self.shared
                .tags()
                .mark(|tag| names.contains(&&*tag.name), Quality::Bad, &why, wall);
        self.shared.publish(&self.id, changes, wall);
    }
}

/// Whether the event of the turn can be the cause of such an end.
fn blames_the_event(kind: ExitKind) -> bool {
    match kind {
        ExitKind::Trapped
        | ExitKind::OutOfFuel
        | ExitKind::DeadlineExceeded
        | ExitKind::OutOfMemory
        | ExitKind::Refused
        | ExitKind::DriverError => true,
        ExitKind::Finished
        | ExitKind::Stopped
        | ExitKind::Misconfigured
        | ExitKind::Unresponsive
        | ExitKind::HostFault => false,
    }
}

/// An event in words.
pub(super) fn described(letter: &Letter) -> String {
    let target = &letter.fingerprint.target;
    match letter.fingerprint.kind {
        Kind::Started => "the saved state".to_owned(),
        Kind::Poll => format!("group {target}"),
        Kind::Received => format!(
            "a piece of {} bytes from link {target}",
            letter.fingerprint.length
        ),
        Kind::Read => format!("the read of {target}"),
        Kind::Write => format!("this write to {target}"),
        Kind::Command => format!("this command {target}"),
    }
}
