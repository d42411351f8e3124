//! Slow consumers, readers that come back, and many publishers at once.

use std::thread;

use futures_util::FutureExt as _;

use super::*;
use crate::event::{Layout, Quality, Sample, Value};
use crate::ids::{ChannelId, TagId};
use crate::limits::BACKLOG_MESSAGES;

fn layout() -> Arc<Layout> {
    Arc::new(Layout {
        channel: ChannelId::new("a").unwrap(),
        devices: [].into(),
        groups: [].into(),
        tags: Default::default(),
    })
}

fn batch_with(sequence: u64, samples: Vec<Sample>) -> Message {
    let instance = InstanceId {
        channel: ChannelId::new("a").unwrap(),
        incarnation: 1,
    };
    Message::Samples(Arc::new(Batch {
        instance: Arc::new(instance),
        layout: layout(),
        epoch: 1,
        sequence,
        offsets: None,
        server_time: WallNs(0),
        samples,
    }))
}

fn sample(value: Value) -> Sample {
    Sample {
        tag: TagId(0),
        value: Some(value),
        quality: Quality::Good,
        source_time: None,
    }
}

/// A batch of so many numbers.
pub(super) fn batch_of(sequence: u64, samples: u64) -> Message {
    let samples = (0..samples).map(|number| sample(Value::Uint(number)));
    batch_with(sequence, samples.collect())
}

/// A batch of one text of so many bytes.
pub(super) fn text_of(sequence: u64, bytes: usize) -> Message {
    batch_with(
        sequence,
        vec![sample(Value::Text("x".repeat(bytes).into()))],
    )
}

fn sequence_of(message: &Message) -> u64 {
    match message {
        Message::Samples(batch) => batch.sequence,
        Message::Event(event) => panic!("{event:?}"),
    }
}

fn missed(messages: u64, samples: u64) -> Result<u64, Missed> {
    Err(Missed { messages, samples })
}

async fn received(subscription: &mut Subscription) -> Result<u64, Missed> {
    match subscription.next().await.unwrap() {
        Received::Message(message) => Ok(sequence_of(&message)),
        Received::Gap(missed) => Err(missed),
    }
}

/// A gap: messages, samples, and the number of the last message.
type GapUntil = (u64, Option<u64>, u64);

/// What is there to be read: the sequences of batches, which are their numbers too, and gaps.
fn heard(reader: &mut Reader) -> Vec<Result<u64, GapUntil>> {
    let mut all = Vec::new();
    while let Some(heard) = reader.next().now_or_never() {
        all.push(match heard {
            Heard::Message(number, message) => {
                assert_eq!(number, sequence_of(&message));
                assert_eq!(reader.place(), number);
                Ok(number)
            }
            Heard::Gap {
                messages,
                samples,
                until,
            } => Err((messages, samples, until)),
        });
    }
    all
}

#[tokio::test]
async fn a_slow_consumer_is_told_what_it_missed_where_it_missed_it() {
    let bus = Bus::new();
    let mut slow = bus.subscribe(2);
    let mut quick = bus.subscribe(100);
    for number in 1..=5 {
        bus.publish(&batch_of(number, 10 * number));
    }
    let count = slow.missed();
    let total = Missed {
        messages: 3,
        samples: 120,
    };
    assert_eq!(count.get(), total, "counted before it looks");
    assert_eq!(received(&mut slow).await, Ok(1));
    assert_eq!(received(&mut slow).await, Ok(2));
    assert_eq!(
        received(&mut slow).await,
        missed(3, 120),
        "also where nothing comes after it"
    );
    assert!(slow.next().now_or_never().is_none());
    bus.publish(&batch_of(6, 1));
    assert_eq!(received(&mut slow).await, Ok(6), "a gap is announced once");
    for number in 7..=9 {
        bus.publish(&batch_of(number, 1));
    }
    assert_eq!(received(&mut slow).await, Ok(7));
    bus.publish(&batch_of(10, 1));
    assert_eq!(received(&mut slow).await, Ok(8));
    assert_eq!(received(&mut slow).await, missed(1, 1));
    assert_eq!(received(&mut slow).await, Ok(10));
    for number in 1..=10 {
        assert_eq!(received(&mut quick).await, Ok(number));
    }
    for number in 11..=13 {
        bus.publish(&batch_of(number, 1));
    }
    drop(bus);
    assert_eq!(received(&mut slow).await, Ok(11));
    assert_eq!(received(&mut slow).await, Ok(12));
    assert_eq!(received(&mut slow).await, missed(1, 1), "also at the end");
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn consumers_that_left_are_forgotten() {
    let bus = Bus::new();
    drop(bus.subscribe(1));
    let _kept = bus.subscribe(1);
    assert_eq!(bus.inner.lock().subscribers.len(), 1);
    drop(bus.listen());
    let _reader = bus.listen();
    assert_eq!(bus.readers().open, 1);
}

#[test]
fn nothing_is_kept_for_readers_that_never_were() {
    let bus = Bus::new();
    bus.publish(&batch_of(1, 1));
    assert!(bus.inner.lock().backlog.is_none());
    let mut first = bus.listen();
    bus.publish(&batch_of(2, 1));
    assert_eq!(heard(&mut first), [Ok(2)]);
    drop(first);
    bus.publish(&batch_of(3, 1));
    let mut back = bus.resume(1).unwrap();
    assert!(!back.has_missed());
    assert_eq!(heard(&mut back), [Ok(2), Ok(3)]);
    let mut before = bus.resume(0).unwrap();
    assert!(before.has_missed());
    assert_eq!(heard(&mut before), [Err((1, None, 1)), Ok(2), Ok(3)]);
    assert!(bus.resume(4).is_none(), "that was never published");
}

#[test]
fn a_reader_that_is_too_slow_is_told_how_many_messages_and_samples_it_missed() {
    let bus = Bus::new();
    let mut reader = bus.listen();
    let kept = BACKLOG_MESSAGES as u64;
    for number in 1..=kept {
        bus.publish(&batch_of(number, 2));
    }
    assert!(matches!(
        reader.next().now_or_never(),
        Some(Heard::Message(1, _))
    ));
    for number in kept + 1..=kept + 100 {
        bus.publish(&batch_of(number, 2));
    }
    let all = heard(&mut reader);
    // It had taken a piece before, which nobody takes away from it.
    assert_eq!(all[..63], (2..=64).map(Ok).collect::<Vec<_>>());
    assert_eq!(all[63], Err((36, Some(72), 100)));
    assert_eq!(all[64..], (101..=kept + 100).map(Ok).collect::<Vec<_>>());
    let readers = bus.readers();
    assert_eq!((readers.missed_messages, readers.missed_samples), (36, 72));
}

#[tokio::test]
async fn a_reader_that_waits_is_woken() {
    let bus = Bus::new();
    let mut reader = bus.listen();
    let reading = async {
        let mut numbers = Vec::new();
        while numbers.len() < 3 {
            match reader.next().await {
                Heard::Message(number, _) => numbers.push(number),
                gap @ Heard::Gap { .. } => panic!("{gap:?}"),
            }
        }
        numbers
    };
    let publishing = async {
        for number in 1..=3 {
            tokio::task::yield_now().await;
            bus.publish(&batch_of(number, 1));
        }
    };
    let (numbers, ()) = tokio::join!(reading, publishing);
    assert_eq!(numbers, [1, 2, 3]);
}

/// Readers that come back all the time while many publish: what one of them sees is every number once, in order.
#[test]
fn readers_come_back_without_doubles_and_holes_while_others_publish() {
    const PUBLISHERS: u64 = 4;
    const EACH: u64 = 3_000;
    const ALL: u64 = PUBLISHERS * EACH;
    let bus = Bus::new();
    // The numbers are those of the bus, so what each publisher sends is seen by its own sequence.
    let mut first = bus.listen();
    let seen: Vec<Vec<(u64, u64)>> = thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let bus = bus.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    bus.publish(&batch_of(publisher * EACH + number, 1));
                }
            });
        }
        let readers = (1..4usize).map(|stride| {
            let bus = bus.clone();
            scope.spawn(move || {
                let (mut seen, mut last) = (Vec::new(), 0);
                while last < ALL {
                    let mut reader = bus.resume(last).unwrap();
                    for _ in 0..17 * stride {
                        match reader.next().now_or_never() {
                            Some(Heard::Message(number, message)) => {
                                seen.push((number, sequence_of(&message)));
                                last = number;
                            }
                            Some(gap @ Heard::Gap { .. }) => panic!("{gap:?}"),
                            None => thread::yield_now(),
                        }
                    }
                }
                seen
            })
        });
        let readers: Vec<_> = readers.collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    let mut whole = Vec::new();
    while let Some(Heard::Message(number, message)) = first.next().now_or_never() {
        whole.push((number, sequence_of(&message)));
    }
    let numbers: Vec<u64> = whole.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=ALL).collect::<Vec<_>>());
    for publisher in 0..PUBLISHERS {
        let own = publisher * EACH..(publisher + 1) * EACH;
        let of_it = whole.iter().map(|(_, sequence)| *sequence);
        let of_it: Vec<u64> = of_it.filter(|sequence| own.contains(sequence)).collect();
        assert_eq!(of_it, own.collect::<Vec<_>>());
    }
    for seen in seen {
        assert_eq!(seen, whole);
    }
}

#[tokio::test]
async fn a_batch_is_shared_by_all_who_hear_it() {
    let bus = Bus::new();
    let (mut one, mut other) = (bus.subscribe(4), bus.subscribe(4));
    let mut reader = bus.listen();
    let sent = batch_of(1, 3);
    bus.publish(&sent);
    let Message::Samples(sent) = sent else {
        panic!("a batch was made");
    };
    for subscription in [&mut one, &mut other] {
        let Some(Received::Message(Message::Samples(heard))) = subscription.next().await else {
            panic!("it is heard");
        };
        assert!(Arc::ptr_eq(&heard, &sent));
    }
    let Heard::Message(_, Message::Samples(heard)) = reader.next().await else {
        panic!("it is heard");
    };
    assert!(Arc::ptr_eq(&heard, &sent));
}
