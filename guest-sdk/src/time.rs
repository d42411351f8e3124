//! The two clocks, and the timers on one of them.
//!
//! Both clocks come from the host with each turn and stand still within it. All sleeps of a driver share
//! *one* timer of the host, set to the earliest of them and left to run out where a sleep is dropped before its time:
//! a request that is answered in time then costs no action at all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use crate::abi::{Action, SetTimer, TimerId};
use crate::shared::Shared;

/// A moment on the host's monotonic clock: it orders and measures, but has no date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// From nanoseconds since the clock's arbitrary start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's arbitrary start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero where `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates after some 584 years.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A date on the host's wall clock. It may jump; never measure with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// From nanoseconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z, as `Sample::source_time_ns` takes them.
    pub const fn unix_nanos(self) -> u64 {
        self.0
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The one timer that the SDK sets with the host.
const HOST_TIMER: TimerId = 0;

/// Every sleep that is under way, in the order in which they end; the second part of the key tells equals apart.
#[derive(Default)]
pub(crate) struct Timers {
    sleeping: RefCell<BTreeMap<(u64, u64), Waker>>,
    next: Cell<u64>,
    armed: Cell<Option<u64>>,
}

impl Timers {
    /// Wakes every sleep that ends at `now` or before.
    pub(crate) fn fire(&self, now: u64) {
        while let Some(waker) = self.pop_due(now) {
            waker.wake();
        }
    }

    fn pop_due(&self, now: u64) -> Option<Waker> {
        let mut sleeping = self.sleeping.borrow_mut();
        let first = sleeping.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// The host's timer ran out.
    pub(crate) fn disarm(&self) {
        self.armed.set(None);
    }

    /// What the host's timer has to be set to at the end of a turn, if it has to be touched.
    pub(crate) fn arm(&self, now: u64) -> Option<Action> {
        let earliest = self.sleeping.borrow().first_key_value()?.0.0;
        if self.armed.get().is_some_and(|armed| armed <= earliest) {
            return None;
        }
        self.armed.set(Some(earliest));
        Some(Action::SetTimer(SetTimer {
            timer: HOST_TIMER,
            after_ns: earliest.saturating_sub(now),
        }))
    }
}

/// A future that is ready at a moment. Made by [`Context::sleep`](crate::Context::sleep).
#[must_use = "a sleep passes only while it is awaited"]
pub struct Sleep {
    shared: Rc<Shared>,
    deadline: Instant,
    key: Option<(u64, u64)>,
}

impl Sleep {
    pub(crate) fn until(shared: Rc<Shared>, deadline: Instant) -> Self {
        Self {
            shared,
            deadline,
            key: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.shared.now() >= self.deadline {
            return Poll::Ready(());
        }
        let key = match self.key {
            Some(key) => key,
            None => {
                let timers = &self.shared.timers;
                let key = (self.deadline.0, timers.next.get());
                timers.next.set(key.1 + 1);
                self.key = Some(key);
                key
            }
        };
        let mut sleeping = self.shared.timers.sleeping.borrow_mut();
        match sleeping.get_mut(&key) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                sleeping.insert(key, cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.timers.sleeping.borrow_mut().remove(&key);
        }
    }
}
