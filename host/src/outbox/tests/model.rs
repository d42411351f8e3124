//! Random operations, against a model that is a list.

use std::time::Duration;

use super::backend::Disk;
use super::*;
use crate::event::GapReason;
use crate::outbox::queue::Acknowledged;

/// What must be true of a queue, whatever was done to it.
struct Model {
    /// Everything that was ever accepted, in order: channel, first number, samples.
    accepted: Vec<(String, u64, u64)>,
    /// Samples that were not, since there was no room.
    refused: u64,
    delivered: u64,
    /// Samples in gaps that the sink has acknowledged.
    gaps_delivered: u64,
    /// What was handed to the sink and is not acknowledged.
    in_flight: Vec<(String, u64, u64)>,
}

/// Gives what was dropped, by reason.
fn check(seed: u64, overflow: Overflow) -> [u64; GapReason::ALL.len()] {
    let mut random = fastrand::Rng::with_seed(seed);
    let bounds = Bounds {
        bytes: 20_000,
        age: Duration::from_secs(60),
        overflow,
    };
    let what = |step: u32| format!("seed {seed}, {overflow:?}, step {step}");
    let disk = Disk::new(None);
    let layouts = [layout("a"), layout("b")];
    let mut sequences = [1, 1];
    let mut queue = open(&disk, bounds).unwrap();
    let mut model = Model {
        accepted: Vec::new(),
        refused: 0,
        delivered: 0,
        gaps_delivered: 0,
        in_flight: Vec::new(),
    };
    let mut acknowledged = Acknowledged::default();
    let mut handed_out: Option<(u64, Vec<Item>)> = None;
    for step in 0..300 {
        let mut entries = Vec::new();
        let mut purge = false;
        let mut elapsed = Duration::from_millis(random.u64(0..500));
        match random.u8(0..20) {
            0..=9 => {
                for _ in 0..random.u64(1..4) {
                    let place = random.usize(0..2);
                    let samples = random.u64(1..600);
                    entries.push(batch(&layouts[place], sequences[place], samples));
                    sequences[place] += samples;
                }
            }
            10..=13 if handed_out.is_none() => {
                let chunks = queue
                    .reader()
                    .read(acknowledged.until, random.u64(1..2_000), WallNs(1))
                    .unwrap();
                if let Some(last) = chunks.last() {
                    let number = last.number;
                    let items: Vec<Item> =
                        chunks.into_iter().flat_map(|chunk| chunk.entries).collect();
                    model.in_flight = named(&items);
                    handed_out = Some((number, items));
                }
            }
            10..=16 => {
                if let Some((until, items)) = handed_out.take() {
                    acknowledged.until = until;
                    model.delivered += items.iter().map(Item::samples).sum::<u64>();
                    model.gaps_delivered += gaps(&items);
                    model.in_flight.clear();
                }
            }
            17 => elapsed = Duration::from_secs(random.u64(1..50)),
            18 => purge = random.u8(0..4) == 0,
            _ => {
                drop(queue);
                queue = open(&disk, bounds).unwrap();
            }
        }
        let full = queue.is_full();
        if full && overflow == Overflow::Block && !purge {
            // Whoever calls keeps them back.
            model.refused += entries.iter().map(Item::samples).sum::<u64>();
            entries.clear();
        }
        let before = contents(&queue);
        let in_flight = handed_out.as_ref().map_or(0, |(until, _)| *until);
        let change = Change {
            entries: &entries.iter().collect(),
            acknowledged: acknowledged.clone(),
            in_flight,
            purge,
            elapsed,
            now: WallNs(1),
        };
        queue.change(&change).unwrap();
        let counts = queue.counts().clone();
        let dropped: u64 = counts.dropped.iter().sum();
        let now = contents(&queue);
        let found = named(&now);

        let new: Vec<_> = named(&entries);
        let accepted_now = counts.accepted
            - model
                .accepted
                .iter()
                .map(|(_, _, samples)| samples)
                .sum::<u64>();
        match accepted_now {
            0 => model.refused += entries.iter().map(Item::samples).sum::<u64>(),
            _ => {
                assert_eq!(
                    accepted_now,
                    entries.iter().map(Item::samples).sum::<u64>(),
                    "{}",
                    what(step)
                );
                model.accepted.extend(new);
            }
        }
        let refused = if overflow == Overflow::DropNewest {
            model.refused
        } else {
            0
        };

        // In order, each at most once.
        let mut places = model.accepted.iter();
        for item in &found {
            assert!(
                places.any(|accepted| accepted == item),
                "{}: {item:?} of {found:?}",
                what(step)
            );
        }
        // What is gone is counted: delivered, or dropped.
        let all: u64 = model.accepted.iter().map(|(_, _, samples)| samples).sum();
        let held: u64 = found.iter().map(|(_, _, samples)| samples).sum();
        assert_eq!(counts.samples, held, "{}", what(step));
        assert_eq!(counts.delivered, model.delivered, "{}", what(step));
        assert_eq!(
            all + refused,
            held + model.delivered + dropped,
            "{}: {counts:?}",
            what(step)
        );
        // What was dropped is announced: in gaps that are there, or have been delivered.
        assert_eq!(gaps(&now) + model.gaps_delivered, dropped, "{}", what(step));
        // What is with the sink is not dropped meanwhile.
        let has_in_flight = model.in_flight.iter().all(|item| found.contains(item));
        assert!(has_in_flight, "{}", what(step));
        if overflow == Overflow::DropOldest && in_flight == 0 {
            assert!(
                counts.bytes <= bounds.bytes + 100,
                "{}: {}",
                what(step),
                counts.bytes
            );
        }
        if purge {
            let left: Vec<_> = found
                .iter()
                .filter(|item| !model.in_flight.contains(item))
                .collect();
            assert!(
                left.len() <= named(&entries).len(),
                "{}: {left:?}",
                what(step)
            );
        }
        if in_flight == 0 && !model.accepted.is_empty() {
            let oldest = queue.reader().oldest().unwrap().unwrap_or_default();
            assert!(oldest <= bounds.age, "{}: {oldest:?}", what(step));
        }
        assert!(counts.bytes > 0 || now.is_empty(), "{}", what(step));
        drop(before);
    }
    assert!(model.delivered > 0);
    queue.counts().dropped
}

/// The samples in gaps.
fn gaps(items: &[Item]) -> u64 {
    let gaps = items.iter().filter_map(|item| match item {
        Item::Gap(gap) => Some(gap.samples),
        Item::Batch(_) => None,
    });
    gaps.sum()
}

#[test]
fn a_queue_is_a_list_that_loses_nothing_without_saying_so() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let mut dropped = [0; GapReason::ALL.len()];
        for seed in 0..25 {
            for (all, one) in dropped.iter_mut().zip(check(seed, overflow)) {
                *all += one;
            }
        }
        // Each way to lose something was taken.
        let by = |reason: GapReason| dropped[reason as usize] > 0;
        assert!(by(GapReason::Age) && by(GapReason::Purged), "{overflow:?}");
        assert_eq!(
            by(GapReason::Bytes),
            overflow != Overflow::Block,
            "{overflow:?}"
        );
    }
}
