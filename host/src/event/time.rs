//! Two clocks, two types: what orders is never mistaken for what dates.

/// Nanoseconds on the host's monotonic clock, since the host started. Orders and measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonotonicNs(pub u64);

/// Nanoseconds since 1970-01-01T00:00:00Z. Dates; may jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallNs(pub u64);

impl MonotonicNs {
    /// The time from `earlier` to this moment, zero if it is later.
    pub fn since(self, earlier: MonotonicNs) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `later` later; the end of time where that overflows.
    pub fn after(self, later: std::time::Duration) -> MonotonicNs {
        let nanos = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        MonotonicNs(self.0.saturating_add(nanos))
    }
}
