//! Where a sink takes its samples from: its queue on the bus, or its outbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{Message, Received, Subscription};
use crate::clock::Clock;
use crate::event::{Batch, Gap, GapReason, Item, Layout, TagFilter};
use crate::ids::ChannelId;
use crate::outbox::{Parcel, Parcels};

/// The most that is taken out of the queue at once, in bytes of memory. One batch may go beyond it.
const HELD_BYTES: usize = 4 * 1024 * 1024;

/// What is delivered together.
pub(super) struct Taken {
    pub(super) items: Vec<Item>,
    /// Where it comes out of an outbox.
    parcel: Option<Parcel>,
}

/// Where a sink takes its samples from.
pub(super) enum Source {
    Memory(Memory),
    Outbox(Parcels),
}

/// A queue on the bus: what it holds is lost with the process.
pub(super) struct Memory {
    pub(super) subscription: Subscription,
    pub(super) filter: Filter,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

impl Source {
    /// What comes next, in order; at most so many samples, but a batch is never cut. `None` at the end: the host has stopped, and
    /// everything was taken.
    pub(super) async fn next(&mut self, most_samples: u64, linger: Duration) -> Option<Taken> {
        match self {
            Source::Memory(memory) => memory.next(most_samples, linger).await,
            Source::Outbox(parcels) => {
                let mut parcel = parcels.next(most_samples, linger).await?;
                Some(Taken {
                    items: std::mem::take(&mut parcel.items),
                    parcel: Some(parcel),
                })
            }
        }
    }

    /// All of it has arrived, but for so many samples that the peer will never take.
    pub(super) fn arrived(&mut self, taken: Taken, refused: u64) {
        if let (Source::Outbox(parcels), Some(parcel)) = (self, taken.parcel) {
            parcels.acknowledge(parcel, refused);
        }
    }

    /// Whether what has not arrived when the process ends is there again afterwards.
    pub(super) fn is_durable(&self) -> bool {
        matches!(self, Source::Outbox(_))
    }
}

impl Memory {
    async fn next(&mut self, most_samples: u64, linger: Duration) -> Option<Taken> {
        let mut taken = Vec::new();
        let (mut samples, mut bytes) = (0, 0);
        let mut until = None;
        loop {
            while samples < most_samples && bytes < HELD_BYTES {
                // Without `unconstrained` tokio may say that there is nothing, only to let others run.
                let next = tokio::task::unconstrained(self.subscription.next()).now_or_never();
                let Some(received) = next.flatten() else {
                    break;
                };
                if let Some(item) = self.item(received) {
                    samples += item.samples();
                    bytes += item.bytes();
                    taken.push(item);
                }
            }
            let is_enough = samples >= most_samples || bytes >= HELD_BYTES;
            let stops = self.stop.is_cancelled();
            if stops && taken.is_empty() {
                return None;
            }
            let now = Instant::now();
            let waits_until = match taken.is_empty() {
                true => None,
                false => Some(*until.get_or_insert(now + linger)),
            };
            if is_enough || stops || waits_until.is_some_and(|until| now >= until) {
                return Some(Taken {
                    items: taken,
                    parcel: None,
                });
            }
            let wait = async {
                match waits_until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let received = tokio::select! {
                received = self.subscription.next() => match received {
                    Some(received) => received,
                    None if taken.is_empty() => return None,
                    None => return Some(Taken { items: taken, parcel: None }),
                },
                () = wait => continue,
                () = self.stop.cancelled() => continue,
            };
            if let Some(item) = self.item(received) {
                samples += item.samples();
                bytes += item.bytes();
                taken.push(item);
            }
        }
    }

    fn item(&mut self, received: Received) -> Option<Item> {
        match received {
            Received::Message(Message::Samples(batch)) => {
                self.filter.admit(&batch).map(Item::Batch)
            }
            // Sinks take samples; what happens to channels is in the log and in the API.
            Received::Message(Message::Event(_)) => None,
            Received::Gap(missed) => Some(Item::Gap(Gap {
                messages: missed.messages,
                samples: missed.samples,
                reason: GapReason::Slow,
                at: self.clock.wall(),
            })),
        }
    }
}

/// A sink's filter, with what it knows of each channel.
pub(super) struct Filter {
    filter: TagFilter,
    known: HashMap<ChannelId, (Arc<Layout>, Vec<bool>)>,
}

impl Filter {
    pub(super) fn new(filter: TagFilter) -> Self {
        Self {
            filter,
            known: HashMap::new(),
        }
    }

    /// What is meant of a batch; `None` if it is nothing.
    pub(super) fn admit(&mut self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        if self.filter.is_empty() {
            return Some(batch.clone());
        }
        let layout = &batch.layout;
        if !self.filter.admits_channel(layout.channel.as_str()) {
            return None;
        }
        let anew = || (layout.clone(), self.filter.tags_of(layout));
        let known = self
            .known
            .entry(layout.channel.clone())
            .or_insert_with(anew);
        if !Arc::ptr_eq(&known.0, layout) {
            *known = anew();
        }
        batch.filtered(|sample| known.1.get(sample.tag.index()) == Some(&true))
    }
}
