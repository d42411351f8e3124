//! Where a driver's words go: the host's log, under the instance id, at a bounded rate and width.

use std::fmt::Write as _;

use crate::bindings::log::Level;
use crate::event::MonotonicNs;
use crate::ids::InstanceId;

/// The longest line, in bytes; the rest is cut.
const MAX_LINE: usize = 4096;
/// Lines per second, in the long run.
const LINES_PER_SECOND: u64 = 100;
/// Lines at once.
const BURST: u64 = 200;

/// The log of one incarnation.
pub(super) struct LogPort {
    instance: InstanceId,
    tokens: u64,
    refilled_at: MonotonicNs,
    dropped: u64,
}

impl LogPort {
    pub(super) fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            tokens: BURST,
            refilled_at: MonotonicNs(0),
            dropped: 0,
        }
    }

    /// Writes one line, or counts it as dropped.
    pub(super) fn write(&mut self, now: MonotonicNs, level: Level, message: &str) {
        self.refill(now);
        if self.tokens == 0 {
            self.dropped += 1;
            return;
        }
        self.tokens -= 1;
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            tracing::warn!(target: "driver", instance = %self.instance, dropped, "log lines over the rate limit were dropped");
        }
        let line = clean(message);
        let instance = &self.instance;
        match level {
            Level::Error => tracing::error!(target: "driver", %instance, "{line}"),
            Level::Warn => tracing::warn!(target: "driver", %instance, "{line}"),
            Level::Info => tracing::info!(target: "driver", %instance, "{line}"),
            Level::Debug => tracing::debug!(target: "driver", %instance, "{line}"),
            Level::Trace => tracing::trace!(target: "driver", %instance, "{line}"),
        }
    }

    fn refill(&mut self, now: MonotonicNs) {
        const NS_PER_LINE: u64 = 1_000_000_000 / LINES_PER_SECOND;
        let earned = now.0.saturating_sub(self.refilled_at.0) / NS_PER_LINE;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled_at = MonotonicNs(
                self.refilled_at
                    .0
                    .saturating_add(earned.saturating_mul(NS_PER_LINE)),
            );
        }
    }
}

impl Drop for LogPort {
    fn drop(&mut self) {
        if self.dropped > 0 {
            tracing::warn!(target: "driver", instance = %self.instance, dropped = self.dropped, "log lines over the rate limit were dropped");
        }
    }
}

/// Cuts a line and escapes what could move a terminal's cursor or forge another line.
fn clean(message: &str) -> String {
    let mut line = String::with_capacity(message.len().min(MAX_LINE));
    for character in message.trim_end_matches('\n').chars() {
        if line.len() + 12 > MAX_LINE {
            line.push('…');
            break;
        }
        let is_bidi = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || is_bidi || matches!(character, '\u{2028}' | '\u{2029}') {
            write!(line, "{}", character.escape_default())
                .expect("writing to a string cannot fail");
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChannelId;

    fn port() -> LogPort {
        LogPort::new(InstanceId {
            channel: ChannelId::new("a").unwrap(),
            incarnation: 1,
        })
    }

    #[test]
    fn terminal_escapes_and_forged_lines_are_shown_not_done() {
        assert_eq!(
            clean("a\u{1b}[2Jb\nERROR c\r\u{202e}d\n"),
            "a\\u{1b}[2Jb\\nERROR c\\r\\u{202e}d"
        );
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = clean(&"ä".repeat(10_000));
        assert!(
            line.len() <= MAX_LINE && line.ends_with('…'),
            "{}",
            line.len()
        );
    }

    #[test]
    fn lines_over_the_rate_are_counted() {
        let mut port = port();
        for _ in 0..BURST + 50 {
            port.write(MonotonicNs(0), Level::Trace, "x");
        }
        assert_eq!(port.dropped, 50);
        port.write(MonotonicNs(10_000_000), Level::Trace, "one line later");
        assert_eq!((port.dropped, port.tokens), (0, 0));
    }
}
