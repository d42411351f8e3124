//! What a connection is doing, and what may become of it: a table beside that of channels.
//!
//! ```text
//!                  open               up
//!  disconnected ────────► connecting ────────► connected ◄──────┐
//!     ▲                      │    │               │  │          │
//!     │ close, refused       │    │ dial-failed   │  │ lost     │ up
//!     ├──────────────────────┘    │               │  │ reset    │
//!     │                           ▼               │  ▼          │
//!     ├─────────────────── reconnecting ◄─────────┼─────────────┘
//!     │                           ▲               │
//!     │                 reconnect │ spent         │ spent
//!     │                 path-back ▼               │
//!     └──────────────────────── failed ◄──────────┘
//! ```
//!
//! [`next`] is pure and total; its whole text stands in `table.txt`, and a test compares the two. Whether a loss is one too
//! many is decided in [`crate::backoff`] and comes in as one input or another; [`Machine`] holds the two together, with the
//! time. It does nothing itself: the task of the connection does what it says.
//!
//! The state of a *link* is that of its connections together: [`State::of_all`].

mod machine;
mod table;

pub use machine::{Event, Machine, Step};
pub use table::next;

use std::fmt;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No driver wants it. Goes to `Connecting`.
    Disconnected,
    /// A stream is up. Goes anywhere but to `Connecting`.
    Connected,
    /// It was opened, and its first dial is under way. Goes anywhere.
    Connecting,
    /// It is down; the next dial is planned or under way. Goes anywhere but to `Connecting`.
    Reconnecting,
    /// It is down and its attempts are spent. Stays so until somebody asks for a redial, or the machine's network changes.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [State; 5] = [
        State::Disconnected,
        State::Connecting,
        State::Connected,
        State::Reconnecting,
        State::Failed,
    ];

    /// The name, as every interface of the host writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Disconnected => "disconnected",
            State::Connecting => "connecting",
            State::Connected => "connected",
            State::Reconnecting => "reconnecting",
            State::Failed => "failed",
        }
    }

    /// The state of a link with connections in these states: that of the one which is worst off.
    pub fn of_all(states: impl IntoIterator<Item = State>) -> State {
        states.into_iter().max().unwrap_or(State::Disconnected)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happened to a connection, or what somebody wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The driver wants it.
    Open,
    /// A dial led to a stream.
    Up,
    /// A dial led to none, and another is granted.
    DialFailed,
    /// The stream is gone, and a redial is granted.
    Lost,
    /// A dial led to no stream or the stream is gone, and the attempts are spent.
    Spent,
    /// The operator's file does not grant it.
    Refused,
    /// The driver wants a fresh stream.
    Reset,
    /// The delay is over.
    Due,
    /// The operator wants a fresh stream, now.
    Reconnect,
    /// The machine lost what the stream goes through: its address, or its interface.
    PathGone,
    /// The machine got an address or an interface, so that there may be a way again.
    PathBack,
    /// The driver wants it no more.
    Close,
}

impl Input {
    /// Every input.
    pub const ALL: [Input; 12] = [
        Input::Open,
        Input::Up,
        Input::DialFailed,
        Input::Lost,
        Input::Spent,
        Input::Refused,
        Input::Reset,
        Input::Due,
        Input::Reconnect,
        Input::PathGone,
        Input::PathBack,
        Input::Close,
    ];

    /// The name, as `table.txt` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Input::Open => "open",
            Input::Up => "up",
            Input::DialFailed => "dial-failed",
            Input::Lost => "lost",
            Input::Spent => "spent",
            Input::Refused => "refused",
            Input::Reset => "reset",
            Input::Due => "due",
            Input::Reconnect => "reconnect",
            Input::PathGone => "path-gone",
            Input::PathBack => "path-back",
            Input::Close => "close",
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the connection's task does as it enters the next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Drop the stream or the dial that there is, if any; dial.
    Dial,
    /// Move bytes over the stream that came of the dial.
    Serve,
    /// Drop the stream that there is, if any; wait until the delay is over.
    Wait,
    /// Drop the stream that there is, if any; tell the operators that the connection needs them.
    GiveUp,
    /// Let what was sent leave; drop the stream and the dial, and end.
    Finish,
    /// Nothing at all.
    Nothing,
}

impl Effect {
    /// The name, as `table.txt` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Dial => "dial",
            Effect::Serve => "serve",
            Effect::Wait => "wait",
            Effect::GiveUp => "give-up",
            Effect::Finish => "finish",
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

/// A cell of the table with no way out. For `Reconnect` it is an answer to the operator; for any other input it would be a fault
/// of the host, which changes nothing and is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection {why}")]
pub struct Denied {
    /// The state, which stays.
    pub state: State,
    /// What was denied.
    pub input: Input,
    /// Why, and what to do instead: the rest of a sentence that begins with the connection.
    pub why: &'static str,
}

#[cfg(test)]
mod tests;
