//! When a link is dialled again, and when its peer is taken for lost.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::checked::Heartbeat;
use super::section::{Keys, Section};
use crate::backoff::{Policy, Redial};

pub(super) const HEARTBEAT: Keys = Keys {
    known: &["interval", "lost_after"],
    later: &[],
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// Of the delays.
const LEAST: Duration = Duration::from_millis(10);
const MOST: Duration = Duration::from_secs(60);
const ATTEMPTS: RangeInclusive<u64> = 0..=1_000_000;

/// The profile, with what stands beside it in its place.
pub(super) fn redial(link: &Section<'_>) -> Redial {
    let profiles = [
        ("plant", Redial::PLANT),
        ("stable", Redial::STABLE),
        ("unstable", Redial::UNSTABLE),
        ("low-bandwidth", Redial::LOW_BANDWIDTH),
    ];
    let profile = link.choice("profile", Redial::PLANT, &profiles);
    let base = link.duration("base_delay", profile.delays.base, LEAST..=MOST);
    let delays = Policy {
        base,
        max: link.duration("max_delay", base.max(profile.delays.max), base..=MOST),
    };
    Redial {
        delays,
        max_attempts: max_attempts(link, profile.max_attempts),
        steady_after: link.duration("steady_after", profile.steady_after, 100 * MS..=HOUR),
    }
}

fn max_attempts(link: &Section<'_>, default: Option<u32>) -> Option<u32> {
    if link.peek("max_attempts") == Some("unlimited") {
        return None;
    }
    if !link.has("max_attempts") {
        return default;
    }
    let written = link.integer("max_attempts", u64::from(default.unwrap_or(5)), ATTEMPTS);
    u32::try_from(written).ok()
}

/// The heartbeat of a link.
pub(super) fn heartbeat(link: &Section<'_>) -> Heartbeat {
    let default = Heartbeat::default();
    let section = link.part("heartbeat", &HEARTBEAT);
    let interval = section.duration("interval", default.interval, SECOND..=HOUR);
    let lost_after = (interval + interval / 2).max(interval + SECOND);
    Heartbeat {
        interval,
        // TCP asks in whole seconds.
        lost_after: section.duration("lost_after", lost_after, interval + SECOND..=2 * HOUR),
    }
}
