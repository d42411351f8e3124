//! Memory, summed: what all memories and tables of one store hold together.

use wasmtime::ResourceLimiter;

/// Bytes that wasmtime spends for one table element.
const TABLE_ELEMENT_BYTES: usize = 8;

/// Counts and limits the memory of one store.
pub(super) struct Limiter {
    limit: usize,
    used: usize,
    peak: usize,
    /// What the last growth was granted, until it is known whether it came about.
    granted: usize,
    denied: Option<usize>,
}

impl Limiter {
    /// At most `limit` bytes over all memories and tables together.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            used: 0,
            peak: 0,
            granted: 0,
            denied: None,
        }
    }

    /// The most that was held at once, in bytes.
    pub(super) fn peak(&self) -> u64 {
        self.peak as u64
    }

    /// If memory was refused since the last call of [`Limiter::begin_call`]: how much there would have been, in bytes.
    pub(super) fn denied(&self) -> Option<usize> {
        self.denied
    }

    /// The limit, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Forgets an earlier refusal: the guest lived with it.
    pub(super) fn begin_call(&mut self) {
        self.denied = None;
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        self.granted = 0;
        let more = desired.saturating_sub(current);
        let wanted = self.used.saturating_add(more);
        if wanted > self.limit {
            self.denied = Some(wanted);
            return false;
        }
        self.granted = more;
        self.used = wanted;
        self.peak = self.peak.max(wanted);
        true
    }

    /// Takes back what was granted last: nothing grew.
    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.granted));
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Growth past the memory's own maximum fails whatever is said here, and is no matter of the limit.
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(maximum.is_none_or(|maximum| desired <= maximum)
            && self.grow(bytes(current), bytes(desired)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_are_summed() {
        let mut limiter = Limiter::new(1000);
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(limiter.table_growing(0, 25, None).unwrap());
        assert!(
            !limiter.memory_growing(400, 401, None).unwrap(),
            "one byte over the sum"
        );
        assert_eq!(limiter.denied(), Some(1001));
        limiter.begin_call();
        assert_eq!(limiter.denied(), None);
        assert_eq!(limiter.peak(), 1000);
    }

    #[test]
    fn growth_that_failed_is_not_counted() {
        let mut limiter = Limiter::new(1000);
        assert!(
            !limiter.memory_growing(0, 400, Some(300)).unwrap(),
            "over the memory's own maximum"
        );
        assert_eq!(limiter.denied(), None);
        assert!(limiter.memory_growing(0, 800, None).unwrap());
        limiter
            .memory_grow_failed(wasmtime::format_err!("no room"))
            .unwrap();
        assert!(limiter.memory_growing(0, 1000, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }
}
