//! How a connection stands, for whoever watches. The channel does not read this: it learns by mail.

use super::mail::CloseReason;
use crate::event::MonotonicNs;
use crate::reconnection::State;

/// How a connection stands at this moment; [`crate::reconnection`] says what may become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It was opened, and its first dial is under way.
    Connecting,
    /// A stream is up.
    Connected {
        /// Who is at the other end.
        peer: String,
        /// Since when.
        since: MonotonicNs,
    },
    /// Down; the next dial is planned or under way.
    Reconnecting {
        /// How many redials in a row led to no connection that held. One that the driver asked for is none.
        attempt: u32,
        /// When the next dial begins, or has begun.
        until: MonotonicNs,
        /// Why it is down.
        reason: CloseReason,
    },
    /// Down, and the attempts are spent: an operator, or another network of the machine, brings the next.
    Failed {
        /// Why it is down.
        reason: CloseReason,
    },
    /// Ended for good.
    Disconnected(CloseReason),
}

impl LinkState {
    /// Why it is down, where it is.
    pub fn reason(&self) -> Option<CloseReason> {
        match self {
            LinkState::Connecting | LinkState::Connected { .. } => None,
            LinkState::Reconnecting { reason, .. }
            | LinkState::Failed { reason }
            | LinkState::Disconnected(reason) => Some(*reason),
        }
    }

    /// The state without what belongs to it.
    pub fn kind(&self) -> State {
        match self {
            LinkState::Connecting => State::Connecting,
            LinkState::Connected { .. } => State::Connected,
            LinkState::Reconnecting { .. } => State::Reconnecting,
            LinkState::Failed { .. } => State::Failed,
            LinkState::Disconnected(_) => State::Disconnected,
        }
    }
}
