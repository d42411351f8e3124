//! Looks whether the channels' tasks make progress, from a thread of its own: a task that hangs in the host's own code says
//! nothing any more, and may hold up the threads that would say it for it.
//!
//! What it finds stands in the log, once when it begins and once when it is over; `GET /livez` looks for itself. The
//! watchdog ends nothing: a thread cannot be ended from outside, and who restarts the host is not its business.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::registry::WeakRegistry;
use crate::channel::Shared;
use crate::event::MonotonicNs;

/// How often it looks.
const STEP: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub(super) struct Watchdog {
    _stop: SyncSender<()>,
}

impl Watchdog {
    /// Watches the channels that there are, as long as there are any.
    pub(super) fn start(channels: WeakRegistry) -> Self {
        let (stop, stopped) = sync_channel::<()>(1);
        let watch = move || {
            let mut late = Late::default();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(STEP) {
                let Some(channels) = channels.now() else {
                    return;
                };
                for channel in &*channels {
                    report(&channel.shared, &mut late);
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into());
        if let Err(error) = thread.spawn(watch) {
            tracing::error!(%error, "the watchdog could not be started; hanging channels will not be reported");
        }
        Self { _stop: stop }
    }
}

/// The channels whose tasks are known to be late, by their places.
#[derive(Default)]
struct Late(HashSet<usize>);

/// What is news of a channel.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Hangs(Duration),
    GoesOn,
}

impl Late {
    fn look(&mut self, channel: usize, late: Option<Duration>) -> Option<News> {
        match late {
            Some(by) => self.0.insert(channel).then_some(News::Hangs(by)),
            None => self.0.remove(&channel).then_some(News::GoesOn),
        }
    }
}

fn report(channel: &Arc<Shared>, late: &mut Late) {
    let now: MonotonicNs = channel.clock().monotonic();
    let news = late.look(channel.index(), channel.pulse().late(now));
    let instance = || channel.instance();
    match news {
        Some(News::Hangs(by)) => {
            tracing::error!(
                instance = %instance(),
                ?by,
                "the channel's task makes no progress in the host's own code; report it to Bulkhead's developers with the log, and restart the host"
            );
        }
        Some(News::GoesOn) => {
            tracing::warn!(instance = %instance(), "the channel's task makes progress again");
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hang_is_reported_once_and_so_is_its_end() {
        let mut late = Late::default();
        let by = |seconds| Some(Duration::from_secs(seconds));
        let looks = [
            (0, None, None),
            (0, by(1), Some(News::Hangs(Duration::from_secs(1)))),
            (1, by(7), Some(News::Hangs(Duration::from_secs(7)))),
            (0, by(2), None),
            (0, None, Some(News::GoesOn)),
            (0, None, None),
            (0, by(3), Some(News::Hangs(Duration::from_secs(3)))),
            (1, None, Some(News::GoesOn)),
        ];
        for (channel, seen, news) in looks {
            assert_eq!(late.look(channel, seen), news);
        }
    }
}
