//! The queue against a model, and through crashes at every point where it waits for the disk.

mod backend;
mod crash;
mod model;

use std::sync::Arc;
use std::time::Duration;

use redb::Database;

use super::queue::{Acknowledged, Before, Bounds, Change, Queue};
use crate::config::Overflow;
use crate::event::{Batch, Gap, GapReason, Item, Layout, Quality, Sample, TagNames, Value, WallNs};
use crate::ids::{ChannelId, InstanceId, TagId};
use backend::Disk;

/// So many samples of a channel, which begin with this number.
fn batch(layout: &Arc<Layout>, sequence: u64, samples: u64) -> Item {
    let sample = |at: u64| Sample {
        tag: TagId(u32::try_from(at % 4).unwrap()),
        value: Some(Value::Uint(sequence + at)),
        quality: Quality::Good,
        source_time: None,
    };
    Item::Batch(Arc::new(Batch {
        instance: Arc::new(InstanceId {
            channel: layout.channel.clone(),
            incarnation: 1,
        }),
        layout: layout.clone(),
        epoch: 3,
        sequence,
        offsets: None,
        server_time: WallNs(1_784_379_600_000_000_000),
        samples: (0..samples).map(sample).collect(),
    }))
}

pub(super) fn layout(channel: &str) -> Arc<Layout> {
    let tags = ["tag 0", "tag 1", "tag 2", "tag 3"].map(|name| TagNames {
        name,
        unit: "",
        device: 0,
        group: Some(0),
    });
    Arc::new(Layout {
        channel: ChannelId::new(channel).unwrap(),
        devices: [channel.into()].into(),
        groups: ["fast".into()].into(),
        tags: tags.into_iter().collect(),
    })
}

fn bounds(overflow: Overflow, bytes: u64) -> Bounds {
    Bounds {
        bytes,
        age: Duration::from_secs(3_600),
        overflow,
    }
}

/// Opens the queue that is on a disk.
fn open(disk: &Disk, bounds: Bounds) -> Result<Queue, String> {
    let database = redb::Builder::new()
        .set_cache_size(1024 * 1024)
        .create_with_backend(disk.clone())
        .map_err(|error| error.to_string())?;
    Queue::new(Arc::new(database), bounds, Before::default()).map_err(|error| error.to_string())
}

/// What is in a queue, in order.
fn contents(queue: &Queue) -> Vec<Item> {
    let chunks = queue.reader().read(0, u64::MAX, WallNs(1)).unwrap();
    chunks.into_iter().flat_map(|chunk| chunk.entries).collect()
}

/// Channel, first number and samples of what is no gap.
fn named(items: &[Item]) -> Vec<(String, u64, u64)> {
    let batches = items.iter().filter_map(|item| match item {
        Item::Batch(batch) => Some(batch),
        Item::Gap(_) => None,
    });
    let named = batches.map(|batch| {
        let channel = batch.layout.channel.to_string();
        (channel, batch.sequence, batch.samples.len() as u64)
    });
    named.collect()
}

#[test]
fn a_damaged_chunk_becomes_a_gap_and_harms_nothing_else() {
    let disk = Disk::new(None);
    let bounds = bounds(Overflow::DropOldest, 1 << 20);
    let layout = layout("a");
    let mut queue = open(&disk, bounds).unwrap();
    for number in 0..3 {
        let entries = [batch(&layout, 1 + 7 * number, 7)];
        let change = Change {
            entries: &entries.iter().collect(),
            ..Change::default()
        };
        queue.change(&change).unwrap();
    }
    let database: Arc<Database> = queue.into_database();
    // The newest: as if its last bytes had never come to the disk.
    super::queue::damage(&database, 3);
    let queue = Queue::new(database, bounds, Before::default()).unwrap();
    let items = contents(&queue);
    assert_eq!(
        named(&items),
        [("a".to_owned(), 1, 7), ("a".to_owned(), 8, 7)]
    );
    assert!(
        matches!(items[2], Item::Gap(gap) if gap.samples == 7 && gap.reason.as_str() == "damaged"),
        "{:?}",
        items[2]
    );
}

/// Most queues are empty most of the time, and some hosts have hundreds of channels.
#[test]
fn a_queue_that_is_always_empty_stores_each_layout_once() {
    let disk = Disk::new(None);
    let mut queue = open(&disk, bounds(Overflow::Block, 1 << 20)).unwrap();
    let mut layouts: Vec<_> = (0..200).map(|at| layout(&format!("c{at}"))).collect();
    let mut chunks = 0;
    let mut sequence = 1;
    let mut pass = |queue: &mut Queue, layouts: &[Arc<Layout>]| {
        for layout in layouts {
            let entries = [batch(layout, sequence, 1)];
            sequence += 1;
            let accepted = Change {
                entries: &entries.iter().collect(),
                ..Change::default()
            };
            queue.change(&accepted).unwrap();
            assert_eq!(contents(queue), entries);
            chunks += 1;
            let delivered = Change {
                acknowledged: Acknowledged {
                    until: chunks,
                    ..Acknowledged::default()
                },
                ..Change::default()
            };
            queue.change(&delivered).unwrap();
        }
    };
    for _ in 0..3 {
        pass(&mut queue, &layouts);
    }
    assert_eq!(queue.counts().next_layout, 200);

    // Reloads give channels new layouts, and nobody has the old ones any more: they are let go.
    for round in 0..5 {
        layouts = (0..200)
            .map(|at| layout(&format!("c{at}.{round}")))
            .collect();
        pass(&mut queue, &layouts);
    }
    assert_eq!(queue.counts().next_layout, 6 * 200);
    assert!(super::queue::stored_layouts(&queue.into_database()) <= 200 + 64 + 1);
}

#[test]
fn every_kind_of_batch_comes_back_as_it_was() {
    let disk = Disk::new(None);
    let bounds = bounds(Overflow::Block, 1 << 20);
    let mut queue = open(&disk, bounds).unwrap();
    // More than a chunk holds, with two layouts, and one batch that is larger than a chunk.
    let (one, two) = (layout("a"), layout("b"));
    let mut entries = Vec::new();
    let mut sequence = 1;
    for samples in [1, 100, 60_000, 3, 20_000, 1] {
        entries.push(batch(&one, sequence, samples));
        entries.push(batch(&two, sequence, samples));
        sequence += samples;
    }
    let change = Change {
        entries: &entries.iter().collect(),
        ..Change::default()
    };
    queue.change(&change).unwrap();
    assert_eq!(contents(&queue), entries);
    drop(queue);
    let queue = open(&disk, bounds).unwrap();
    assert_eq!(contents(&queue), entries, "also after it was closed");
    let marks = queue.reader().marks().unwrap();
    let accepted: Vec<_> = marks
        .iter()
        .map(|mark| (mark.channel.as_str(), mark.accepted))
        .collect();
    assert_eq!(
        accepted,
        [("a", (3, sequence - 1)), ("b", (3, sequence - 1))]
    );
}

#[test]
fn a_file_that_was_begun_anew_counts_on_and_loses_nothing_to_what_was_said_of_the_old_one() {
    let bounds = bounds(Overflow::Block, 1 << 20);
    let layout = layout("a");
    let mut old = open(&Disk::new(None), bounds).unwrap();
    for number in 0..5 {
        let entries = [batch(&layout, 1 + number, 1)];
        let change = Change {
            entries: &entries.iter().collect(),
            ..Change::default()
        };
        old.change(&change).unwrap();
    }
    let newest = old.counts().next;
    // The file is gone, and so is what it held; the sink has acknowledged all of that.
    let disk = Disk::new(None);
    let before = Before {
        newest,
        samples: 4,
        now: WallNs(9),
        ..Before::default()
    };
    let open = || {
        let database = redb::Builder::new()
            .create_with_backend(disk.clone())
            .unwrap();
        Queue::new(Arc::new(database), bounds, before).unwrap()
    };
    // However often it is opened before anything is in it.
    for _ in 0..3 {
        drop(open());
    }
    let mut queue = open();
    for number in 5..8 {
        let entries = [batch(&layout, 1 + number, 1)];
        let change = Change {
            entries: &entries.iter().collect(),
            acknowledged: super::queue::Acknowledged {
                until: newest,
                ..Default::default()
            },
            ..Change::default()
        };
        queue.change(&change).unwrap();
    }
    let found: Vec<u64> = named(&contents(&queue))
        .iter()
        .map(|(_, first, _)| *first)
        .collect();
    assert_eq!(found, [6, 7, 8]);
    assert_eq!(queue.counts().delivered, 0);
    assert_eq!(queue.counts().dropped[GapReason::Damaged as usize], 4);
    let unread = queue.reader().read(newest, u64::MAX, WallNs(1)).unwrap();
    let gap = Gap {
        messages: 1,
        samples: 4,
        reason: GapReason::Damaged,
        at: WallNs(9),
    };
    assert_eq!(
        unread[0].entries,
        [Item::Gap(gap)],
        "once, and before all that is new"
    );
    assert_eq!(
        unread.len(),
        4,
        "a reader that goes on behind the old ones finds them"
    );
}
