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
use std::sync::atomic::{AtomicBool, Ordering};
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
    waker: Waker,
    flag: Arc<SlotWaker>,
    state: State,
    /// Whether the task has sent bytes: the device may have acted, so that a cancel comes too late.
    committed: bool,
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
    ready: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push_back(self.slot);
        }
    }
}

fn lock(ready: &Mutex<VecDeque<usize>>) -> std::sync::MutexGuard<'_, VecDeque<usize>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
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
    ready: Arc<Mutex<VecDeque<usize>>>,
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
            });
        }
        slots[index].flag.wake_by_ref();
    }

    /// Runs until no task can go on, and hands on what each finished one owes.
    pub(crate) fn run(&self, mut finished: impl FnMut(Duty, Done)) {
        while let Some(index) = self.next_ready() {
            let Some((mut task, waker)) = self.check_out(index) else {
                continue;
            };
            self.current.set(Some(index));
            let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
            self.current.set(None);
            match polled {
                Poll::Pending => self.check_in(index, task),
                Poll::Ready(done) => {
                    self.release(index);
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

    /// Drops the task of a request. Nothing happens where it has ended, or is committed.
    pub(crate) fn cancel(&self, request: RequestId) -> Option<Cancelled> {
        let index = self.slots.borrow().iter().position(|slot| {
            matches!(&slot.state, State::Parked(task) if task.duty.request() == Some(request) && !slot.committed)
        })?;
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

    fn next_ready(&self) -> Option<usize> {
        lock(&self.ready).pop_front()
    }

    fn check_out(&self, index: usize) -> Option<(Task, Waker)> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index];
        slot.flag.queued.store(false, Ordering::Relaxed);
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Parked(task) => {
                slot.state = State::Running(task.duty);
                Some((task, slot.waker.clone()))
            }
            other => {
                slot.state = other;
                None
            }
        }
    }

    fn check_in(&self, index: usize, task: Task) {
        self.slots.borrow_mut()[index].state = State::Parked(task);
    }

    fn release(&self, index: usize) {
        self.slots.borrow_mut()[index].state = State::Free;
        self.free.borrow_mut().push(index);
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
