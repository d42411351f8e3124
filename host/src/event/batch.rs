//! Batches of samples.

use std::sync::Arc;

use super::{Layout, Sample, Value, WallNs};
use crate::ids::InstanceId;

/// What one channel publishes at one moment. Shared by every consumer, never copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Which life of which channel published it.
    pub instance: Arc<InstanceId>,
    /// The names that the samples' ids stand for: after a reload the next batch may have others.
    pub layout: Arc<Layout>,
    /// A counter that each channel keeps over restarts of the host, and that each start of the host raises.
    pub epoch: u64,
    /// The number of the first sample: samples of a channel are counted from 1 within an epoch, in the order in which they
    /// were published. Channel, epoch and number together are unique for ever, and what duplicates are known by.
    pub sequence: u64,
    /// Where samples were left out of a batch by a filter: how far each is behind the first, strictly ascending. `None` if they follow
    /// each other.
    pub offsets: Option<Box<[u32]>>,
    /// When the host received it.
    pub server_time: WallNs,
    /// In the driver's order.
    pub samples: Vec<Sample>,
}

impl Batch {
    /// The samples with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &Sample)> {
        let offset = |at: usize| match &self.offsets {
            None => at as u64,
            Some(offsets) => offsets
                .get(at)
                .map_or(at as u64, |offset| u64::from(*offset)),
        };
        let all = self.samples.iter().enumerate();
        all.map(move |(at, sample)| (self.sequence + offset(at), sample))
    }

    /// The number of its last sample; that before its first if it is empty.
    pub fn last_sequence(&self) -> u64 {
        match (&self.offsets, self.samples.len() as u64) {
            (Some(offsets), _) => self.sequence + offsets.last().copied().map_or(0, u64::from),
            (None, samples) => (self.sequence + samples).saturating_sub(1),
        }
    }

    /// The batch without the samples that are not `admitted`; `None` if nothing is left. A batch that stays whole is shared.
    pub fn filtered(
        self: &Arc<Self>,
        mut admitted: impl FnMut(&Sample) -> bool,
    ) -> Option<Arc<Self>> {
        let kept: Vec<(u64, &Sample)> = self
            .numbered()
            .filter(|(_, sample)| admitted(sample))
            .collect();
        if kept.len() == self.samples.len() {
            return (!kept.is_empty()).then(|| self.clone());
        }
        self.of(&kept)
    }

    /// The batch in two halves; `None` if there is nothing to part.
    pub fn halves(&self) -> Option<(Arc<Self>, Arc<Self>)> {
        let middle = self.samples.len() / 2;
        if middle == 0 {
            return None;
        }
        let numbered: Vec<(u64, &Sample)> = self.numbered().collect();
        let (first, second) = numbered.split_at_checked(middle)?;
        Some((self.of(first)?, self.of(second)?))
    }

    /// These samples of it, with their numbers; `None` if there are none.
    fn of(&self, kept: &[(u64, &Sample)]) -> Option<Arc<Self>> {
        let (sequence, _) = *kept.first()?;
        let offset = |number: u64| u32::try_from(number - sequence).unwrap_or(u32::MAX);
        Some(Arc::new(Self {
            instance: self.instance.clone(),
            layout: self.layout.clone(),
            epoch: self.epoch,
            sequence,
            offsets: Some(kept.iter().map(|(number, _)| offset(*number)).collect()),
            server_time: self.server_time,
            samples: kept.iter().map(|(_, sample)| (*sample).clone()).collect(),
        }))
    }

    /// About how much memory it keeps, in bytes, without the layout, which all batches share.
    pub fn bytes(&self) -> usize {
        let values = self
            .samples
            .iter()
            .filter_map(|sample| sample.value.as_ref());
        size_of::<Self>()
            + self.samples.capacity() * size_of::<Sample>()
            + values.map(Value::heap_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Quality;
    use crate::ids::{ChannelId, TagId};

    fn batch(samples: u32, offsets: Option<Box<[u32]>>) -> Arc<Batch> {
        let channel = ChannelId::new("a").unwrap();
        Arc::new(Batch {
            instance: Arc::new(InstanceId {
                channel: channel.clone(),
                incarnation: 1,
            }),
            layout: Arc::new(Layout {
                channel,
                devices: [].into(),
                groups: [].into(),
                tags: Default::default(),
            }),
            epoch: 1,
            sequence: 10,
            offsets,
            server_time: WallNs(1),
            samples: (0..samples)
                .map(|tag| Sample {
                    tag: TagId(tag),
                    value: Some(Value::Uint(tag.into())),
                    quality: Quality::Good,
                    source_time: None,
                })
                .collect(),
        })
    }

    fn numbers(batch: &Batch) -> Vec<(u64, u32)> {
        batch
            .numbered()
            .map(|(number, sample)| (number, sample.tag.0))
            .collect()
    }

    #[test]
    fn samples_keep_their_numbers_whatever_is_left_out() {
        let whole = batch(6, None);
        let odd = whole.filtered(|sample| sample.tag.0 % 2 == 1).unwrap();
        assert_eq!(numbers(&odd), [(11, 1), (13, 3), (15, 5)]);
        assert_eq!((odd.last_sequence(), whole.last_sequence()), (15, 15));
        let again = odd.filtered(|sample| sample.tag.0 > 1).unwrap();
        assert_eq!(numbers(&again), [(13, 3), (15, 5)]);
        assert!(whole.filtered(|_| false).is_none());
        assert!(Arc::ptr_eq(&whole.filtered(|_| true).unwrap(), &whole));
    }

    #[test]
    fn halves_are_the_whole() {
        for whole in [batch(7, None), batch(2, Some([0, 9].into()))] {
            let (first, second) = whole.halves().unwrap();
            let both = [numbers(&first), numbers(&second)].concat();
            assert_eq!(both, numbers(&whole));
        }
        assert!(batch(1, None).halves().is_none());
    }
}
