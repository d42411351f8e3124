//! How the requests of a channel were answered: counted for whoever watches, at the moment when the answer goes to whoever asked.
//!
//! Each request that reaches a channel is counted once, also one that nobody waited for to its end. Counted by the doors' own tasks, so a
//! turn costs nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::channel::RequestError;
use crate::clock::Clock;
use crate::event::MonotonicNs;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To read tags.
    Read,
    /// To write a tag.
    Write,
    /// To carry out a command.
    Command,
}

impl Asked {
    const ALL: [Asked; 3] = [Asked::Read, Asked::Write, Asked::Command];

    const fn as_str(self) -> &'static str {
        match self {
            Asked::Read => "read",
            Asked::Write => "write",
            Asked::Command => "command",
        }
    }
}

/// How it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The driver has done it.
    Done,
    /// The host did not let it through. Nothing was sent to the device.
    Refused,
    /// Its link was down. Nothing was sent to the device.
    LinkDown,
    /// The driver or the device said no.
    Failed,
    /// No answer in time.
    TimedOut,
    /// The driver ended while it worked on it, or nobody waited for the answer. What the device did is not known.
    Lost,
}

impl Outcome {
    const ALL: [Outcome; 6] = [
        Outcome::Done,
        Outcome::Refused,
        Outcome::LinkDown,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Lost,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::LinkDown => "link-down",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed-out",
            Outcome::Lost => "lost",
        }
    }

    fn of(error: &RequestError) -> Self {
        match error {
            RequestError::NotRunning { .. }
            | RequestError::Busy { .. }
            | RequestError::NoSuchTag { .. }
            | RequestError::NotWritable { .. }
            | RequestError::NotReadable { .. }
            | RequestError::NotSupported { .. }
            | RequestError::NoSuchCommand { .. }
            | RequestError::TooManyCommands { .. }
            | RequestError::RateLimited { .. }
            | RequestError::BadValue(_)
            | RequestError::DeviceLocked { .. }
            | RequestError::Quarantined { .. } => Outcome::Refused,
            RequestError::LinkDown { .. } => Outcome::LinkDown,
            RequestError::Failed { .. } => Outcome::Failed,
            RequestError::TimedOut { .. } => Outcome::TimedOut,
            RequestError::Restarted | RequestError::Cancelled => Outcome::Lost,
        }
    }
}

/// How requests of one kind were answered since the channel took up its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// `read`, `write` or `command`.
    pub kind: &'static str,
    /// How many, by outcome: `done`, `refused`, `link-down`, `failed`, `timed-out`, `lost`.
    pub outcomes: [(&'static str, u64); 6],
    /// How long those that were done took, all together.
    pub took: Duration,
}

impl Answers {
    /// How many were done.
    pub fn done(&self) -> u64 {
        let [(_, done), ..] = self.outcomes;
        done
    }
}

/// The same as it is raised. Doors do so from many threads.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// By what was asked, then by outcome.
    counts: [[AtomicU64; Outcome::ALL.len()]; Asked::ALL.len()],
    /// Of those that were done.
    took_ns: [AtomicU64; Asked::ALL.len()],
}

impl Answered {
    /// A request begins. It is counted when what this gives is told the answer, or dropped.
    pub(super) fn begin(self: &Arc<Self>, asked: Asked, clock: Clock) -> Pending {
        Pending {
            answered: self.clone(),
            asked,
            clock,
            since: clock.monotonic(),
            outcome: Outcome::Lost,
        }
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> [Answers; Asked::ALL.len()] {
        Asked::ALL.map(|asked| {
            let count = |outcome| self.count(asked, outcome).load(Ordering::Relaxed);
            Answers {
                kind: asked.as_str(),
                outcomes: Outcome::ALL.map(|outcome| (outcome.as_str(), count(outcome))),
                took: Duration::from_nanos(self.took(asked).load(Ordering::Relaxed)),
            }
        })
    }

    // Both are as long as there are variants, whose numbers these are.
    fn count(&self, asked: Asked, outcome: Outcome) -> &AtomicU64 {
        &self.counts[asked as usize][outcome as usize]
    }

    fn took(&self, asked: Asked) -> &AtomicU64 {
        &self.took_ns[asked as usize]
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    answered: Arc<Answered>,
    asked: Asked,
    clock: Clock,
    since: MonotonicNs,
    outcome: Outcome,
}

impl Pending {
    /// This is the answer.
    pub(super) fn end<T>(mut self, answer: &Result<T, RequestError>) {
        self.outcome = match answer {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::of(error),
        };
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Self {
            answered,
            asked,
            outcome,
            ..
        } = self;
        answered
            .count(*asked, *outcome)
            .fetch_add(1, Ordering::Relaxed);
        if *outcome == Outcome::Done {
            let took = self.clock.monotonic().since(self.since).as_nanos();
            let took = u64::try_from(took).unwrap_or(u64::MAX);
            answered.took(*asked).fetch_add(took, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once_by_what_became_of_it() {
        let answered = Arc::new(Answered::default());
        let clock = Clock::start();
        let begin = |asked| answered.begin(asked, clock);
        begin(Asked::Write).end(&Ok(()));
        begin(Asked::Write).end(&Ok(()));
        begin(Asked::Write).end::<()>(&Err(RequestError::Restarted));
        let after = Duration::from_secs(1);
        begin(Asked::Read).end::<()>(&Err(RequestError::TimedOut { after }));
        drop(begin(Asked::Command));
        let shown = answered.read().map(|answers| {
            let some = answers.outcomes.iter().filter(|(_, count)| *count > 0);
            let some: Vec<String> = some
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            (answers.kind, some.join(", "), answers.done())
        });
        let expected = [
            ("read", "timed-out 1".to_owned(), 0),
            ("write", "done 2, lost 1".to_owned(), 2),
            ("command", "lost 1".to_owned(), 0),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn variants_stand_in_the_order_of_their_numbers() {
        for (number, asked) in Asked::ALL.into_iter().enumerate() {
            assert_eq!(asked as usize, number);
        }
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
        assert_eq!(Outcome::ALL[0], Outcome::Done);
    }
}
