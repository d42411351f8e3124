//! What a driver can do besides answering.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::abi::{
    Action, DeviceCondition, DeviceId, DeviceState, Level, Progress, Publish, Sample,
};
use crate::combine::{Either, select};
use crate::error::{Elapsed, NotDurable};
use crate::executor::{Done, Duty};
use crate::notice::{Alarm, Metric};
use crate::shared::Shared;
use crate::time::{Instant, Sleep, WallTime};

/// The host, as a driver sees it. Clones are handles to the same one; keep one in the driver.
#[derive(Clone)]
pub struct Context {
    shared: Rc<Shared>,
}

impl Context {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared }
    }

    /// Now, on the clock that measures. It stands still within a turn, so that no time passes but by waiting. Before the first turn,
    /// within `configure`, both clocks are at zero.
    pub fn now(&self) -> Instant {
        self.shared.now()
    }

    /// Now, on the clock that dates.
    pub fn wall(&self) -> WallTime {
        WallTime::from_unix_nanos(self.shared.clock.get().wall_ns)
    }

    /// Waits for `duration`; the host's clock resolves about a millisecond, and is never early.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Waits for a moment. Ready at once where it has passed.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::until(self.shared.clone(), deadline)
    }

    /// Waits for `future`, but no longer than `duration`, and drops it then.
    ///
    /// A request that was dropped half-way leaves its reply on the way: [`reset`](crate::Stream::reset) the stream, unless the
    /// protocol tells late replies apart.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] when the time was up first.
    pub async fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.deadline(self.now() + duration, future).await
    }

    /// As [`timeout`](Self::timeout), up to a moment.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] when the moment came first.
    pub async fn deadline<F: Future>(
        &self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        match select(future, self.sleep_until(deadline)).await {
            Either::First(value) => Ok(value),
            Either::Second(()) => Err(Elapsed),
        }
    }

    /// Runs a task beside the others, until it ends, the configuration changes or the incarnation does.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.shared.spawn(Box::pin(async move {
            future.await;
            Done::Quiet
        }));
    }

    /// Hands samples on, in order. An empty batch is none.
    pub fn publish(&self, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.shared
                .push(Action::Publish(Publish { id: None, samples }));
        }
    }

    /// Hands samples on, and waits until they are durable: for a protocol that acknowledges to the device.
    ///
    /// # Errors
    ///
    /// [`NotDurable`] where the host does not tell. They are handed on all the same.
    pub async fn publish_durable(&self, samples: Vec<Sample>) -> Result<(), NotDurable> {
        if samples.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let id = shared.next_batch.get();
        shared.next_batch.set(id + 1);
        let batch = Unstored { shared, id };
        shared.unstored.borrow_mut().insert(id, None);
        shared.push(Action::Publish(Publish {
            id: Some(id),
            samples,
        }));
        poll_fn(|cx| {
            match shared.unstored.borrow().get(&batch.id) {
                None => return Poll::Ready(Ok(())),
                Some(Some(why)) => return Poll::Ready(Err(NotDurable { why: why.clone() })),
                Some(None) => {}
            }
            shared.stored.register(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Says what is known of a device, with one sentence for an operator. While it is down its tags are bad.
    pub fn device_state(
        &self,
        device: DeviceId,
        condition: DeviceCondition,
        why: impl Into<String>,
    ) {
        self.shared.push(Action::DeviceState(DeviceState {
            device,
            condition,
            why: why.into(),
        }));
    }

    /// Reports a figure of the driver's own. At most 64 pairs of name and device in one incarnation.
    pub fn metric(&self, metric: Metric) {
        self.shared.push(Action::Metric(metric.into()));
    }

    /// Raises or clears a condition that operators should see. At most 64 pairs of code and device in one incarnation.
    pub fn alarm(&self, alarm: Alarm) {
        self.shared.push(Action::Alarm(alarm.into()));
    }

    /// Keeps `state` (at most 1 MiB) for the next incarnation. Durable before anything sent later leaves.
    pub fn save_state(&self, state: Vec<u8>) {
        self.shared.push(Action::SaveState(state));
    }

    /// Says how far the command has come that the calling task answers, from 0 to 1. Nothing happens in any other task.
    pub fn progress(&self, fraction: f32, message: impl Into<String>) {
        if let Some(Duty::Command(request)) = self.shared.executor.current_duty() {
            self.shared.push(Action::CommandProgress(Progress {
                request,
                fraction: if fraction.is_nan() {
                    0.0
                } else {
                    fraction.clamp(0.0, 1.0)
                },
                message: message.into(),
            }));
        }
    }

    /// Makes the calling task one that a cancel no longer drops: it runs to its end, and its result is the answer. For what a
    /// device or this driver must not be left in the middle of. A task that has sent bytes is one without asking.
    pub fn commit(&self) {
        self.shared.executor.commit_current();
    }

    /// Whether nobody waits any more for what the calling task answers: a good moment to end, where that leaves nothing half-done.
    pub fn is_cancelled(&self) -> bool {
        self.shared.executor.is_current_cancelled()
    }

    /// A random number, from the seed that the host gave and recorded. Not for secrets.
    pub fn random(&self) -> u64 {
        self.shared.random.next()
    }

    /// Writes one line to the host's log, at once: it is seen even if the turn fails. Lines over 100 a second are dropped.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        self.shared.log(level, message.as_ref());
    }

    /// Logs an error.
    pub fn error(&self, message: impl AsRef<str>) {
        self.log(Level::Error, message);
    }

    /// Logs a warning.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.log(Level::Warn, message);
    }

    /// Logs something that an operator may like to know.
    pub fn info(&self, message: impl AsRef<str>) {
        self.log(Level::Info, message);
    }

    /// Logs something for whoever looks for a fault.
    pub fn debug(&self, message: impl AsRef<str>) {
        self.log(Level::Debug, message);
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").finish_non_exhaustive()
    }
}

/// Forgets the batch when nobody waits for it any more.
struct Unstored<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Unstored<'_> {
    fn drop(&mut self) {
        self.shared.unstored.borrow_mut().remove(&self.id);
    }
}
