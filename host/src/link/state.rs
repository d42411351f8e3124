//! How a connection stands, for whoever watches. The channel does not read this: it learns by mail.

use super::mail::CloseReason;
use crate::event::MonotonicNs;

/// How a connection stands at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// A dial is under way. Next: `Connected`, `Waiting` or `Closed`.
    Connecting,
    /// A stream is up. Next: `Waiting`, `Connecting` (a reset) or `Closed`.
    Connected {
        /// Who is at the other end.
        peer: String,
        /// Since when.
        since: MonotonicNs,
    },
    /// Down; the next dial is planned. Next: `Connecting` or `Closed`.
    Waiting {
        /// How many dials in a row led to no connection that held. A reset that the driver asked for is none.
        attempt: u32,
        /// When the next dial begins.
        until: MonotonicNs,
        /// Why it is down.
        reason: CloseReason,
    },
    /// Ended for good.
    Closed(CloseReason),
}
