//! How sinks are, for whoever wants to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::health::{ConnectionStatus, Health};
use super::rate::Rate;
use crate::bus::{Missed, MissedCount};
use crate::clock::Clock;
use crate::event::Item;
use crate::outbox::{Outbox, OutboxStatus};

/// How one sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `stdout`, `file`, `mqtt`, ...
    pub kind: &'static str,
    /// Samples that its peer has acknowledged since the host started.
    pub written: u64,
    /// What found its queue full.
    pub missed: Missed,
    /// Samples that its peer will never take.
    pub refused: u64,
    /// Samples per second that its peer has acknowledged, over the last ten seconds.
    pub rate: u64,
    /// Samples that wait for it.
    pub lag_samples: u64,
    /// How old the oldest of them is, since the host received it.
    pub lag: Duration,
    /// Deliveries since the host started.
    pub deliveries: u64,
    /// What they took, all together.
    pub delivery_time: Duration,
    /// Why it cannot deliver at the moment.
    pub trouble: Option<String>,
    /// How the connection to its server is, if it has one.
    pub connection: Option<ConnectionStatus>,
    /// Its outbox, if it has one.
    pub outbox: Option<OutboxStatus>,
}

/// What sinks show of themselves. Cheap to clone.
#[derive(Clone)]
pub struct SinkWatch {
    pub(super) shared: Arc<[Arc<Shared>]>,
}

impl SinkWatch {
    /// How all sinks are, in the configuration's order.
    pub fn statuses(&self) -> Vec<SinkStatus> {
        self.shared.iter().map(|sink| sink.status()).collect()
    }

    /// The outbox of a sink, if there is such a sink and it has one.
    pub fn outbox(&self, sink: &str) -> Option<&Outbox> {
        let found = self.shared.iter().find(|shared| shared.name == sink);
        found?.outbox.as_ref()
    }
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) missed: MissedCount,
    pub(super) outbox: Option<Outbox>,
    health: Option<Arc<Health>>,
    pub(super) refused: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) done: CancellationToken,
    written: AtomicU64,
    deliveries: AtomicU64,
    delivery_ns: AtomicU64,
    rate: Mutex<Rate>,
    clock: Clock,
    /// What is being delivered: samples, and when the host received the first; zeros if nothing is.
    held_samples: AtomicU64,
    held_since: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(
        name: &str,
        kind: &'static str,
        missed: MissedCount,
        outbox: Option<Outbox>,
        health: Option<Arc<Health>>,
        clock: Clock,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            missed,
            outbox,
            health,
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            done: CancellationToken::new(),
            written: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            delivery_ns: AtomicU64::new(0),
            rate: Mutex::default(),
            clock,
            held_samples: AtomicU64::new(0),
            held_since: AtomicU64::new(0),
            trouble: Mutex::new(None),
        }
    }

    /// Whether nothing can be lost any more: it has delivered what it had, or it all stands in an outbox.
    pub(super) fn is_safe(&self) -> bool {
        self.done.is_cancelled() || self.outbox.as_ref().is_some_and(Outbox::has_ended)
    }

    /// These are being delivered.
    pub(super) fn holds(&self, items: &[Item]) {
        let samples = items.iter().map(Item::samples).sum();
        let first = items.iter().find_map(|item| match item {
            Item::Batch(batch) => Some(batch.server_time.0),
            Item::Gap(_) => None,
        });
        self.held_samples.store(samples, Ordering::Relaxed);
        self.held_since.store(first.unwrap_or(0), Ordering::Relaxed);
    }

    /// They have arrived.
    pub(super) fn delivered(&self, samples: u64, took: Duration) {
        self.written.fetch_add(samples, Ordering::Relaxed);
        self.rate().count(samples, self.clock.monotonic());
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.delivery_ns.fetch_add(nanos, Ordering::Relaxed);
        self.held_samples.store(0, Ordering::Relaxed);
        self.held_since.store(0, Ordering::Relaxed);
        self.set_trouble(None);
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> SinkStatus {
        let outbox = self.outbox.as_ref().map(Outbox::status);
        let held = self.held_samples.load(Ordering::Relaxed);
        let held_for = match self.held_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_nanos(self.clock.wall().0.saturating_sub(since)),
        };
        let trouble = self
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let of_outbox = outbox.as_ref().and_then(|outbox| outbox.trouble.clone());
        let refused = self.refused.load(Ordering::Relaxed);
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind,
            written: self.written.load(Ordering::Relaxed),
            missed: self.missed.get(),
            refused,
            rate: self.rate().per_second(self.clock.monotonic()),
            lag_samples: outbox.as_ref().map_or(held, |outbox| outbox.counts.samples),
            lag: outbox
                .as_ref()
                .map_or(held_for, |outbox| outbox.oldest.max(held_for)),
            deliveries: self.deliveries.load(Ordering::Relaxed),
            delivery_time: Duration::from_nanos(self.delivery_ns.load(Ordering::Relaxed)),
            trouble: trouble.or(of_outbox),
            connection: self.health.as_ref().map(|health| health.status()),
            outbox,
        }
    }
}
