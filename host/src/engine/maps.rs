//! Memory maps, of which the kernel gives a process `vm.max_map_count` (65,530 by default): what bounds the channels of one host.
//!
//! An instance takes six. Two are a stack, which a store keeps from one call to the next, and the guard below it. Four are its
//! memory: what stands before its data (the program's own stack, where the compiler puts it first, as rustc does), its data,
//! which are a copy-on-write map of the component's that all instances share, its heap, and what is reserved up to 4 GiB so that no
//! access needs a check of its bounds. Without the shared data it would be four, and each instance would hold a copy of its
//! driver's constants, which are most of what an idle one holds.

use super::EngineError;

/// What a process has besides its instances: programs, libraries, threads, the allocator's arenas, compiled code.
const OF_THE_PROCESS: u64 = 1_000;
/// Its guard included.
const OF_A_STACK: u64 = 2;
/// Where its data stand in its midst.
const OF_A_MEMORY: u64 = 4;
/// From here on the operator is warned, in percent of the limit.
const NEAR: u64 = 80;

/// What so many instances with so many memories need.
pub(super) fn needed(instances: u64, memories: u64) -> u64 {
    OF_THE_PROCESS
        .saturating_add(instances.saturating_mul(OF_A_STACK))
        .saturating_add(memories.saturating_mul(OF_A_MEMORY))
}

/// Refuses what cannot fit; warns of what is near the limit.
pub(super) fn check(needed: u64) -> Result<(), EngineError> {
    match judge(needed, limit()) {
        Judgement::Fits => {}
        Judgement::Near(limit) => tracing::warn!(
            needed,
            limit,
            "the channels need most of the memory maps that the system allows a process; raise vm.max_map_count (sysctl) \
             before adding more"
        ),
        Judgement::TooMany(limit) => {
            return Err(EngineError::TooManyMaps {
                needed,
                limit,
                enough: enough(needed),
            });
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Fits,
    Near(u64),
    TooMany(u64),
}

fn judge(needed: u64, limit: Option<u64>) -> Judgement {
    match limit {
        Some(limit) if needed > limit => Judgement::TooMany(limit),
        Some(limit) if needed.saturating_mul(100) > limit.saturating_mul(NEAR) => {
            Judgement::Near(limit)
        }
        // Where the system does not say, the kernel will.
        Some(_) | None => Judgement::Fits,
    }
}

/// What the system allows.
fn limit() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    text.trim().parse().ok()
}

/// A round number with room to grow.
fn enough(needed: u64) -> u64 {
    needed.saturating_mul(3) / 2 / 65_536 * 65_536 + 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_of_one_memory_takes_six() {
        assert_eq!(needed(1, 1) - needed(0, 0), 6);
        assert_eq!(needed(10, 80) - needed(0, 0), 340);
    }

    #[test]
    fn what_is_near_the_limit_is_told_and_what_is_beyond_it_is_refused() {
        let limit = Some(65_530);
        assert_eq!(judge(52_424, limit), Judgement::Fits);
        assert_eq!(judge(52_425, limit), Judgement::Near(65_530));
        assert_eq!(judge(65_530, limit), Judgement::Near(65_530));
        assert_eq!(judge(65_531, limit), Judgement::TooMany(65_530));
        assert_eq!(judge(u64::MAX, None), Judgement::Fits);
        assert_eq!(judge(u64::MAX, limit), Judgement::TooMany(65_530));
    }

    #[test]
    fn the_remedy_is_enough() {
        for needed in [1, 65_531, 262_144, 1_000_000] {
            assert_eq!(
                judge(needed, Some(enough(needed))),
                Judgement::Fits,
                "{needed}"
            );
        }
    }

    #[test]
    fn the_system_says() {
        assert!(limit().is_some_and(|limit| limit >= 1_000));
    }
}
