//! The executor: a slab of tasks on one thread, and a queue of those that can go on.
//!
//! Each slot keeps one waker for life, shared by the tasks that live in it one after the other, so that waking allocates
//! nothing. A stale waker therefore may wake a stranger; a future must bear that anyway. The queue holds
//! each slot at most once and is first in, first out: the same wakes in the same order run the same tasks in the same order.
//!
//! A task carries its [`Duty`]: what the host is owed when it ends. The duty leaves the slab together with the task, so
//! each request is answered exactly once by construction.
//!
//! Futures are polled and dropped with no borrow held, since either may spawn, wake or cancel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::abi::{Action, GroupId, RequestId};
use crate::error::Error;

/// What the host is owed when a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing: a task that the driver spawned.
    Nothing,
    /// Nothing, but a failure ends the incarnation.
    Start,
    /// `stopped`.
    Stop,
    /// `poll-done`.
    Poll { group: GroupId, cycle: u64 },
    /// `read-done`.
    Read(RequestId),
    /// `write-done`.
    Write(RequestId),
    /// `command-done`.
    Command(RequestId),
    /// `health-done`.
    Health(RequestId),
}

impl Duty {
    /// Whether somebody waits for the answer.
    pub(crate) fn is_request(self) -> bool {
        !matches!(self, Self::Nothing | Self::Start | Self::Stop)
    }

    fn request(self) -> Option<RequestId> {
        match self {
            Self::Read(id) | Self::Write(id) | Self::Command(id) | Self::Health(id) => Some(id),
            Self::Nothing | Self::Start | Self::Stop | Self::Poll { .. } => None,
        }
    }
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// Well, and nobody waits.
    Quiet,
    /// Well, with this answer.
    Answer(Action),
    /// With an error, which the task's duty says how to answer.
    Failed(Error),
}

pub(crate) type BoxedTask = Pin<Box<dyn Future<Output = Done>>>;

/// A task that is out of the slab: running, or about to be dropped.
struct Task {
    future: BoxedTask,
    duty: Duty,
}

struct Slot {
    /// Out of the slab together with the task.
    waker: Waker,
    flag: Arc<SlotWaker>,
    state: State,
    /// Whether the task has sent bytes: the device may have acted, so that a cancel comes too late.
    committed: bool,
    /// Whether a cancel came too late.
    cancelled: bool,
}

enum State {
    Free,
    Parked(Task),
    /// Being polled right now, further up the stack.
    Running(Duty),
}

struct SlotWaker {
    slot: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

/// The slots whose tasks can go on.
#[derive(Default)]
struct Ready {
    /// How many there are, to be asked without the lock: as a rule none.
    count: AtomicUsize,
    queue: Mutex<VecDeque<usize>>,
}

impl Ready {
    fn push(&self, slot: usize) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(slot);
        self.count.store(queue.len(), Ordering::Release);
    }

    fn pop(&self) -> Option<usize> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = queue.pop_front();
        self.count.store(queue.len(), Ordering::Release);
        slot
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.push(self.slot);
        }
    }
}

/// A task that was taken away before its end, still to be answered.
pub(crate) struct Cancelled {
    pub(crate) duty: Duty,
    pub(crate) committed: bool,
}

#[derive(Default)]
pub(crate) struct Executor {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    current: Cell<Option<usize>>,
}

impl Executor {
    /// Takes a task in; it runs at the next [`run`](Self::run).
    pub(crate) fn spawn(&self, duty: Duty, future: BoxedTask) {
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(slots.len());
        let state = State::Parked(Task { future, duty });
        if let Some(slot) = slots.get_mut(index) {
            slot.state = state;
            slot.committed = false;
            slot.cancelled = false;
        } else {
            let flag = Arc::new(SlotWaker {
                slot: index,
                queued: AtomicBool::new(false),
                ready: self.ready.clone(),
            });
            slots.push(Slot {
                waker: Waker::from(flag.clone()),
                flag,
                state,
                committed: false,
                cancelled: false,
            });
        }
        slots[index].flag.wake_by_ref();
    }

    /// Runs until no task can go on, and hands on what each finished one owes.
    pub(crate) fn run(&self, mut finished: impl FnMut(Duty, Done)) {
        while let Some(index) = self.ready.pop() {
            let Some((mut task, waker)) = self.check_out(index) else {
                continue;
            };
            self.current.set(Some(index));
            let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
            self.current.set(None);
            match polled {
                Poll::Pending => self.check_in(index, State::Parked(task), waker),
                Poll::Ready(done) => {
                    self.check_in(index, State::Free, waker);
                    self.free.borrow_mut().push(index);
                    let duty = task.duty;
                    drop(task);
                    finished(duty, done);
                }
            }
        }
    }

    /// Notes that the running task has sent bytes: from here on it is not cancelled, but answers with its result.
    pub(crate) fn commit_current(&self) {
        if let Some(index) = self.current.get() {
            self.slots.borrow_mut()[index].committed = true;
        }
    }

    /// What the running task owes.
    pub(crate) fn current_duty(&self) -> Option<Duty> {
        match self.slots.borrow()[self.current.get()?].state {
            State::Running(duty) => Some(duty),
            State::Free | State::Parked(_) => None,
        }
    }

    /// Whether a cancel came for the running task after it was committed.
    pub(crate) fn is_current_cancelled(&self) -> bool {
        self.current
            .get()
            .is_some_and(|index| self.slots.borrow()[index].cancelled)
    }

    /// Drops the task of a request. Nothing happens where it has ended; one that is committed is told.
    pub(crate) fn cancel(&self, request: RequestId) -> Option<Cancelled> {
        let index = {
            let mut slots = self.slots.borrow_mut();
            let index = slots.iter().position(|slot| {
                matches!(&slot.state, State::Parked(task) if task.duty.request() == Some(request))
            })?;
            let slot = &mut slots[index];
            if slot.committed {
                slot.cancelled = true;
                return None;
            }
            index
        };
        self.take(index)
    }

    /// Drops every task, in the order of their slots.
    pub(crate) fn cancel_all(&self) -> Vec<Cancelled> {
        let count = self.slots.borrow().len();
        (0..count).filter_map(|index| self.take(index)).collect()
    }

    /// How many tasks somebody waits for.
    pub(crate) fn requests(&self) -> usize {
        let slots = self.slots.borrow();
        slots
            .iter()
            .filter(|slot| match &slot.state {
                State::Free => false,
                State::Parked(task) => task.duty.is_request(),
                State::Running(duty) => duty.is_request(),
            })
            .count()
    }

    fn check_out(&self, index: usize) -> Option<(Task, Waker)> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index];
        slot.flag.queued.store(false, Ordering::Relaxed);
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Parked(task) => {
                slot.state = State::Running(task.duty);
                let waker = std::mem::replace(&mut slot.waker, Waker::noop().clone());
                Some((task, waker))
            }
            other => {
                slot.state = other;
                None
            }
        }
    }

    fn check_in(&self, index: usize, state: State, waker: Waker) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index];
        slot.state = state;
        slot.waker = waker;
    }

    fn take(&self, index: usize) -> Option<Cancelled> {
        let (task, committed) = {
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[index];
            match std::mem::replace(&mut slot.state, State::Free) {
                State::Parked(task) => (task, slot.committed),
                other => {
                    slot.state = other;
                    return None;
                }
            }
        };
        self.free.borrow_mut().push(index);
        Some(Cancelled {
            duty: task.duty,
            committed,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;

    /// An executor, what its tasks said, and the wakers that they left behind.
    #[derive(Default, Clone)]
    struct Bench {
        executor: Rc<Executor>,
        said: Rc<RefCell<Vec<&'static str>>>,
        wakers: Rc<RefCell<Vec<Waker>>>,
    }

    impl Bench {
        /// A task that says a word each time that it is polled, and ends with the last.
        fn spawn(&self, duty: Duty, words: &'static [&'static str]) {
            let bench = self.clone();
            let mut words = words.iter();
            self.executor.spawn(
                duty,
                Box::pin(poll_fn(move |cx| {
                    bench.said.borrow_mut().extend(words.next());
                    bench.wakers.borrow_mut().push(cx.waker().clone());
                    match words.len() {
                        0 => Poll::Ready(Done::Quiet),
                        _ => Poll::Pending,
                    }
                })),
            );
        }

        fn run(&self) -> Vec<Duty> {
            let mut ended = Vec::new();
            self.executor.run(|duty, _| ended.push(duty));
            ended
        }

        fn take_said(&self) -> Vec<&'static str> {
            self.said.take()
        }
    }

    #[test]
    fn tasks_run_in_the_order_of_their_wakes_and_once_for_many() {
        let bench = Bench::default();
        bench.spawn(Duty::Read(1), &["a1", "a2", "a3"]);
        bench.spawn(Duty::Read(2), &["b1", "b2"]);
        assert_eq!(bench.run(), []);
        assert_eq!(bench.take_said(), ["a1", "b1"]);
        let wakers = bench.wakers.take();
        for waker in [&wakers[1], &wakers[0], &wakers[1], &wakers[0]] {
            waker.wake_by_ref();
        }
        assert_eq!(bench.run(), [Duty::Read(2)]);
        assert_eq!(bench.take_said(), ["b2", "a2"]);
        // Nobody was woken: nobody runs.
        assert_eq!(bench.run(), []);
        assert_eq!(bench.take_said(), [""; 0]);
    }

    #[test]
    fn a_task_may_spawn_and_wake_itself() {
        let bench = Bench::default();
        let inner = bench.clone();
        let mut first = true;
        bench.executor.spawn(
            Duty::Nothing,
            Box::pin(poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    inner.said.borrow_mut().push("outer");
                    inner.spawn(Duty::Nothing, &["inner"]);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                inner.said.borrow_mut().push("outer again");
                Poll::Ready(Done::Quiet)
            })),
        );
        assert_eq!(bench.run().len(), 2);
        assert_eq!(bench.take_said(), ["outer", "inner", "outer again"]);
    }

    #[test]
    fn a_waker_that_outlives_its_task_wakes_at_most_a_stranger() {
        let bench = Bench::default();
        bench.spawn(Duty::Nothing, &["gone"]);
        bench.run();
        let stale = bench.wakers.take();
        stale[0].wake_by_ref();
        assert_eq!(bench.run(), []);
        bench.spawn(Duty::Nothing, &["x", "y"]);
        bench.run();
        stale[0].wake_by_ref();
        bench.run();
        assert_eq!(bench.take_said(), ["gone", "x", "y"]);
        assert_eq!(
            bench.executor.slots.borrow().len(),
            1,
            "slots are used again"
        );
    }

    #[test]
    fn a_cancelled_task_never_runs_again_though_it_was_woken() {
        let bench = Bench::default();
        bench.spawn(Duty::Write(1), &["w1", "w2"]);
        bench.spawn(Duty::Write(2), &["v1", "v2"]);
        bench.run();
        for waker in bench.wakers.take() {
            waker.wake();
        }
        let cancelled = bench.executor.cancel(1).map(|task| task.duty);
        assert_eq!(cancelled, Some(Duty::Write(1)));
        assert!(bench.executor.cancel(1).is_none());
        assert!(bench.executor.cancel(3).is_none());
        assert_eq!(bench.run(), [Duty::Write(2)]);
        assert_eq!(bench.take_said(), ["w1", "v1", "v2"]);
    }

    #[test]
    fn a_committed_task_is_not_cancelled_but_may_be_swept_away() {
        let bench = Bench::default();
        let executor = bench.executor.clone();
        bench.executor.spawn(
            Duty::Write(1),
            Box::pin(poll_fn(move |_| {
                assert_eq!(executor.current_duty(), Some(Duty::Write(1)));
                executor.commit_current();
                Poll::Pending
            })),
        );
        bench.run();
        assert!(bench.executor.cancel(1).is_none());
        assert_eq!(bench.executor.requests(), 1);
        let swept = bench.executor.cancel_all();
        assert_eq!(swept.len(), 1);
        assert!(swept[0].committed);
        assert_eq!(bench.executor.requests(), 0);
    }
}
