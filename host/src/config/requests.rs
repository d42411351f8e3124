//! What becomes of reads, writes and commands whose link is down.

use super::checked::{Requests, WhileDown};
use super::section::{Keys, Section};
use crate::limits::WAITING;

pub(super) const REQUESTS: Keys = Keys {
    known: &["while_down", "waiting"],
    later: &[],
};

/// `requests = { .. }` of a channel.
pub(super) fn requests(channel: &Section<'_>) -> Requests {
    let section = channel.part("requests", &REQUESTS);
    let choices = [
        ("wait", WhileDown::Wait),
        ("refuse", WhileDown::Refuse),
        ("pass", WhileDown::Pass),
    ];
    let waiting = section.integer("waiting", WAITING.default, WAITING.range());
    Requests {
        while_down: section.choice("while_down", WhileDown::Wait, &choices),
        waiting: usize::try_from(waiting).unwrap_or(usize::MAX),
    }
}
