//! A lock in which a waiting write overtakes waiting polls.
//!
//! Most field protocols allow one request at a time. Handlers run concurrently, so they take turns on a
//! [`RequestLock`] between their requests: a poll of forty requests asks for it forty times, and an operator's
//! setpoint waits for one request, not for forty.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A write, or whatever somebody waits for: before all polls.
    Write,
    /// A poll: when no write waits.
    Poll,
}

/// An asynchronous lock with two priorities; first come, first served within each.
///
/// Nothing is handed over ahead of time: whoever is dropped while it waits has never held the lock, and
/// the next one gets it. Writes that never cease keep polls waiting for ever.
///
/// ```
/// # use bulkhead_sdk::{Priority, RequestLock};
/// # async fn exchange(line: &RequestLock<u16>) {
/// let mut transaction = line.lock(Priority::Write).await;
/// *transaction += 1;
/// # }
/// ```
#[derive(Debug, Default)]
pub struct RequestLock<T> {
    value: RefCell<T>,
    held: Cell<bool>,
    queues: RefCell<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    next_ticket: u64,
    writes: VecDeque<Waiter>,
    polls: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    waker: Waker,
}

impl Queues {
    fn of(&mut self, priority: Priority) -> &mut VecDeque<Waiter> {
        match priority {
            Priority::Write => &mut self.writes,
            Priority::Poll => &mut self.polls,
        }
    }

    /// Who is next.
    fn front(&self) -> Option<&Waiter> {
        self.writes.front().or(self.polls.front())
    }

    /// Whether a newcomer has somebody before it.
    fn keeps_waiting(&self, priority: Priority) -> bool {
        !self.writes.is_empty() || (priority == Priority::Poll && !self.polls.is_empty())
    }
}

impl<T> RequestLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            value: RefCell::new(value),
            held: Cell::new(false),
            queues: RefCell::new(Queues {
                next_ticket: 0,
                writes: VecDeque::new(),
                polls: VecDeque::new(),
            }),
        }
    }

    /// Waits for the lock. It is held until the guard is dropped.
    pub fn lock(&self, priority: Priority) -> Acquire<'_, T> {
        Acquire {
            lock: self,
            priority,
            ticket: None,
        }
    }

    /// The lock, if it is free and nobody who goes first waits for it.
    pub fn try_lock(&self, priority: Priority) -> Option<RequestGuard<'_, T>> {
        if self.held.get() || self.queues.borrow().keeps_waiting(priority) {
            return None;
        }
        Some(self.hold())
    }

    fn hold(&self) -> RequestGuard<'_, T> {
        self.held.set(true);
        RequestGuard {
            value: Some(self.value.borrow_mut()),
            lock: self,
        }
    }

    fn wake_next(&self) {
        if self.held.get() {
            return;
        }
        let next = self.queues.borrow().front().map(|next| next.waker.clone());
        if let Some(next) = next {
            next.wake();
        }
    }
}

/// Waits for a [`RequestLock`].
#[must_use = "the lock is not asked for before this is awaited"]
pub struct Acquire<'a, T> {
    lock: &'a RequestLock<T>,
    priority: Priority,
    ticket: Option<u64>,
}

impl<'a, T> Future for Acquire<'a, T> {
    type Output = RequestGuard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lock = self.lock;
        let Some(ticket) = self.ticket else {
            if let Some(guard) = lock.try_lock(self.priority) {
                return Poll::Ready(guard);
            }
            let mut queues = lock.queues.borrow_mut();
            let ticket = queues.next_ticket;
            queues.next_ticket += 1;
            queues.of(self.priority).push_back(Waiter {
                ticket,
                waker: cx.waker().clone(),
            });
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        let mut queues = lock.queues.borrow_mut();
        if !lock.held.get() && queues.front().is_some_and(|first| first.ticket == ticket) {
            queues.of(self.priority).pop_front();
            self.ticket = None;
            return Poll::Ready(lock.hold());
        }
        if let Some(waiter) = queues
            .of(self.priority)
            .iter_mut()
            .find(|waiter| waiter.ticket == ticket)
        {
            waiter.waker.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

impl<T> Drop for Acquire<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.lock
                .queues
                .borrow_mut()
                .of(self.priority)
                .retain(|waiter| waiter.ticket != ticket);
            // It may have been this one that the last release woke.
            self.lock.wake_next();
        }
    }
}

/// A held [`RequestLock`]; dropping it lets the next one in.
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct RequestGuard<'a, T> {
    value: Option<RefMut<'a, T>>,
    lock: &'a RequestLock<T>,
}

impl<T> Deref for RequestGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("present until dropped")
    }
}

impl<T> DerefMut for RequestGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("present until dropped")
    }
}

impl<T> Drop for RequestGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.lock.held.set(false);
        self.lock.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// Whether somebody was woken since it was last asked.
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Waiting<'a> {
        name: usize,
        priority: Priority,
        acquire: Pin<Box<Acquire<'a, ()>>>,
        woken: Arc<Flag>,
    }

    impl<'a> Waiting<'a> {
        fn poll(&mut self) -> Option<RequestGuard<'a, ()>> {
            let waker = Waker::from(self.woken.clone());
            match self.acquire.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(guard) => Some(guard),
                Poll::Pending => None,
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(Priority),
        /// Drop one of those that wait.
        GiveUp(usize),
        Release,
        /// Poll one that was woken, as an executor would, or one that was not.
        Poll(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Ask(Priority::Poll)),
            2 => Just(Step::Ask(Priority::Write)),
            2 => (0..8_usize).prop_map(Step::GiveUp),
            4 => Just(Step::Release),
            6 => (0..8_usize).prop_map(Step::Poll),
        ];
        proptest::collection::vec(step, 1..60)
    }

    /// Who of those that wait should get the lock next: the oldest write, else the oldest poll.
    fn next(waiting: &[Waiting<'_>]) -> Option<usize> {
        let of = |priority| waiting.iter().find(move |one| one.priority == priority);
        Some(of(Priority::Write).or(of(Priority::Poll))?.name)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2000,
            rng_seed: RngSeed::Fixed(20_261_120),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn writes_first_in_order_and_nobody_is_forgotten(steps in steps()) {
            let lock = RequestLock::new(());
            let mut waiting: Vec<Waiting<'_>> = Vec::new();
            let mut held: Option<RequestGuard<'_, ()>> = None;
            for (name, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Ask(priority) => {
                        let mut newcomer = Waiting {
                            name,
                            priority,
                            acquire: Box::pin(lock.lock(priority)),
                            woken: Arc::new(Flag(AtomicBool::new(false))),
                        };
                        // A newcomer gets a free lock unless somebody goes first who was already woken for it.
                        let first = match next(&waiting) {
                            None => true,
                            Some(_) => priority == Priority::Write
                                && waiting.iter().all(|one| one.priority == Priority::Poll),
                        };
                        let got = newcomer.poll();
                        prop_assert_eq!(got.is_some(), held.is_none() && first);
                        match got {
                            Some(guard) => held = Some(guard),
                            None => waiting.push(newcomer),
                        }
                    }
                    Step::GiveUp(index) if !waiting.is_empty() => {
                        drop(waiting.remove(index % waiting.len()));
                    }
                    Step::Release => held = None,
                    Step::Poll(index) if !waiting.is_empty() => {
                        let index = index % waiting.len();
                        let due = held.is_none() && next(&waiting) == Some(waiting[index].name);
                        waiting[index].woken.0.store(false, Ordering::Relaxed);
                        let got = waiting[index].poll();
                        prop_assert_eq!(got.is_some(), due);
                        if let Some(guard) = got {
                            held = Some(guard);
                            waiting.remove(index);
                        }
                    }
                    Step::GiveUp(_) | Step::Poll(_) => {}
                }
                if held.is_none() && let Some(name) = next(&waiting) {
                    let first = waiting.iter().find(|one| one.name == name);
                    let woken = first.is_some_and(|one| one.woken.0.load(Ordering::Relaxed));
                    prop_assert!(woken, "the lock is free, and {} sleeps", name);
                }
            }
        }
    }

    #[test]
    fn the_guard_gives_the_value() {
        let lock = RequestLock::new(1);
        *lock.try_lock(Priority::Poll).expect("free") += 1;
        let guard = lock.try_lock(Priority::Poll).expect("free again");
        assert_eq!(*guard, 2);
        assert!(lock.try_lock(Priority::Write).is_none());
    }
}
