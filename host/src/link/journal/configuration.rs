//! A link's configuration as text, so that the host can say what is another than at its last start.

use crate::backoff::Redial;
use crate::config::{Heartbeat, Link, OnRestart};

/// The longest text that is kept, in bytes.
const MAX_TEXT: usize = 2_048;

/// One line for each key.
pub(super) fn text(link: &Link) -> String {
    let Redial {
        delays,
        max_attempts,
        steady_after,
    } = link.redial;
    let Heartbeat {
        interval,
        lost_after,
    } = link.heartbeat;
    let time = humantime::format_duration;
    let attempts = max_attempts.map_or("unlimited".to_owned(), |most| most.to_string());
    let on_restart = match link.on_restart {
        OnRestart::Reset => "reset",
        OnRestart::Keep => "keep",
    };
    let lines = [
        format!("connect {}", link.connect),
        format!("connect_timeout {}", time(link.connect_timeout)),
        format!("base_delay {}", time(delays.base)),
        format!("max_delay {}", time(delays.max)),
        format!("max_attempts {attempts}"),
        format!("steady_after {}", time(steady_after)),
        format!("heartbeat.interval {}", time(interval)),
        format!("heartbeat.lost_after {}", time(lost_after)),
        format!("on_restart {on_restart}"),
    ];
    crate::text::shown_lines(&lines.join("\n"), MAX_TEXT)
}

/// What is another, in one sentence.
pub(super) fn difference(before: &str, now: &str) -> Option<String> {
    if before == now {
        return None;
    }
    let key = |line: &str| line.split_once(' ').map_or(line, |(key, _)| key).to_owned();
    let value = |text: &str, wanted: &str| {
        let line = text.lines().find(|line| key(line) == wanted)?;
        Some(
            line.split_once(' ')
                .map_or("", |(_, value)| value)
                .to_owned(),
        )
    };
    let mut keys: Vec<String> = now.lines().map(key).collect();
    keys.extend(
        before
            .lines()
            .map(key)
            .filter(|old| value(now, old).is_none()),
    );
    let changes: Vec<String> = keys
        .iter()
        .filter_map(|key| match (value(before, key), value(now, key)) {
            (Some(old), Some(new)) if old != new => Some(format!("{key} was {old}, is {new}")),
            // Another version of the host wrote it, and knew other keys.
            _ => None,
        })
        .collect();
    (!changes.is_empty()).then(|| changes.join("; "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::tests::link_to;
    use super::*;

    #[test]
    fn what_is_another_is_named_and_nothing_else() {
        let before = text(&link_to("10.0.0.9", 502));
        assert_eq!(difference(&before, &before), None);
        let mut link = link_to("10.0.0.10", 502);
        link.redial.max_attempts = Some(5);
        link.heartbeat.interval = Duration::from_secs(10);
        assert_eq!(
            difference(&before, &text(&link)).unwrap(),
            "connect was tcp://10.0.0.9:502, is tcp://10.0.0.10:502; max_attempts was unlimited, is 5; \
             heartbeat.interval was 30s, is 10s"
        );
        let other_version = before.replace("steady_after", "steadiness");
        assert_eq!(difference(&other_version, &before), None);
    }
}
