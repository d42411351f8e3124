//! How often tags may be written: only those whose configuration says so are remembered, by name, so that a reload forgets nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::event::MonotonicNs;

/// When tags were written last.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Mutex<BTreeMap<Box<str>, MonotonicNs>>,
}

/// A write that may be done, and what was known before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    tag: Box<str>,
    before: Option<MonotonicNs>,
}

impl Pace {
    /// Counts a write, or says in how long there may be one, in whole milliseconds.
    pub(super) fn admit(
        &self,
        tag: &str,
        interval: Duration,
        now: MonotonicNs,
    ) -> Result<Admitted, Duration> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.get(tag).copied();
        if let Some(before) = before
            && let Some(wait) = interval.checked_sub(now.since(before))
            && !wait.is_zero()
        {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            return Err(Duration::from_millis(
                u64::try_from(millis).unwrap_or(u64::MAX),
            ));
        }
        last.insert(tag.into(), now);
        Ok(Admitted {
            tag: tag.into(),
            before,
        })
    }

    /// The write did not get as far as the driver: it does not count.
    pub(super) fn take_back(&self, admitted: Admitted) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match admitted.before {
            Some(before) => last.insert(admitted.tag, before),
            None => last.remove(&*admitted.tag),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_write_that_comes_too_soon_is_told_how_long_to_wait() {
        let pace = Pace::default();
        let admit = |tag, at_ms| pace.admit(tag, SECOND, MonotonicNs(at_ms * MS));
        assert!(admit("a", 0).is_ok());
        assert_eq!(admit("a", 0), Err(SECOND));
        assert_eq!(admit("a", 999), Err(Duration::from_millis(1)));
        assert!(admit("b", 999).is_ok(), "each tag by itself");
        assert!(admit("a", 1_000).is_ok(), "a refused one does not count");
        assert_eq!(admit("a", 1_500), Err(Duration::from_millis(500)));
        let in_between = MonotonicNs(1_500 * MS + 1);
        let wait = pace.admit("a", SECOND, in_between);
        assert_eq!(wait, Err(Duration::from_millis(500)), "rounded up");
    }

    #[test]
    fn a_write_that_was_taken_back_does_not_count() {
        let pace = Pace::default();
        let admit = |at_ms| pace.admit("a", SECOND, MonotonicNs(at_ms * MS));
        pace.take_back(admit(0).unwrap());
        assert!(admit(1).is_ok());
        pace.take_back(admit(2_000).unwrap());
        assert_eq!(admit(1_000), Err(Duration::from_millis(1)));
        assert!(admit(1_001).is_ok());
    }
}
