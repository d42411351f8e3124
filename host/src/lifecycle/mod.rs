//! What a channel is doing, and what may become of it: a table, and nothing beside it.
//!
//! ```text
//!            start                started               impaired
//!  stopped ────────► starting ──────────────► running ◄──────────► degraded
//!     ▲                │  ▲                      │      recovered     │
//!     │           fault│  │retry due        stop │ restart            │
//!     │                ▼  │ or start             ▼                    │
//!     │              backoff            stopping / restarting ◄───────┘
//!     │ stop           │                   │            │
//!     ├────────────────┘            ended  │            └────► starting
//!     ├────────────────────────────────────┘            ▲
//!     └─────────────── broken ──────────────────────────┘ slow retry due, start or reset
//!                         ▲
//!                         └── a fault that is one too many, or that no restart can mend
//! ```
//!
//! [`next`] is pure and total: each of the cells is either a [`Transition`] or a [`Denied`] that names the remedy. The
//! whole of it stands as text in `table.txt`, and a test compares the two, so that a change of behaviour is a
//! change of that file.
//!
//! Whether a fault is one too many is not decided there but in [`crate::restart`], and comes in as one input or another.
//! [`Machine`] holds the two together, with the time: everything that is decided about a channel's lives. It does
//! nothing itself, so a simulation can drive it through years and mishaps (`simulation.rs`), and the supervisor's task only
//! does what it says.
//!
//! The state of links is another table: a device that is away makes a channel degraded and never ends it.

mod machine;
mod table;

pub use machine::{Cause, Due, End, Machine, Order, Step};
pub use table::next;

use std::fmt;

/// What a channel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No instance, and none will come until somebody asks. Goes to `Starting`.
    Stopped,
    /// An instance is being made, configured, and given its first turn. Goes to `Running`, to `Backoff` or `Broken`
    /// by a fault, to `Stopped` on request.
    Starting,
    /// The instance takes turns and is well. Goes anywhere but to `Starting`.
    Running,
    /// As `Running`, but a required link is down, or the driver says that it is not well. It spends no attempt.
    Degraded,
    /// The instance was asked to finish. Goes to `Stopped`, however that ends.
    Stopping,
    /// The instance was asked to finish, so that the next can begin. Goes to `Starting`, however that ends.
    Restarting,
    /// No instance; the next begins when the delay of the restart policy is over.
    Backoff,
    /// No instance; the attempts are spent, or no restart could help. Goes to `Starting` or `Stopped` on request, and to
    /// `Starting` by a slow retry, where one is planned.
    Broken,
}

impl State {
    /// Every state.
    pub const ALL: [State; 8] = [
        State::Stopped,
        State::Starting,
        State::Running,
        State::Degraded,
        State::Stopping,
        State::Restarting,
        State::Backoff,
        State::Broken,
    ];

    /// The name, as every interface of the host writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Running => "running",
            State::Degraded => "degraded",
            State::Stopping => "stopping",
            State::Restarting => "restarting",
            State::Backoff => "backoff",
            State::Broken => "broken",
        }
    }

    /// Whether there is an instance. There is never more than one.
    pub const fn has_instance(self) -> bool {
        match self {
            State::Starting
            | State::Running
            | State::Degraded
            | State::Stopping
            | State::Restarting => true,
            State::Stopped | State::Backoff | State::Broken => false,
        }
    }

    /// Whether the instance takes reads, writes and polls.
    pub const fn takes_requests(self) -> bool {
        match self {
            State::Running | State::Degraded => true,
            State::Stopped
            | State::Starting
            | State::Stopping
            | State::Restarting
            | State::Backoff
            | State::Broken => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened to a channel, or what somebody wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The operator, or the host as it starts, wants it to run.
    Start,
    /// The operator, or the host as it stops, wants it to rest.
    Stop,
    /// The operator wants a fresh instance.
    Restart,
    /// The operator wants earlier attempts forgotten, and no more waiting for the next.
    Reset,
    /// The instance took its configuration and its first turn.
    Started,
    /// A required link went down, or a health check failed.
    Impaired,
    /// Every required link is up and the driver is well.
    Recovered,
    /// The instance ended in order, and the restart policy leaves it at that.
    Ended,
    /// The instance was asked to stop and has not answered in time.
    StopOverdue,
    /// The instance ended, and the restart policy grants another.
    FaultRetry,
    /// The instance ended, and the restart policy has no attempt left.
    FaultBroken,
    /// The component or its configuration was refused: no restart can mend that.
    FaultUnmendable,
    /// The delay of the restart policy is over, and it is the channel's turn.
    RetryDue,
}

impl Input {
    /// Every input.
    pub const ALL: [Input; 13] = [
        Input::Start,
        Input::Stop,
        Input::Restart,
        Input::Reset,
        Input::Started,
        Input::Impaired,
        Input::Recovered,
        Input::Ended,
        Input::StopOverdue,
        Input::FaultRetry,
        Input::FaultBroken,
        Input::FaultUnmendable,
        Input::RetryDue,
    ];

    /// The name, as logs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Input::Start => "start",
            Input::Stop => "stop",
            Input::Restart => "restart",
            Input::Reset => "reset",
            Input::Started => "started",
            Input::Impaired => "impaired",
            Input::Recovered => "recovered",
            Input::Ended => "ended",
            Input::StopOverdue => "stop-overdue",
            Input::FaultRetry => "fault-retry",
            Input::FaultBroken => "fault-broken",
            Input::FaultUnmendable => "fault-unmendable",
            Input::RetryDue => "retry-due",
        }
    }

    /// Whether it says that the instance is gone, or must go now.
    pub const fn ends_instance(self) -> bool {
        match self {
            Input::Ended
            | Input::StopOverdue
            | Input::FaultRetry
            | Input::FaultBroken
            | Input::FaultUnmendable => true,
            Input::Start
            | Input::Stop
            | Input::Restart
            | Input::Reset
            | Input::Started
            | Input::Impaired
            | Input::Recovered
            | Input::RetryDue => false,
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the channel's task does as it enters the next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Drop what is left of the instance, if anything; begin the next incarnation.
    Launch,
    /// Tell the instance to finish, and by when.
    AskToStop,
    /// Drop what is left of the instance; forget the retry that was planned, if any.
    Drop,
    /// Drop what is left of the instance; plan the retry.
    Wait,
    /// Drop what is left of the instance; tell the operators that the channel needs them; plan the slow retry, if the
    /// policy grants one.
    GiveUp,
    /// Let the new state be known; that is all.
    Announce,
    /// Forget earlier attempts; the state stays as it is.
    Forget,
    /// Nothing at all: the state stays as it is.
    Nothing,
}

impl Effect {
    /// The name, as `table.txt` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Launch => "launch",
            Effect::AskToStop => "ask-to-stop",
            Effect::Drop => "drop",
            Effect::Wait => "wait",
            Effect::GiveUp => "give-up",
            Effect::Announce => "announce",
            Effect::Forget => "forget",
            Effect::Nothing => "nothing",
        }
    }
}

/// A cell of the table: where it goes, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state from now on.
    pub next: State,
    /// What to do.
    pub effect: Effect,
}

/// A cell of the table with no way out.
///
/// For `Start`, `Stop`, `Restart` and `Reset` it is an answer to the operator. For any other input it would be a fault of the
/// host, whose own tasks report these; such an input changes nothing and is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel {why}")]
pub struct Denied {
    /// The state, which stays.
    pub state: State,
    /// What was denied.
    pub input: Input,
    /// Why, and what to do instead: the rest of a sentence that begins with the channel.
    pub why: &'static str,
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
