//! How often a device that keeps silent is asked: less and less, and with the others again as soon as it answers.
//!
//! ```text
//!  Polled ── silent so many polls in a row ──► Resting ── its pause is over, a poll is due ──► Probed
//!    ▲                                            ▲                                              │
//!    ├──────────────── it answered ───────────────┴───────────── silent: a longer pause ◄────────┘
//! ```
//!
//! Pure: the moment and the random number come in. While it rests it is left out of every poll of every group; one poll probes it. The
//! pauses double, up to the longest, give or take 30 %, so that many dead devices are not probed in step.

use std::time::Duration;

use crate::backoff;
use crate::event::MonotonicNs;

/// When a device is demoted, and how long it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// After so many silent polls in a row; at least 1.
    pub after: u32,
    /// The first pause.
    pub delay: Duration,
    /// The longest pause, before jitter.
    pub max_delay: Duration,
}

/// How a device stands that is known to be silent, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is polled with the others. Next: `Resting`.
    Polled {
        /// Silent polls in a row.
        silent: u32,
    },
    /// It is left out. Next: `Probed`, or `Polled` where it answers something else.
    Resting {
        /// Pauses so far, this one included.
        pauses: u32,
        /// Until when.
        until: MonotonicNs,
    },
    /// One poll that asks it is under way. Next: `Polled` or `Resting`.
    Probed {
        /// Pauses so far.
        pauses: u32,
    },
}

impl Default for Standing {
    fn default() -> Self {
        Standing::Polled { silent: 0 }
    }
}

impl Standing {
    /// Whether a poll that is due now is to ask it.
    #[must_use]
    pub fn admit(&mut self, now: MonotonicNs) -> bool {
        match *self {
            Standing::Polled { .. } => true,
            Standing::Resting { pauses, until } if until <= now => {
                *self = Standing::Probed { pauses };
                true
            }
            Standing::Resting { .. } | Standing::Probed { .. } => false,
        }
    }

    /// A poll that asked it has ended, and it is silent still. Gives the pause that begins now, if one does.
    pub fn silent(&mut self, policy: Policy, now: MonotonicNs, random: u64) -> Option<Duration> {
        let pauses = match *self {
            Standing::Polled { silent } if silent + 1 < policy.after => {
                *self = Standing::Polled { silent: silent + 1 };
                return None;
            }
            // The end of a poll that began before it was demoted.
            Standing::Resting { .. } => return None,
            Standing::Polled { .. } => 1,
            Standing::Probed { pauses } => pauses.saturating_add(1),
        };
        let delays = backoff::Policy {
            base: policy.delay,
            max: policy.max_delay,
        };
        let delay = delays.delay(pauses, random);
        let until = now.after(delay);
        *self = Standing::Resting { pauses, until };
        Some(delay)
    }

    /// Until when it is left out, if it is.
    pub fn resting(&self) -> Option<MonotonicNs> {
        match self {
            Standing::Resting { until, .. } => Some(*until),
            Standing::Polled { .. } | Standing::Probed { .. } => None,
        }
    }

    /// Whether it is polled less than the others.
    pub fn is_demoted(&self) -> bool {
        !matches!(self, Standing::Polled { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        after: 3,
        delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(5),
    };
    /// No jitter.
    const MIDDLE: u64 = u64::MAX / 2;

    fn at(ms: u64) -> MonotonicNs {
        MonotonicNs(ms * 1_000_000)
    }

    /// A poll each second: `.` it was left out, `s` it was silent, `a` it answered.
    fn table(device: impl Fn(u64) -> bool) -> String {
        let mut standing = Standing::default();
        let mut line = String::new();
        for second in 0..40 {
            let now = at(second * 1_000 + 1);
            if !standing.admit(now) {
                line.push('.');
            } else if device(second) {
                standing = Standing::default();
                line.push('a');
            } else {
                standing.silent(POLICY, now, MIDDLE);
                line.push('s');
            }
        }
        line
    }

    #[test]
    fn a_silent_device_is_asked_less_and_less_and_comes_back_with_one_probe() {
        for (line, device) in [
            // Pauses of 1, 2, 4, 5, 5 ... seconds.
            (
                "ssss.s...s....s....s....s....s....s....s",
                (|_| false) as fn(u64) -> bool,
            ),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", |_| true),
            // Back at 12: noticed by the probe at 14.
            ("ssss.s...s....aaaaaaaaaaaaaaaaaaaaaaaaaa", |second| {
                second >= 12
            }),
            // Two silent polls in a row are none too many.
            ("assassassassassassassassassassassassassa", |second| {
                second % 3 == 0
            }),
        ] {
            assert_eq!(table(device), line);
        }
    }

    #[test]
    fn one_poll_probes_and_a_poll_from_before_decides_nothing() {
        let mut standing = Standing::Resting {
            pauses: 2,
            until: at(10),
        };
        assert!(!standing.admit(at(9)));
        assert_eq!(standing.silent(POLICY, at(9), MIDDLE), None);
        assert!(standing.admit(at(10)));
        assert!(
            !standing.admit(at(10)),
            "another group's poll at this moment"
        );
        assert!(standing.silent(POLICY, at(20), MIDDLE).is_some());
        assert!(matches!(standing, Standing::Resting { pauses: 3, .. }));
        assert!(standing.is_demoted() && standing.resting().is_some());
    }

    proptest! {
        #[test]
        fn pauses_keep_to_their_bounds(polls in prop::collection::vec((0u64..9_000, any::<u64>()), 1..60)) {
            let mut standing = Standing::default();
            let (mut now, mut silent) = (0, 0);
            for (step, random) in polls {
                now += step;
                let rests_until = standing.resting();
                if standing.admit(at(now)) {
                    prop_assert!(rests_until.is_none_or(|until| until <= at(now)));
                    silent += 1;
                    let pause = standing.silent(POLICY, at(now), random);
                    prop_assert_eq!(pause.is_some(), silent >= POLICY.after);
                    if let Some(pause) = pause {
                        prop_assert!(pause >= POLICY.delay.mul_f64(0.699) && pause <= POLICY.max_delay.mul_f64(1.301));
                    }
                } else {
                    prop_assert!(rests_until.is_some_and(|until| until > at(now)));
                }
            }
        }
    }
}
