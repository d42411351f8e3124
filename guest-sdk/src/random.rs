//! Random numbers that the host can foretell.
//!
//! In a component the seed comes from WASI, which the host seeds and records; natively it is given. The generator is
//! SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014). Not for secrets.

use std::cell::Cell;

pub(crate) struct Random(Cell<Option<u64>>);

impl Random {
    /// Natively.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Cell::new(Some(seed)))
    }

    /// In a component: the seed is asked for when the first number is.
    pub(crate) fn from_host() -> Self {
        Self(Cell::new(None))
    }

    pub(crate) fn next(&self) -> u64 {
        let state = self
            .0
            .get()
            .unwrap_or_else(host_seed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(Some(state));
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The standard library keys its hash maps from WASI's random numbers: the safe way to one of them.
fn host_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
