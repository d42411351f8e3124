//! A channel at work: events in, turns, actions out.
//!
//! ```text
//!  links ─┐                    ┌─ tags, bus
//!  doors ─┤ mailbox ── turn ───┤─ connections, timers
//!  polls ─┘  (bounded) (atomic)└─ answers
//! ```
//!
//! One task owns one store. `Incarnation` drains the mailbox into one turn, applies the actions, repeats; it lives as
//! long as the instance does. What is about to happen to the channel as a whole is the supervisor's business.
//!
//! - `mailbox`: what may wait for a turn, and the request that a door puts there.
//! - `shared`: what everybody may see of the channel while its task works: status by `watch`, tags, counters.
//! - `incarnation`: the loop. `intake` makes events of what has happened; `validate` checks a whole list of
//!   actions before any is applied; `apply` does what they say; `recycle` ends it in order before its recording is full.
//! - `witness`: what an exit remembers of the turn in which it came.
//! - `connections`, `polls`, `timers`, `pending`, `alarms`, `allowance`, `health`: what one incarnation has under way, each
//!   in its own file; `ledger`: all of it, where it is told by events and actions alone (a replay).
//! - `waiting`: requests whose link is down, until it is up again; `recovery` is how an incarnation does it.
//! - `devices`: which devices are left out of polls, since they keep silent or were locked; `locks` is the list of the latter,
//!   `addressed` whom of them a command is for.
//! - `pulse`: whether the task makes progress, for the watchdog. `punctuality`: whether polls keep to their schedule.
//!
//! - `quarantine`: events that end the driver each time are kept away from it, as dead letters; `culprit` is how an incarnation does it.
//!
//! The invariants: a channel never opens a socket (it asks `link`), never touches a store that trapped (`driver` takes it
//! away), and answers every request exactly once.

mod addressed;
mod alarms;
mod allowance;
mod apply;
mod connections;
mod culprit;
mod devices;
mod health;
mod incarnation;
mod intake;
mod ledger;
mod locks;
mod mailbox;
mod pending;
mod polls;
mod portion;
mod pulse;
mod punctuality;
mod quarantine;
mod recovery;
mod recycle;
mod shared;
mod timers;
mod validate;
mod waiting;
mod witness;

pub use ledger::{Ledger, LedgerParts};
pub use locks::{Lock, Locks, MAX_REASON};
pub use mailbox::{Answer, Ask, Mail, Mailbox, Progress, Request, RequestError, Stayed, mailbox};
pub use pulse::Pulse;
pub use punctuality::Punctuality;
pub use quarantine::{Letter, MAX_LETTER_BYTES, MAX_LETTERS, Quarantine};
pub use shared::{
    ChannelStatus, Counters, DeviceStanding, DeviceStatus, Kept, LinkStatus, Shared, SharedParts,
};
pub use validate::Refusal;
pub use waiting::Waiting;

pub(crate) use connections::Connections;
pub(crate) use culprit::ALARM as DEAD_LETTERS_ALARM;
pub(crate) use incarnation::{Incarnation, Parts, StopOrder};
pub(crate) use portion::Portion;
