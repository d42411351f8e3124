//! What a queue counts, on the disk with it.

use crate::event::GapReason;

/// Numbers that stand in the queue's own file, so that they survive the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of the newest chunk.
    pub(super) next: u64,
    /// The number of the newest layout.
    pub(super) next_layout: u64,
    /// For how long a host has had the queue open, in nanoseconds.
    pub(super) clock: u64,
    /// Samples that it holds.
    pub samples: u64,
    /// What it holds, in bytes.
    pub bytes: u64,
    /// Samples that were ever accepted.
    pub accepted: u64,
    /// Samples that its sink has ever acknowledged.
    pub delivered: u64,
    /// Samples that were dropped, by reason: those accepted, and with `drop-newest` those that were not.
    pub dropped: [u64; GapReason::ALL.len()],
}

impl Counts {
    /// Reads all of it; what is not there is 0.
    pub(super) fn read<E>(get: impl Fn(&str) -> Result<Option<u64>, E>) -> Result<Self, E> {
        let mut counts = Self::default();
        counts.visit(|name, count| {
            *count = get(name)?.unwrap_or(0);
            Ok(())
        })?;
        Ok(counts)
    }

    /// Hands out all of it.
    pub(super) fn write<E>(
        &self,
        mut put: impl FnMut(&str, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.clone().visit(|name, count| put(name, *count))
    }

    fn visit<E>(&mut self, mut each: impl FnMut(&str, &mut u64) -> Result<(), E>) -> Result<(), E> {
        each("next", &mut self.next)?;
        each("next_layout", &mut self.next_layout)?;
        each("clock", &mut self.clock)?;
        each("samples", &mut self.samples)?;
        each("bytes", &mut self.bytes)?;
        each("accepted", &mut self.accepted)?;
        each("delivered", &mut self.delivered)?;
        for (reason, count) in GapReason::ALL.iter().zip(&mut self.dropped) {
            each(&format!("dropped:{}", reason.as_str()), count)?;
        }
        Ok(())
    }

    /// A chunk is not there any more.
    pub(super) fn gone(&mut self, samples: u64, bytes: u64) {
        self.samples = self.samples.saturating_sub(samples);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
