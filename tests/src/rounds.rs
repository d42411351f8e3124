//! How often a loop goes round: a few times in a test, to be quick, and many in a soak.

/// So many rounds: the first in `cargo xtask test`, the second in `cargo xtask soak`.
#[must_use]
pub fn rounds(test: u64, soak: u64) -> u64 {
    if std::env::var_os("BULKHEAD_SOAK").is_some() {
        soak
    } else {
        test
    }
}
