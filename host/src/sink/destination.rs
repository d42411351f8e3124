//! What a kind of sink must be able to do.

use std::sync::Arc;

use super::health::Health;
use crate::event::Item;

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// Nobody will ever take it: standard output is closed.
    Closed,
    /// It may pass: the peer is away, the disk is full. All of it is given again, the same. In one sentence, with a remedy.
    Later(String),
    /// The peer will never take this one item, whatever it is tried: it is left out and counted, and the others are given again.
    Never {
        /// The position in what was given.
        item: usize,
        /// In one sentence.
        reason: String,
    },
}

/// Where samples go. One task drives it; nobody else calls it meanwhile.
pub(super) trait Destination: Send {
    /// Delivers all of it, in order. Done when the destination's own peer has acknowledged all of it: nothing is only queued.
    /// What was delivered before an error may be given again; the peer knows it by channel, epoch and sequence.
    ///
    /// May be dropped in its midst when the host stops.
    fn deliver(&mut self, items: &[Item]) -> impl Future<Output = Result<(), Undelivered>> + Send;

    /// How its connection is; `None` for a destination that has none.
    fn health(&self) -> Option<Arc<Health>> {
        None
    }

    /// Says goodbye in order, after the last delivery.
    fn close(&mut self) -> impl Future<Output = Result<(), Undelivered>> + Send;
}
