//! When a device that keeps silent is polled less.

use std::time::Duration;

use super::section::{Keys, Section};
use crate::demotion::Policy;

pub(super) const DEMOTION: Keys = Keys {
    known: &["enabled", "after", "delay", "max_delay"],
    later: &[],
};

/// `demotion = { .. }` of a channel.
pub(super) fn demotion(channel: &Section<'_>) -> Option<Policy> {
    const SECOND: Duration = Duration::from_secs(1);
    let longest = Duration::from_secs(24 * 3_600);
    let section = channel.part("demotion", &DEMOTION);
    let after = section.integer("after", 3, 1..=1_000);
    let delay = section.duration("delay", SECOND, Duration::from_millis(10)..=longest);
    let policy = Policy {
        after: u32::try_from(after).unwrap_or(u32::MAX),
        delay,
        max_delay: section.duration("max_delay", delay.max(30 * SECOND), delay..=longest),
    };
    section.boolean("enabled", true).then_some(policy)
}
