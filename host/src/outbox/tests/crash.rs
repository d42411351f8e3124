//! A crash at every sync: nothing accepted is lost, nothing comes twice, and nothing changes places.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::backend::Disk;
use super::*;
use crate::outbox::queue::{Acknowledged, marks_of};

const STEPS: u64 = 24;

/// What was promised before the machine stopped.
#[derive(Debug, Default)]
struct Promised {
    /// Accepted, in order.
    accepted: Vec<(String, u64, u64)>,
    /// What was under way when it stopped: it may be there, whole, or not at all.
    under_way: Vec<(String, u64, u64)>,
    /// How many of the accepted the sink had acknowledged: these may be there still, and come again.
    acknowledged: usize,
}

/// Accepts, reads and acknowledges by a fixed plan until it is over or the disk stops.
fn run(disk: &Disk, bounds: Bounds) -> Promised {
    let mut promised = Promised::default();
    let layouts = [layout("a"), layout("b"), layout("c")];
    let mut sequences = [1, 1, 1];
    let Ok(mut queue) = open(disk, bounds) else {
        return promised;
    };
    let mut acknowledged = Acknowledged::default();
    for step in 0..STEPS {
        let mut entries = Vec::new();
        for at in 0..=(step % 3) {
            let place = usize::try_from((step + at) % 3).unwrap();
            // Now and then more than a page holds.
            let samples = if step % 8 == 5 {
                9_000
            } else {
                1 + step * 13 % 40
            };
            entries.push(batch(&layouts[place], sequences[place], samples));
            sequences[place] += samples;
        }
        promised.under_way = named(&entries);
        let change = Change {
            entries: &entries.iter().collect(),
            acknowledged: acknowledged.clone(),
            elapsed: Duration::from_millis(5),
            ..Change::default()
        };
        let done = catch_unwind(AssertUnwindSafe(|| queue.change(&change)));
        if !matches!(done, Ok(Ok(()))) {
            return promised;
        }
        promised.accepted.append(&mut promised.under_way);
        // The sink takes a part of what is there.
        if step % 4 == 3 {
            let after = acknowledged.until;
            let Ok(chunks) = queue.reader().read(after, 60, WallNs(1)) else {
                return promised;
            };
            for chunk in chunks {
                let marks: BTreeMap<_, _> = marks_of(chunk.entries.iter());
                promised.acknowledged += named(&chunk.entries).len();
                acknowledged.until = chunk.number;
                acknowledged.marks.extend(marks);
            }
        }
    }
    promised
}

fn check(disk: &Disk, bounds: Bounds, promised: &Promised, what: &str) {
    let queue = match open(disk, bounds) {
        Ok(queue) => queue,
        // A file that was torn while it was made: the host sets it aside and begins anew. Nothing had been promised.
        Err(error) => {
            let nothing = promised.accepted.is_empty() && promised.under_way.is_empty();
            assert!(nothing, "{what}: {error}");
            return;
        }
    };
    let items = contents(&queue);
    assert!(
        items.iter().all(|item| matches!(item, Item::Batch(_))),
        "{what}: nothing was dropped, so there is no gap"
    );
    let found = named(&items);
    let mut all = promised.accepted.clone();
    let mut whole = all.clone();
    whole.extend(promised.under_way.iter().cloned());
    // What is there is the end of what was accepted; all of what was under way, or nothing.
    let begins = |all: &[(String, u64, u64)]| {
        all.len() >= found.len() && all[all.len() - found.len()..] == found[..]
    };
    if !found.is_empty() && begins(&whole) {
        all = whole;
    }
    assert!(begins(&all), "{what}: {found:?} is not the end of {all:?}");
    let gone = all.len() - found.len();
    assert!(
        gone <= promised.acknowledged,
        "{what}: {gone} are gone, and {} were acknowledged",
        promised.acknowledged
    );
    for item in &items {
        if let Item::Batch(batch) = item {
            let values = (batch.sequence..).zip(&batch.samples);
            assert!(
                values
                    .into_iter()
                    .all(|(number, sample)| sample.value == Some(Value::Uint(number)))
            );
        }
    }
    let samples: u64 = items.iter().map(Item::samples).sum();
    assert_eq!(queue.counts().samples, samples, "{what}");
    // It goes on.
    let mut queue = queue;
    let layout = layout("d");
    let entries = [batch(&layout, 1, 5)];
    let change = Change {
        entries: &entries.iter().collect(),
        ..Change::default()
    };
    queue.change(&change).unwrap();
    assert_eq!(
        named(&contents(&queue)).last(),
        Some(&("d".to_owned(), 1, 5)),
        "{what}"
    );
}

#[test]
fn a_crash_at_any_sync_loses_nothing_that_was_accepted() {
    let bounds = bounds(Overflow::Block, 1 << 30);
    let whole = Disk::new(None);
    let promised = run(&whole, bounds);
    assert_eq!(promised.accepted.len(), 48, "the plan was carried out");
    check(&whole.after_crash(|| false), bounds, &promised, "no crash");
    let syncs = whole.syncs();
    assert!(syncs > STEPS, "{syncs} syncs");
    for crash_at in 1..=syncs {
        for seed in 0..6 {
            let disk = Disk::new(Some(crash_at));
            let promised = catch_unwind(AssertUnwindSafe(|| run(&disk, bounds)));
            let promised = promised.unwrap_or_default();
            let mut random = fastrand::Rng::with_seed(seed * 1_000 + crash_at);
            // Nothing of what was not synced, all of it, or some.
            let after = disk.after_crash(|| match seed {
                0 => false,
                1 => true,
                _ => random.bool(),
            });
            let what = format!("crash at sync {crash_at}, seed {seed}");
            check(&after, bounds, &promised, &what);
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_and_goes_on_when_there_is_room() {
    let bounds = bounds(Overflow::Block, 1 << 30);
    let disk = Disk::new(None);
    let layout = layout("a");
    let mut queue = open(&disk, bounds).unwrap();
    let mut accepted = Vec::new();
    let mut sequence = 1;
    let mut failed = 0;
    for step in 0..60 {
        if step == 20 {
            let used = redb::StorageBackend::len(&disk).unwrap();
            disk.set_room(Some(used));
        }
        if step == 40 {
            disk.set_room(None);
        }
        let entries = [batch(&layout, sequence, 5_000)];
        let change = Change {
            entries: &entries.iter().collect(),
            ..Change::default()
        };
        let done = catch_unwind(AssertUnwindSafe(|| queue.change(&change)));
        match done {
            Ok(Ok(())) => {
                accepted.extend(named(&entries));
                sequence += 5_000;
            }
            _ => {
                failed += 1;
                drop(queue);
                queue = open(&disk, bounds).unwrap();
                assert_eq!(named(&contents(&queue)), accepted, "step {step}");
            }
        }
    }
    assert!(failed > 5, "the disk was full: {failed}");
    assert_eq!(named(&contents(&queue)), accepted);
    assert!(accepted.len() > 30);
}
