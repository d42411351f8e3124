//! Memory, summed: what all memories and tables of one store hold together.

use wasmtime::ResourceLimiter;

/// Bytes that wasmtime spends for one table element.
const TABLE_ELEMENT_BYTES: usize = 8;

/// Counts and limits the memory of one store.
pub(super) struct Limiter {
    limit: usize,
    used: usize,
    peak: usize,
    denied: Option<usize>,
}

impl Limiter {
    /// At most `limit` bytes over all memories and tables together.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            used: 0,
            peak: 0,
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
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit {
            self.denied = Some(wanted);
            return false;
        }
        self.used = wanted;
        self.peak = self.peak.max(wanted);
        true
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            current.saturating_mul(TABLE_ELEMENT_BYTES),
            desired.saturating_mul(TABLE_ELEMENT_BYTES),
        ))
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
}
