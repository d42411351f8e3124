//! Whether and when a channel begins again after its instance ended: a pure function of history, exit and time.
//!
//! The first attempt is at once, since most faults are rare; the later ones wait longer and longer, since a fault
//! that comes twice will come again. When the attempts are spent the channel is broken and waits for people.
//! The count goes back to nothing only after continuous health: a driver that traps on its second event has one good
//! turn in each life, and must not loop for ever.

use std::time::Duration;

use crate::backoff::{doubled, spread};
use crate::config::{Restart, RestartMode};
use crate::event::MonotonicNs;

/// How an incarnation ended, as far as the policy cares. An end that the operator asked for never comes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitClass {
    /// In order, of the driver's own accord.
    Finished,
    /// By a trap, a limit, an error or a refused action.
    Faulted,
    /// Its component or configuration was refused.
    Unmendable,
}

/// What the policy remembers of a channel. Empty for one that the operator has just started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    attempts: u32,
    healthy_since: Option<MonotonicNs>,
}

impl History {
    /// Attempts since the count was last nothing.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The channel is running and well from now on.
    pub fn healthy(&mut self, now: MonotonicNs) {
        self.healthy_since.get_or_insert(now);
    }

    /// The channel is degraded: that spends no attempt, but it is no health either. What was achieved stands if it was
    /// enough.
    pub fn impaired(&mut self, restart: &Restart, now: MonotonicNs) {
        self.settle(restart, now);
    }

    /// The channel is no longer healthy; if it was for long enough, earlier attempts are forgotten.
    fn settle(&mut self, restart: &Restart, now: MonotonicNs) {
        if self
            .healthy_since
            .take()
            .is_some_and(|since| now.since(since) >= restart.reset_after)
        {
            self.attempts = 0;
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Begin again after this delay, which may be nothing.
    After(Duration),
    /// Give up.
    Broken(Why),
    /// Leave it at that: the channel has stopped in order.
    Done,
}

/// Why a channel is given up. Displays as the rest of a sentence that begins with the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The attempts are spent.
    #[error("faulted again after {attempts} attempts to restart it; mend the cause, then start it")]
    BudgetSpent {
        /// How many there were.
        attempts: u32,
    },
    /// `restart.mode` is `never`.
    #[error("faulted, and its `restart.mode` is \"never\"; start it by hand, or change the mode")]
    Never,
    /// No restart can help.
    #[error("was refused, which no restart can mend; change its file, then start it")]
    Unmendable,
}

/// Decides what follows the end of an incarnation.
///
/// The delay before attempt `n` is nothing for the first, then `min(max_delay, delay * 2^(n - 2))`, evenly spread by
/// `jitter` to either side. `random` is any number, fresh for each call.
pub fn decide(
    restart: &Restart,
    history: &mut History,
    exit: ExitClass,
    now: MonotonicNs,
    random: u64,
) -> Decision {
    history.settle(restart, now);
    match (exit, restart.mode) {
        (ExitClass::Unmendable, _) => return Decision::Broken(Why::Unmendable),
        (ExitClass::Finished, RestartMode::Transient | RestartMode::Never) => {
            return Decision::Done;
        }
        (ExitClass::Faulted, RestartMode::Never) => return Decision::Broken(Why::Never),
        (ExitClass::Finished, RestartMode::Permanent)
        | (ExitClass::Faulted, RestartMode::Permanent | RestartMode::Transient) => {}
    }
    if history.attempts >= restart.max_attempts {
        return Decision::Broken(Why::BudgetSpent {
            attempts: history.attempts,
        });
    }
    history.attempts += 1;
    Decision::After(match history.attempts.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => spread(
            doubled(restart.delay, restart.max_delay, doublings),
            restart.jitter,
            random,
        ),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDDLE: u64 = u64::MAX / 2;

    fn policy() -> Restart {
        Restart {
            mode: RestartMode::Permanent,
            max_attempts: 3,
            delay: Duration::from_secs(5),
            max_delay: Duration::from_secs(60),
            reset_after: Duration::from_secs(600),
            jitter: 0.3,
        }
    }

    fn at(seconds: u64) -> MonotonicNs {
        MonotonicNs(seconds * 1_000_000_000)
    }

    fn seconds(decision: Decision) -> Option<u64> {
        match decision {
            Decision::After(delay) => Some(delay.as_secs_f64().round() as u64),
            Decision::Broken(_) | Decision::Done => None,
        }
    }

    #[test]
    fn the_first_attempt_is_at_once_and_the_last_is_the_last() {
        let restart = Restart {
            max_attempts: 7,
            ..policy()
        };
        let mut history = History::default();
        for expected in [
            Some(0),
            Some(5),
            Some(10),
            Some(20),
            Some(40),
            Some(60),
            Some(60),
            None,
            None,
        ] {
            let decision = decide(&restart, &mut history, ExitClass::Faulted, at(1), MIDDLE);
            assert_eq!(seconds(decision), expected);
        }
        let last = decide(&restart, &mut history, ExitClass::Faulted, at(1), MIDDLE);
        assert_eq!(last, Decision::Broken(Why::BudgetSpent { attempts: 7 }));
    }

    #[test]
    fn mode_and_exit_decide_whether_there_is_an_attempt() {
        use Decision::{After, Broken, Done};
        use ExitClass::{Faulted, Finished, Unmendable};
        use RestartMode::{Never, Permanent, Transient};
        let at_once = After(Duration::ZERO);
        for (mode, exit, expected) in [
            (Permanent, Finished, at_once),
            (Permanent, Faulted, at_once),
            (Permanent, Unmendable, Broken(Why::Unmendable)),
            (Transient, Finished, Done),
            (Transient, Faulted, at_once),
            (Transient, Unmendable, Broken(Why::Unmendable)),
            (Never, Finished, Done),
            (Never, Faulted, Broken(Why::Never)),
            (Never, Unmendable, Broken(Why::Unmendable)),
        ] {
            let decision = decide(
                &Restart { mode, ..policy() },
                &mut History::default(),
                exit,
                at(0),
                0,
            );
            assert_eq!(decision, expected, "{mode:?} {exit:?}");
        }
    }

    #[test]
    fn only_continuous_health_brings_attempts_back() {
        let restart = policy();
        // (what, when, attempts afterwards)
        let table = [
            ("fault", 0, 1),
            ("healthy", 1, 1),
            ("fault", 600, 2),
            ("healthy", 610, 2),
            ("healthy", 1_000, 2),
            ("impaired", 1_209, 2),
            ("healthy", 1_300, 2),
            ("fault", 1_899, 3),
            ("healthy", 2_000, 3),
            ("fault", 2_600, 1),
            ("healthy", 3_000, 1),
            ("impaired", 3_600, 0),
            ("fault", 3_601, 1),
        ];
        let mut history = History::default();
        for (what, when, attempts) in table {
            match what {
                "healthy" => history.healthy(at(when)),
                "impaired" => history.impaired(&restart, at(when)),
                _ => assert!(
                    seconds(decide(
                        &restart,
                        &mut history,
                        ExitClass::Faulted,
                        at(when),
                        0
                    ))
                    .is_some()
                ),
            }
            assert_eq!(history.attempts(), attempts, "{what} at {when}");
        }
    }

    #[test]
    fn no_attempts_means_none() {
        let restart = Restart {
            max_attempts: 0,
            ..policy()
        };
        let decision = decide(
            &restart,
            &mut History::default(),
            ExitClass::Faulted,
            at(0),
            0,
        );
        assert_eq!(decision, Decision::Broken(Why::BudgetSpent { attempts: 0 }));
    }

    proptest! {
        /// Lives shorter than `reset_after`, however many and however healthy, get `max_attempts` attempts in all.
        #[test]
        fn the_budget_is_never_exceeded(
            max_attempts in 0u32..50,
            lives in prop::collection::vec((0u64..600, any::<u64>()), 60..100),
        ) {
            let restart = Restart { max_attempts, ..policy() };
            let (mut history, mut now, mut granted) = (History::default(), 0, 0);
            for (life, random) in lives {
                history.healthy(at(now));
                now += life;
                if let Decision::After(_) = decide(&restart, &mut history, ExitClass::Faulted, at(now), random) {
                    granted += 1;
                }
            }
            prop_assert_eq!(granted, max_attempts);
        }

        #[test]
        fn delays_keep_to_their_bounds(
            delay in 0u64..3_600, more in 0u64..3_600, jitter in 0.0..=1.0f64, randoms: [u64; 32],
        ) {
            let restart = Restart {
                max_attempts: 1_000,
                delay: Duration::from_secs(delay),
                max_delay: Duration::from_secs(delay + more),
                jitter,
                ..policy()
            };
            let mut history = History::default();
            for (index, random) in randoms.into_iter().enumerate() {
                let Decision::After(delay) = decide(&restart, &mut history, ExitClass::Faulted, at(0), random) else {
                    return Err(TestCaseError::fail("gave up early"));
                };
                if index == 0 {
                    prop_assert_eq!(delay, Duration::ZERO);
                } else {
                    let seconds = delay.as_secs_f64();
                    prop_assert!(seconds >= restart.delay.as_secs_f64() * (1.0 - jitter) - 1e-6);
                    prop_assert!(seconds <= restart.max_delay.as_secs_f64() * (1.0 + jitter) + 1e-6);
                }
            }
        }
    }
}
