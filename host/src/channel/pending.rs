//! Requests that the driver works on.
//!
//! A request is answered exactly once, by whichever comes first: the driver, its deadline, or the end of the
//! incarnation. One that was answered by its deadline stays here, without a reply, until the driver answers as well,
//! so that a late answer is known for what it is.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;

use super::mailbox::{Answer, Ask, RequestError};
use crate::event::MonotonicNs;
use crate::ids::RequestId;

/// The most requests that a driver may owe answers to.
pub(super) const MAX_PENDING: usize = crate::limits::PENDING;

/// The requests of one incarnation.
#[derive(Default)]
pub(super) struct Pending {
    requests: HashMap<u64, Owed>,
    deadlines: BTreeSet<(MonotonicNs, u64)>,
}

/// One request.
pub(super) struct Owed {
    pub(super) ask: Ask,
    deadline: MonotonicNs,
    timeout: Duration,
    reply: Option<oneshot::Sender<Result<Answer, RequestError>>>,
}

impl Owed {
    pub(super) fn new(
        ask: Ask,
        deadline: MonotonicNs,
        timeout: Duration,
        reply: oneshot::Sender<Result<Answer, RequestError>>,
    ) -> Self {
        Self {
            ask,
            deadline,
            timeout,
            reply: Some(reply),
        }
    }

    /// One that nobody waits for, and that has no deadline.
    pub(super) fn unasked(ask: Ask) -> Self {
        Self {
            ask,
            deadline: MonotonicNs(u64::MAX),
            timeout: Duration::MAX,
            reply: None,
        }
    }

    /// Answers, if nobody has. Whoever asked may have gone away; then the answer has no reader, which is no fault. Gives whether it
    /// came in time.
    pub(super) fn answer(self, answer: Result<Answer, RequestError>) -> bool {
        self.reply.is_some_and(|reply| reply.send(answer).is_ok())
    }
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn insert(&mut self, id: RequestId, owed: Owed) {
        self.deadlines.insert((owed.deadline, id.0));
        self.requests.insert(id.0, owed);
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Owed> {
        self.requests.get(&id.0)
    }

    /// The driver has answered it.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<Owed> {
        let owed = self.requests.remove(&id.0)?;
        self.deadlines.remove(&(owed.deadline, id.0));
        Some(owed)
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<MonotonicNs> {
        self.deadlines.first().map(|(moment, _)| *moment)
    }

    /// Answers the first request whose time is up, and gives its id so that the driver can be told.
    pub(super) fn expire(&mut self, now: MonotonicNs) -> Option<RequestId> {
        let (moment, id) = *self.deadlines.first()?;
        if moment > now {
            return None;
        }
        self.deadlines.pop_first();
        if let Some(owed) = self.requests.get_mut(&id)
            && let Some(reply) = owed.reply.take()
        {
            drop(reply.send(Err(RequestError::TimedOut {
                after: owed.timeout,
            })));
        }
        Some(RequestId(id))
    }

    /// Nobody waits for it any more: its answer will be dropped. Gives whether the driver is to be told, which it is once.
    pub(super) fn cancel(&mut self, id: RequestId) -> bool {
        let Some(owed) = self.requests.get_mut(&id.0) else {
            return false;
        };
        owed.reply = None;
        self.deadlines.remove(&(owed.deadline, id.0))
    }

    /// The incarnation has ended: nothing that was dispatched is sent again.
    pub(super) fn restarted(&mut self) {
        self.deadlines.clear();
        for (_, owed) in self.requests.drain() {
            // Those that have expired were answered before.
            owed.answer(Err(RequestError::Restarted));
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.restarted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owe(
        pending: &mut Pending,
        id: u64,
        deadline: u64,
    ) -> oneshot::Receiver<Result<Answer, RequestError>> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Read([].into());
        pending.insert(
            RequestId(id),
            Owed::new(
                ask,
                MonotonicNs(deadline),
                Duration::from_nanos(deadline),
                reply,
            ),
        );
        answer
    }

    #[test]
    fn each_request_is_answered_once_by_whatever_comes_first() {
        let mut pending = Pending::default();
        let [mut done, mut late, mut lost] =
            [(1, 30), (2, 10), (3, 20)].map(|(id, at)| owe(&mut pending, id, at));
        pending
            .remove(RequestId(1))
            .unwrap()
            .answer(Ok(Answer::Write(None)))
            .then_some(())
            .unwrap();
        assert_eq!(done.try_recv().unwrap(), Ok(Answer::Write(None)));

        assert_eq!(pending.expire(MonotonicNs(9)), None);
        assert_eq!(pending.expire(MonotonicNs(10)), Some(RequestId(2)));
        let timed_out = RequestError::TimedOut {
            after: Duration::from_nanos(10),
        };
        assert_eq!(late.try_recv().unwrap(), Err(timed_out));
        let late = pending
            .remove(RequestId(2))
            .expect("known until the driver answers");
        assert!(!late.answer(Ok(Answer::Write(None))), "it came too late");

        pending.restarted();
        assert_eq!(lost.try_recv().unwrap(), Err(RequestError::Restarted));
        assert_eq!((pending.len(), pending.next()), (0, None));
    }

    #[test]
    fn what_was_cancelled_is_told_once_and_its_answer_is_late() {
        let mut pending = Pending::default();
        let mut taken_back = owe(&mut pending, 1, 30);
        assert!(pending.cancel(RequestId(1)) && !pending.cancel(RequestId(1)));
        assert!(!pending.cancel(RequestId(2)), "never dispatched");
        assert!(taken_back.try_recv().is_err());
        assert_eq!(pending.expire(MonotonicNs(31)), None);
        let owed = pending.remove(RequestId(1)).expect("still owed");
        assert!(!owed.answer(Ok(Answer::Write(None))));
        assert!(!pending.cancel(RequestId(1)), "answered");
    }
}
