//! The host's clocks: read in one place, handed on as values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::event::{MonotonicNs, WallNs};

/// The host's monotonic clock, counted from its start, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Now, for ordering and measuring.
    pub fn monotonic(&self) -> MonotonicNs {
        MonotonicNs(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Now, for dating.
    pub fn wall(&self) -> WallNs {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        WallNs(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment as tokio's timers want it.
    pub fn instant(&self, at: MonotonicNs) -> Instant {
        self.origin + Duration::from_nanos(at.0)
    }
}
