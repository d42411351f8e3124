//! Whether the driver is well: it is asked now and then, and its answers, or its silence, mean something.
//!
//! - An answer `ok` is health; an answer with an error makes the channel degraded with that reason, until the next.
//! - No answer within `timeout` makes it degraded as well, and the question is cancelled. So many silences in a row as
//!   `failures` says end the incarnation as `unresponsive`: a driver that takes its turns and does nothing in them is as
//!   dead as one that trapped, and the restart policy is the same for both.
//! - A late answer is accepted and means nothing.
//!
//! The first question comes after at least half of an interval, so that a driver has time to begin; where in the rest of it
//! depends on the channel, so that a host does not ask all of them at once.
//!
//! Pure: moments come in, events to be pushed come out.

use std::sync::Arc;

use crate::config::Health;
use crate::event::MonotonicNs;
use crate::ids::RequestId;

/// Health questions have ids of their own, beyond those that doors give to requests.
const FIRST_ID: u64 = 1 << 63;

/// The health checks of one incarnation.
pub(super) struct HealthChecks {
    /// `None` where nobody asks.
    plan: Option<Health>,
    /// When the next question is due.
    next: MonotonicNs,
    /// The question under way, and until when an answer counts.
    waiting: Option<(RequestId, MonotonicNs)>,
    /// Cancelled, and not answered yet.
    late: Vec<RequestId>,
    /// Silences in a row.
    silences: u32,
    asked: u64,
    unwell: Option<Arc<str>>,
}

/// What is to be done about the driver's health.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Ask it.
    Ask(RequestId),
    /// It was silent: nobody waits for this answer any more.
    Cancel(RequestId),
    /// It was silent once too often.
    Unresponsive {
        /// What happened, in one sentence.
        sentence: String,
    },
}

impl HealthChecks {
    /// The checks of the channel at this place in the host's tables, from `now` on.
    pub(super) fn new(plan: Option<Health>, channel: usize, now: MonotonicNs) -> Self {
        // Multiples of the golden ratio fall evenly, however many channels there are.
        let place = (channel as f64 * 0.618_033_988_749_895).fract();
        let next = plan.as_ref().map_or(now, |plan| {
            now.after(plan.interval.mul_f64(0.5 + 0.5 * place))
        });
        Self {
            plan,
            next,
            waiting: None,
            late: Vec::new(),
            silences: 0,
            asked: 0,
            unwell: None,
        }
    }

    /// When [`HealthChecks::due`] has something to say.
    pub(super) fn next(&self) -> Option<MonotonicNs> {
        self.plan.as_ref()?;
        Some(self.waiting.map_or(self.next, |(_, until)| until))
    }

    /// What the time has brought.
    pub(super) fn due(&mut self, now: MonotonicNs) -> Option<Check> {
        let plan = self.plan.as_ref()?;
        match self.waiting {
            Some((_, until)) if now < until => None,
            Some((request, _)) => {
                self.waiting = None;
                self.silences += 1;
                let why = format!(
                    "the driver has not answered a health check within {:?} ({} of {} in a row)",
                    plan.timeout, self.silences, plan.failures
                );
                if self.silences >= plan.failures {
                    return Some(Check::Unresponsive { sentence: why });
                }
                self.unwell = Some(why.into());
                self.late.push(request);
                Some(Check::Cancel(request))
            }
            None if now < self.next => None,
            None => {
                let request = RequestId(FIRST_ID + self.asked);
                self.asked += 1;
                self.waiting = Some((request, now.after(plan.timeout)));
                self.next = now.after(plan.interval);
                Some(Check::Ask(request))
            }
        }
    }

    /// Whether the driver owes an answer to this question.
    pub(super) fn is_owed(&self, request: RequestId) -> bool {
        self.waiting.is_some_and(|(waiting, _)| waiting == request) || self.late.contains(&request)
    }

    /// The driver was asked by somebody else's plan: it owes an answer that means nothing here.
    pub(super) fn told(&mut self, request: RequestId) {
        self.late.push(request);
    }

    /// The driver has answered.
    pub(super) fn answered(&mut self, request: RequestId, answer: Result<(), String>) {
        self.late.retain(|late| *late != request);
        if self
            .waiting
            .take_if(|(waiting, _)| *waiting == request)
            .is_none()
        {
            return;
        }
        self.silences = 0;
        self.unwell = answer
            .err()
            .map(|message| format!("the driver says that it is not well: {message}").into());
    }

    /// Why the driver is not well, if it is not.
    pub(super) fn unwell(&self) -> Option<&Arc<str>> {
        self.unwell.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: RequestId = RequestId(FIRST_ID);

    fn at(ms: u64) -> MonotonicNs {
        MonotonicNs(ms * 1_000_000)
    }

    fn checks() -> HealthChecks {
        let plan = Health {
            interval: Duration::from_millis(1_000),
            timeout: Duration::from_millis(100),
            failures: 3,
        };
        HealthChecks::new(Some(plan), 0, at(0))
    }

    fn id(number: u64) -> RequestId {
        RequestId(FIRST_ID + number)
    }

    #[test]
    fn a_driver_that_answers_is_asked_once_in_each_interval() {
        let mut checks = checks();
        assert_eq!((checks.next(), checks.due(at(499))), (Some(at(500)), None));
        assert_eq!(checks.due(at(500)), Some(Check::Ask(FIRST)));
        assert_eq!((checks.due(at(501)), checks.next()), (None, Some(at(600))));
        assert!(checks.is_owed(FIRST) && !checks.is_owed(id(1)));
        checks.answered(FIRST, Ok(()));
        assert!(!checks.is_owed(FIRST) && checks.unwell().is_none());
        assert_eq!(
            (checks.next(), checks.due(at(1_499))),
            (Some(at(1_500)), None)
        );
        assert_eq!(checks.due(at(1_500)), Some(Check::Ask(id(1))));
    }

    #[test]
    fn a_driver_that_is_ill_says_why_until_it_is_well() {
        let mut checks = checks();
        for (number, answer, expected) in [
            (0, Err("the pump is dry"), true),
            (1, Err("still dry"), true),
            (2, Ok(()), false),
        ] {
            let now = at(500 + 1_000 * number);
            assert_eq!(checks.due(now), Some(Check::Ask(id(number))));
            checks.answered(id(number), answer.map_err(str::to_owned));
            let unwell = checks.unwell().map(|why| why.to_string());
            assert_eq!(unwell.is_some(), expected);
            if let Err(why) = answer {
                assert!(unwell.unwrap().ends_with(why));
            }
        }
        // Being ill is no silence.
        assert_eq!(checks.silences, 0);
    }

    #[test]
    fn silences_in_a_row_end_it_and_an_answer_between_them_does_not() {
        let mut checks = checks();
        let silence = |checks: &mut HealthChecks, number: u64| {
            let now = 500 + 1_000 * number;
            assert_eq!(checks.due(at(now)), Some(Check::Ask(id(number))));
            checks.due(at(now + 100))
        };
        assert_eq!(silence(&mut checks, 0), Some(Check::Cancel(id(0))));
        assert_eq!(silence(&mut checks, 1), Some(Check::Cancel(id(1))));
        assert!(checks.unwell().unwrap().contains("2 of 3"));
        // Too late: taken, but it means nothing.
        assert!(checks.is_owed(id(0)));
        checks.answered(id(0), Ok(()));
        assert!(!checks.is_owed(id(0)) && checks.unwell().is_some());
        assert_eq!(checks.due(at(2_500)), Some(Check::Ask(id(2))));
        checks.answered(id(2), Ok(()));
        assert!(checks.unwell().is_none());
        for number in [3, 4] {
            assert_eq!(
                silence(&mut checks, number),
                Some(Check::Cancel(id(number)))
            );
        }
        let Some(Check::Unresponsive { sentence }) = silence(&mut checks, 5) else {
            panic!("three in a row");
        };
        assert!(
            sentence.contains("100ms") && sentence.contains("3 of 3"),
            "{sentence}"
        );
    }

    #[test]
    fn nobody_is_asked_where_nobody_wants_it_and_channels_are_spread() {
        let mut off = HealthChecks::new(None, 0, at(0));
        assert_eq!((off.next(), off.due(at(1 << 40))), (None, None));
        let plan = checks().plan;
        let mut firsts: Vec<_> = (0..100)
            .map(|channel| HealthChecks::new(plan.clone(), channel, at(0)).next)
            .collect();
        firsts.sort_unstable();
        assert!(firsts[0] >= at(500) && firsts[99] < at(1_000));
        for pair in firsts.windows(2) {
            let apart = pair[1].since(pair[0]).as_millis();
            assert!((1..20).contains(&apart), "{apart} ms apart");
        }
    }
}
