//! The host's own share, as the documentation states it, is the one that the tests hold it to.

use bulkhead_tests::paths::root;

use crate::plant::HOST_MIB;

#[test]
fn the_constant_stands_in_the_limits() {
    let limits = std::fs::read_to_string(root().join("docs/LIMITS.md")).unwrap();
    let stated = format!("at most {HOST_MIB} MiB");
    assert!(
        limits.lines().any(|line| line.contains(&stated)),
        "docs/LIMITS.md does not state {stated:?}"
    );
}
