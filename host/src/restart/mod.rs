//! Whether and when a channel begins again after its instance ended: a pure function of history, exit and time.
//!
//! The first attempt is at once, since most faults are rare; the later ones wait longer and longer, since a fault
//! that comes twice will come again. When the attempts are spent the channel is broken: people are told, and meanwhile it
//! is tried again now and then, since nobody may be there to mend it at night.
//!
//! ```text
//! fault ─ first_delay ─ fault ─ delay ─ fault ─ delay * factor ─ fault ─► broken ─ retry_broken ─ fault ─► broken ─ ..
//!       └─────────────── max_attempts times ──────────────┘
//! ```
//!
//! - The count goes back to nothing only after continuous health (`reset_after`): a driver that traps on its second event
//!   has one good turn in each life, and must not loop for ever. The same health gives all attempts back to a channel
//!   that a slow retry brought to life; one that faults before is broken again at once, until the next slow retry.
//! - What no retry can mend (a refused component or configuration) is not retried, slowly or otherwise.
//! - A device that is away never comes here: it is link state.
//!
//! [`Limiter`] spreads the restarts of all channels of a host.

mod limiter;

use std::time::Duration;

use crate::backoff::spread;
use crate::config::{Restart, RestartMode};
use crate::event::MonotonicNs;

pub use limiter::Limiter;

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
    /// Attempts since the count was last nothing. A slow retry of a broken channel adds none.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The channel is running and well from now on.
    pub fn healthy(&mut self, now: MonotonicNs) {
        self.healthy_since.get_or_insert(now);
    }

    /// The channel is degraded, or has no instance: that spends no attempt, but it is no health either. What was
    /// achieved stands if it was enough.
    pub fn impaired(&mut self, restart: &Restart, now: MonotonicNs) {
        self.settle(restart, now);
        self.healthy_since = None;
    }

    /// When the attempts will be forgotten if the channel stays well. `None` if there is nothing to forget.
    pub fn settles_at(&self, restart: &Restart) -> Option<MonotonicNs> {
        let since = self.healthy_since.filter(|_| self.attempts > 0)?;
        Some(since.after(restart.reset_after))
    }

    /// Forgets the attempts if the channel has been healthy for long enough. Says whether there was something to
    /// forget.
    pub fn settle(&mut self, restart: &Restart, now: MonotonicNs) -> bool {
        let due = self.settles_at(restart).is_some_and(|at| now >= at);
        if due {
            self.attempts = 0;
        }
        due
    }

    /// Gives attempts back: what they were spent on is out of the way, and was not the driver's doing alone.
    pub fn give_back(&mut self, attempts: u32) {
        self.attempts = self.attempts.saturating_sub(attempts);
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Begin again after this delay, which may be nothing.
    After(Duration),
    /// The channel is broken.
    Broken {
        /// Why.
        why: Why,
        /// After which delay it is tried again nevertheless.
        retry: Option<Duration>,
    },
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
/// The delay before the first attempt is `first_delay`, before attempt `n` after it `min(max_delay, delay * factor^(n - 2))`,
/// before a slow retry `retry_broken`; each is evenly spread by `jitter` to either side. `random` is any number, fresh for
/// each call.
pub fn decide(
    restart: &Restart,
    history: &mut History,
    exit: ExitClass,
    now: MonotonicNs,
    random: u64,
) -> Decision {
    history.impaired(restart, now);
    let broken = |why, retry| Decision::Broken { why, retry };
    match (exit, restart.mode) {
        (ExitClass::Unmendable, _) => return broken(Why::Unmendable, None),
        (ExitClass::Finished, RestartMode::Transient | RestartMode::Never) => {
            return Decision::Done;
        }
        (ExitClass::Faulted, RestartMode::Never) => return broken(Why::Never, None),
        (ExitClass::Finished, RestartMode::Permanent)
        | (ExitClass::Faulted, RestartMode::Permanent | RestartMode::Transient) => {}
    }
    let jittered = |delay| spread(delay, restart.jitter, random);
    if history.attempts >= restart.max_attempts {
        let attempts = history.attempts;
        return broken(
            Why::BudgetSpent { attempts },
            restart.retry_broken.map(jittered),
        );
    }
    let delay = match history.attempts {
        0 => restart.first_delay,
        attempts => grown(restart, attempts - 1),
    };
    history.attempts += 1;
    Decision::After(jittered(delay))
}

/// `min(max_delay, delay * factor^times)`.
fn grown(restart: &Restart, times: u32) -> Duration {
    if restart.delay.is_zero() {
        return Duration::ZERO;
    }
    let factor = restart
        .factor
        .powi(i32::try_from(times).unwrap_or(i32::MAX));
    Duration::try_from_secs_f64(restart.delay.as_secs_f64() * factor)
        .unwrap_or(restart.max_delay)
        .min(restart.max_delay)
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
            first_delay: Duration::ZERO,
            delay: Duration::from_secs(5),
            factor: 2.0,
            max_delay: Duration::from_secs(60),
            reset_after: Duration::from_secs(600),
            retry_broken: Some(Duration::from_secs(300)),
            jitter: 0.3,
        }
    }

    fn at(seconds: u64) -> MonotonicNs {
        MonotonicNs(seconds * 1_000_000_000)
    }

    fn seconds(decision: Decision) -> Option<u64> {
        match decision {
            Decision::After(delay) => Some(delay.as_secs_f64().round() as u64),
            Decision::Broken { .. } | Decision::Done => None,
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
        assert_eq!(last, spent(7));
    }

    /// Broken, with a slow retry in the middle of its range.
    fn spent(attempts: u32) -> Decision {
        Decision::Broken {
            why: Why::BudgetSpent { attempts },
            retry: Some(spread(Duration::from_secs(300), 0.3, MIDDLE)),
        }
    }

    #[test]
    fn the_first_delay_and_the_factor_are_the_operators() {
        // (first delay, delay, factor, longest), then the delays.
        for ((first, delay, factor, longest), expected) in [
            ((0, 5, 2.0, 60), [0, 5, 10, 20, 40, 60]),
            ((3, 5, 2.0, 60), [3, 5, 10, 20, 40, 60]),
            ((90, 5, 1.0, 60), [90, 5, 5, 5, 5, 5]),
            ((0, 4, 1.5, 15), [0, 4, 6, 9, 14, 15]),
            ((0, 0, 10.0, 60), [0; 6]),
            ((1, 60, 10.0, 60), [1, 60, 60, 60, 60, 60]),
        ] {
            let restart = Restart {
                max_attempts: 6,
                first_delay: Duration::from_secs(first),
                delay: Duration::from_secs(delay),
                factor,
                max_delay: Duration::from_secs(longest),
                ..policy()
            };
            let mut history = History::default();
            let delays = expected.map(|_| {
                seconds(decide(
                    &restart,
                    &mut history,
                    ExitClass::Faulted,
                    at(0),
                    MIDDLE,
                ))
            });
            assert_eq!(
                delays,
                expected.map(Some),
                "{first} {delay} {factor} {longest}"
            );
        }
    }

    #[test]
    fn a_slow_retry_spends_nothing_and_only_health_ends_it() {
        let restart = policy();
        let mut history = History::default();
        // (healthy from, faults at, what follows)
        let fault = |healthy: Option<u64>, faults: u64, history: &mut History| {
            if let Some(healthy) = healthy {
                history.healthy(at(healthy));
            }
            decide(&restart, history, ExitClass::Faulted, at(faults), MIDDLE)
        };
        for attempt in [0, 5, 10] {
            assert_eq!(seconds(fault(None, 0, &mut history)), Some(attempt));
        }
        assert_eq!(fault(None, 1, &mut history), spent(3));
        assert_eq!(fault(None, 301, &mut history), spent(3));
        // It ran for a second less than it takes.
        assert_eq!(fault(Some(700), 1_299, &mut history), spent(3));
        assert_eq!(seconds(fault(Some(2_000), 2_600, &mut history)), Some(0));
        assert_eq!(history.attempts(), 1);
    }

    #[test]
    fn without_a_slow_retry_broken_is_for_good() {
        let restart = Restart {
            max_attempts: 0,
            retry_broken: None,
            ..policy()
        };
        let decision = decide(
            &restart,
            &mut History::default(),
            ExitClass::Faulted,
            at(0),
            0,
        );
        let why = Why::BudgetSpent { attempts: 0 };
        assert_eq!(decision, Decision::Broken { why, retry: None });
    }

    #[test]
    fn attempts_are_forgotten_when_the_time_is_over_not_only_at_the_next_fault() {
        let restart = policy();
        let mut history = History::default();
        history.healthy(at(1));
        assert_eq!(history.settles_at(&restart), None, "nothing to forget");
        decide(&restart, &mut history, ExitClass::Faulted, at(2), 0);
        assert_eq!(history.settles_at(&restart), None, "not healthy");
        history.healthy(at(3));
        assert_eq!(history.settles_at(&restart), Some(at(603)));
        assert!(!history.settle(&restart, at(602)));
        assert!(history.settle(&restart, at(603)));
        assert_eq!(
            (history.attempts(), history.settles_at(&restart)),
            (0, None)
        );
        // Its health goes on: the next fault is the first of a new count, and nothing is forgotten twice.
        assert!(!history.settle(&restart, at(604)));
    }

    #[test]
    fn attempts_can_be_given_back() {
        let restart = policy();
        let mut history = History::default();
        for _ in 0..2 {
            decide(&restart, &mut history, ExitClass::Faulted, at(0), 0);
        }
        history.give_back(1);
        assert_eq!(history.attempts(), 1);
        history.give_back(5);
        assert_eq!(history.attempts(), 0);
    }

    #[test]
    fn mode_and_exit_decide_whether_there_is_an_attempt() {
        use Decision::{After, Done};
        use ExitClass::{Faulted, Finished, Unmendable};
        use RestartMode::{Never, Permanent, Transient};
        let at_once = After(Duration::ZERO);
        let broken = |why| Decision::Broken { why, retry: None };
        for (mode, exit, expected) in [
            (Permanent, Finished, at_once),
            (Permanent, Faulted, at_once),
            (Permanent, Unmendable, broken(Why::Unmendable)),
            (Transient, Finished, Done),
            (Transient, Faulted, at_once),
            (Transient, Unmendable, broken(Why::Unmendable)),
            (Never, Finished, Done),
            (Never, Faulted, broken(Why::Never)),
            (Never, Unmendable, broken(Why::Unmendable)),
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
