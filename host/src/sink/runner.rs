//! The loop of one sink: take what comes next, deliver it, try again where that fails.
//!
//! Each sink has a thread of its own, since writing may block: a pipe that nobody reads or a disk that hangs holds this
//! sink, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, Undelivered};
use super::source::{Source, Taken};
use super::status::Shared;
use crate::clock::Clock;
use crate::event::{Gap, GapReason, Item};

/// How long a sink that cannot deliver waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a sink that cannot deliver says so.
const REMIND: Duration = Duration::from_secs(60);
/// How long a sink with an outbox goes on delivering when the host stops: what is left is delivered by the next start.
const LAST: Duration = Duration::from_secs(2);

pub(super) struct Runner<D> {
    pub(super) source: Source,
    pub(super) destination: D,
    /// The most samples of a delivery; a batch is never cut.
    pub(super) batch: u64,
    /// How long a smaller one waits for more.
    pub(super) linger: Duration,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    /// Cancelled when nobody will ever read standard output again.
    pub(super) closed: CancellationToken,
    /// Until when it goes on after the host has stopped.
    pub(super) last: Option<Instant>,
    /// When the sink last said that it cannot deliver.
    pub(super) reminded: Option<Instant>,
    pub(super) shared: Arc<Shared>,
}

/// Says so where a destination panicked: nobody else would know.
struct Witness(Arc<Shared>);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "the sink's thread has ended in a fault of Bulkhead's own: start the host again, and report it with the log";
            self.0.set_trouble(Some(what.to_owned()));
        }
    }
}

fn samples(taken: &Taken) -> u64 {
    taken.items.iter().map(Item::samples).sum()
}

/// Whether a runner goes on.
#[derive(PartialEq)]
enum Flow {
    On,
    End,
}

impl<D: Destination> Runner<D> {
    pub(super) async fn run(mut self) {
        // Also where a destination panics: it must not look as if it still wrote.
        let _done = self.shared.done.clone().drop_guard();
        let _witness = Witness(self.shared.clone());
        while let Some(taken) = self.source.next(self.batch, self.linger).await {
            if self.deliver(taken).await == Flow::End {
                return;
            }
        }
        let closing = tokio::time::timeout(LAST, self.destination.close()).await;
        if let Ok(Err(Undelivered::Later(reason))) = closing {
            tracing::error!(
                sink = self.shared.name,
                reason,
                "the sink could not be closed in order"
            );
        }
    }

    /// Delivers all of it, however long it takes; when the host stops, only once more.
    async fn deliver(&mut self, mut taken: Taken) -> Flow {
        self.shared.holds(&taken.items);
        let mut refused = 0;
        loop {
            let last = self.stop.is_cancelled();
            let begun = Instant::now();
            let Some(delivered) = self.attempt(&taken.items).await else {
                return Flow::End;
            };
            match delivered {
                Ok(()) => {
                    self.shared.delivered(samples(&taken), begun.elapsed());
                    self.source.arrived(taken, refused);
                    if self.reminded.take().is_some() {
                        tracing::info!(sink = self.shared.name, "the sink delivers again");
                    }
                    return Flow::On;
                }
                Err(Undelivered::Closed) => {
                    self.closed.cancel();
                    return Flow::End;
                }
                Err(Undelivered::Never { item, reason }) => {
                    refused += self.leave_out(&mut taken, item, &reason);
                    continue;
                }
                Err(Undelivered::Later(reason)) if last => {
                    if !self.source.is_durable() {
                        let samples = samples(&taken) + self.left_behind().await;
                        tracing::error!(
                            sink = self.shared.name,
                            reason,
                            samples,
                            "samples are lost"
                        );
                        self.shared.lost.store(samples, Ordering::Relaxed);
                    }
                    return Flow::End;
                }
                Err(Undelivered::Later(reason)) => self.report(reason),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Of what nobody will deliver any more, the samples that still wait in a queue.
    async fn left_behind(&mut self) -> u64 {
        let mut left = 0;
        while let Some(taken) = self.source.next(self.batch, Duration::ZERO).await {
            left += samples(&taken);
        }
        left
    }

    /// `None` if the host has stopped and what is being delivered is safe in an outbox.
    async fn attempt(&mut self, items: &[Item]) -> Option<Result<(), Undelivered>> {
        let durable = self.source.is_durable();
        let stop = self.stop.clone();
        let last = &mut self.last;
        let time_is_over = async {
            stop.cancelled().await;
            let last = *last.get_or_insert_with(|| Instant::now() + LAST);
            tokio::time::sleep_until(last).await;
        };
        tokio::select! {
            biased;
            () = time_is_over, if durable => None,
            delivered = self.destination.deliver(items) => Some(delivered),
        }
    }

    /// A batch that the peer will never take is given in halves, until it is one sample that is refused: in its place stands a gap. A gap
    /// that nobody takes goes. Gives the samples that are left out.
    fn leave_out(&mut self, taken: &mut Taken, item: usize, reason: &str) -> u64 {
        let Some(refused) = taken.items.get(item) else {
            tracing::error!(
                sink = self.shared.name,
                item,
                "a destination refused what it was not given"
            );
            return 0;
        };
        let samples = refused.samples();
        let instead = match refused {
            Item::Batch(batch) => match batch.halves() {
                Some((first, second)) => {
                    taken
                        .items
                        .splice(item..=item, [Item::Batch(first), Item::Batch(second)]);
                    return 0;
                }
                None => Some(Item::Gap(Gap {
                    messages: 1,
                    samples,
                    reason: GapReason::Refused,
                    at: self.clock.wall(),
                })),
            },
            Item::Gap(_) => None,
        };
        tracing::error!(
            sink = self.shared.name,
            reason,
            samples,
            "the sink's peer will never take this; it is left out"
        );
        self.shared.refused.fetch_add(samples, Ordering::Relaxed);
        taken.items.splice(item..=item, instead);
        samples
    }

    fn report(&mut self, reason: String) {
        if self.reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            tracing::error!(
                sink = self.shared.name,
                reason,
                "the sink cannot deliver; it tries again each second"
            );
            self.reminded = Some(Instant::now());
        }
        self.shared.set_trouble(Some(reason));
    }
}
