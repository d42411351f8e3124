//! Where a driver's words go: the host's log, under the instance id, at a bounded rate and width.

use crate::bindings::log::Level;
use crate::event::MonotonicNs;
use crate::ids::InstanceId;
use crate::limits::{LOG_BURST as BURST, LOG_LINES, TEXT_BYTES};
use crate::text::shown;

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
        let line = shown(message, TEXT_BYTES);
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
        const NS_PER_LINE: u64 = 1_000_000_000 / LOG_LINES;
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
