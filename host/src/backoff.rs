//! When a link is dialled again: longer and longer, never in step, and from the beginning once it held.
//!
//! Pure: the moment and the random number come in, a delay comes out. That a device is away is the business of
//! this policy alone; it never spends a restart of the driver.

use std::time::Duration;

use crate::event::MonotonicNs;

/// Spread of the redial delay, as a fraction of it, to either side.
pub const JITTER: f64 = 0.3;
/// How long a connection must have been up for the attempts to count from nothing again, where the operator says nothing
/// else. A peer that accepts and hangs up at once is not back.
pub const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Between two redials that a driver asked for.
pub const RESET_INTERVAL: Duration = Duration::from_secs(1);

/// The bounds of the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Before the first redial.
    pub base: Duration,
    /// The delay doubles up to this. Jitter comes on top.
    pub max: Duration,
}

impl Policy {
    /// `min(max, base * 2^(attempt - 1))`, give or take [`JITTER`]. Attempts count from 1.
    pub fn delay(self, attempt: u32, random: u64) -> Duration {
        spread(
            doubled(self.base, self.max, attempt.saturating_sub(1)),
            JITTER,
            random,
        )
    }
}

/// How a link is redialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redial {
    /// The delays.
    pub delays: Policy,
    /// After so many redials in a row without a connection that held, none follows by itself. `None`: there is no end.
    pub max_attempts: Option<u32>,
    /// For how long a connection must be up for the attempts to count from nothing again.
    pub steady_after: Duration,
}

impl Redial {
    /// For plants, and the default: a device that is away for a night is found within seconds of its return.
    pub const PLANT: Self = Self::new(None, 500, 3_000);
    /// For lines that seldom fail: a few attempts, then an operator is told.
    pub const STABLE: Self = Self::new(Some(5), 1_000, 60_000);
    /// For lines that come and go.
    pub const UNSTABLE: Self = Self::new(Some(20), 5_000, 60_000);
    /// For lines on which each attempt costs.
    pub const LOW_BANDWIDTH: Self = Self::new(Some(10), 3_000, 60_000);

    const fn new(max_attempts: Option<u32>, base_ms: u64, max_ms: u64) -> Self {
        Self {
            delays: Policy {
                base: Duration::from_millis(base_ms),
                max: Duration::from_millis(max_ms),
            },
            max_attempts,
            steady_after: STEADY_AFTER,
        }
    }
}

/// The redials of one connection.
#[derive(Clone, Debug)]
pub struct Backoff {
    redial: Redial,
    attempts: u32,
    up_since: Option<MonotonicNs>,
    /// The last redial that a driver asked for, which may still be to come.
    asked: Option<MonotonicNs>,
}

impl Backoff {
    /// A connection that was never dialled.
    pub fn new(redial: Redial) -> Self {
        Self {
            redial,
            attempts: 0,
            up_since: None,
            asked: None,
        }
    }

    /// How many redials in a row were planned without a connection that held.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The connection is up.
    pub fn opened(&mut self, now: MonotonicNs) {
        self.up_since = Some(now);
    }

    /// The connection went down, or a dial failed. Says after which delay to dial again; `None` where the attempts are
    /// spent.
    pub fn lost(&mut self, now: MonotonicNs, random: u64) -> Option<Duration> {
        self.settle(now);
        if self
            .redial
            .max_attempts
            .is_some_and(|most| self.attempts >= most)
        {
            return None;
        }
        self.attempts = self.attempts.saturating_add(1);
        Some(self.redial.delays.delay(self.attempts, random))
    }

    /// Somebody saw to it, or the way there is another: all attempts are there again.
    pub fn forget(&mut self) {
        self.attempts = 0;
    }

    /// The driver asked for a fresh connection. Says after which delay to dial: at once, but no two such
    /// dials within [`RESET_INTERVAL`]. That is no failed attempt.
    pub fn reset(&mut self, now: MonotonicNs) -> Duration {
        self.settle(now);
        let moment = match self.asked {
            Some(planned) if planned > now => planned,
            Some(last) => now.max(last.after(RESET_INTERVAL)),
            None => now,
        };
        self.asked = Some(moment);
        moment.since(now)
    }

    /// The connection is no longer up, and is dialled at once: that is no failed attempt.
    pub fn ended(&mut self, now: MonotonicNs) {
        self.settle(now);
    }

    /// The connection is no longer up; if it held, earlier failures are forgotten.
    fn settle(&mut self, now: MonotonicNs) {
        if self
            .up_since
            .take()
            .is_some_and(|since| now.since(since) >= self.redial.steady_after)
        {
            self.attempts = 0;
        }
    }
}

/// `min(max, base * 2^doublings)`.
fn doubled(base: Duration, max: Duration, doublings: u32) -> Duration {
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

/// The delay, evenly spread over `1 - jitter` to `1 + jitter` times itself. `jitter` is 0 to 1.
pub(crate) fn spread(delay: Duration, jitter: f64, random: u64) -> Duration {
    let fraction = random as f64 / u64::MAX as f64;
    let factor = 1.0 + jitter * (2.0 * fraction - 1.0);
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(delay)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Redial::PLANT.delays;
    /// No jitter: the middle of the range.
    const MIDDLE: u64 = u64::MAX / 2;

    fn at(ms: u64) -> MonotonicNs {
        MonotonicNs(ms * 1_000_000)
    }

    fn ms(delay: Duration) -> u64 {
        (delay.as_secs_f64() * 1_000.0).round() as u64
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        for (attempt, least, middle, most) in [
            (1, 350, 500, 650),
            (2, 700, 1_000, 1_300),
            (3, 1_400, 2_000, 2_600),
            (4, 2_100, 3_000, 3_900),
            (5, 2_100, 3_000, 3_900),
            (33, 2_100, 3_000, 3_900),
            (u32::MAX, 2_100, 3_000, 3_900),
        ] {
            let delays = [0, MIDDLE, u64::MAX].map(|random| ms(POLICY.delay(attempt, random)));
            assert_eq!(delays, [least, middle, most], "attempt {attempt}");
        }
    }

    #[test]
    fn only_a_connection_that_held_resets_the_attempts() {
        let mut backoff = Backoff::new(Redial::PLANT);
        let table: [(&str, u64, u64); 9] = [
            ("lost", 0, 500),
            ("lost", 1_000, 1_000),
            ("opened", 2_000, 0),
            ("lost", 11_999, 2_000),
            ("opened", 14_000, 0),
            ("lost", 24_000, 500),
            ("lost", 25_000, 1_000),
            ("lost", 90_000, 2_000),
            ("lost", 99_000, 3_000),
        ];
        for (what, now, expected) in table {
            match what {
                "opened" => backoff.opened(at(now)),
                _ => {
                    let delay = backoff.lost(at(now), MIDDLE).unwrap();
                    assert_eq!(ms(delay), expected, "at {now}");
                }
            }
        }
    }

    #[test]
    fn a_reset_dials_at_once_but_not_more_than_once_a_second() {
        let mut backoff = Backoff::new(Redial::PLANT);
        for (now, expected) in [
            (0, 0),
            (100, 900),
            (200, 800),
            (1_000, 1_000),
            (1_999, 1),
            (2_500, 500),
            (9_000, 0),
        ] {
            backoff.opened(at(now));
            assert_eq!(ms(backoff.reset(at(now))), expected, "at {now}");
        }
        assert_eq!(backoff.attempts(), 0);
    }

    #[test]
    fn a_reset_forgets_no_failures() {
        let mut backoff = Backoff::new(Redial::PLANT);
        backoff.lost(at(0), MIDDLE);
        backoff.lost(at(1_000), MIDDLE);
        backoff.opened(at(2_000));
        backoff.reset(at(2_001));
        assert_eq!(ms(backoff.lost(at(2_002), MIDDLE).unwrap()), 2_000);
    }

    #[test]
    fn profiles_are_those_of_the_reference() {
        for (redial, attempts, base, max) in [
            (Redial::PLANT, None, 500, 3_000),
            (Redial::STABLE, Some(5), 1_000, 60_000),
            (Redial::UNSTABLE, Some(20), 5_000, 60_000),
            (Redial::LOW_BANDWIDTH, Some(10), 3_000, 60_000),
        ] {
            assert_eq!(redial.max_attempts, attempts);
            assert_eq!((ms(redial.delays.base), ms(redial.delays.max)), (base, max));
        }
    }

    #[test]
    fn attempts_are_spent_by_what_did_not_hold_and_come_back_by_what_did() {
        let mut backoff = Backoff::new(Redial::STABLE);
        let delays = |backoff: &mut Backoff, from: u64| -> Vec<u64> {
            std::iter::from_fn(|| backoff.lost(at(from), MIDDLE).map(ms)).collect()
        };
        assert_eq!(
            delays(&mut backoff, 0),
            [1_000, 2_000, 4_000, 8_000, 16_000]
        );
        assert_eq!(backoff.lost(at(1), 0), None, "spent is spent");
        // A stream that does not hold gives nothing back, one that does gives all.
        backoff.opened(at(10));
        assert_eq!(backoff.lost(at(10_009), 0), None);
        backoff.opened(at(20_000));
        assert_eq!(delays(&mut backoff, 30_000).len(), 5);
        backoff.forget();
        assert_eq!(delays(&mut backoff, 30_000).len(), 5);
        let mut endless = Backoff::new(Redial::PLANT);
        assert!((0..10_000).all(|now| endless.lost(at(now), 0).is_some()));
    }

    #[test]
    fn jitter_is_even() {
        let mut buckets = [0; 10];
        for step in 0..1_000u64 {
            let delay = spread(Duration::from_secs(1), JITTER, step * (u64::MAX / 1_000));
            buckets[(((delay.as_secs_f64() - 0.7) / 0.6 * 10.0) as usize).min(9)] += 1;
        }
        assert!(
            buckets.iter().all(|count| (95..=105).contains(count)),
            "{buckets:?}"
        );
    }

    proptest! {
        #[test]
        fn delays_keep_to_their_bounds(
            base in 0u64..60_000, more in 0u64..60_000, attempt in 0u32.., random: u64,
        ) {
            let policy = Policy { base: Duration::from_millis(base), max: Duration::from_millis(base + more) };
            let delay = policy.delay(attempt, random);
            prop_assert!(delay >= policy.base.mul_f64(0.699_999));
            prop_assert!(delay <= policy.max.mul_f64(1.300_001));
        }

        #[test]
        fn asked_redials_are_a_second_apart(steps in prop::collection::vec(0u64..3_000, 1..50)) {
            let mut backoff = Backoff::new(Redial::PLANT);
            let (mut now, mut dials) = (0, Vec::new());
            for step in steps {
                now += step;
                backoff.opened(at(now));
                dials.push(at(now).after(backoff.reset(at(now))));
            }
            dials.dedup();
            for pair in dials.windows(2) {
                prop_assert!(pair[1].since(pair[0]) >= RESET_INTERVAL);
            }
        }
    }
}
