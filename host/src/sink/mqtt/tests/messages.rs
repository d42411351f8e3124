//! What is published under which topic, and that a reader can rebuild each sample from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value as Json, json};

use super::super::payload::{Encoded, Encoder, Limits, Parcel};
use super::super::wire::{Inbox, Message, Packet};
use super::{batch, item, sample, sink};
use crate::config::{MqttSink, MqttVersion, TopicPart};
use crate::event::{Batch, Gap, GapReason, Item, Quality, Sample, Value, WallNs};
use crate::ids::TagId;

const NO_LIMITS: Limits = Limits {
    payload: usize::MAX,
    packet: None,
    guessed: None,
};

/// The members of an object in their order.
struct Members(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    channel: String,
    device: String,
    group: String,
    epoch: u64,
    sequence: u64,
    time: String,
    time_ns: u64,
    values: Members,
    #[serde(default)]
    #[expect(dead_code, reason = "says what a message has")]
    quality: serde_json::Map<String, Json>,
    #[serde(default)]
    #[expect(dead_code, reason = "says what a message has")]
    source_time_ns: serde_json::Map<String, Json>,
    offsets: Option<Vec<u64>>,
}

fn messages(parcel: &Parcel) -> Vec<Message> {
    let mut inbox = Inbox::default();
    inbox.bytes.extend_from_slice(&parcel.bytes);
    let mut messages = Vec::new();
    while let Some(packet) = inbox.next(MqttVersion::V5).unwrap() {
        let Packet::Publish(message) = packet else {
            panic!("{packet:?}")
        };
        messages.push(message);
    }
    assert!(inbox.bytes.is_empty());
    messages
}

fn payload(message: &Message) -> &[u8] {
    message.payload.as_deref().unwrap()
}

/// Each sample as a reader rebuilds it: number, device, group, tag, value.
fn rebuilt(messages: &[Message]) -> Vec<(u64, String, String, String, Json)> {
    let mut samples = Vec::new();
    for message in messages {
        let read: Read = serde_json::from_slice(payload(message)).unwrap();
        assert_eq!(
            (
                read.channel.as_str(),
                read.epoch,
                read.time_ns,
                read.time.as_str()
            ),
            (
                "press",
                7,
                1_784_379_600_000_000_001,
                "2026-07-18T13:00:00.000000001Z"
            )
        );
        let names: BTreeSet<&str> = read
            .values
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names.len(), read.values.0.len(), "no name twice");
        for (at, (tag, value)) in read.values.0.into_iter().enumerate() {
            let offset = read
                .offsets
                .as_ref()
                .map_or(at as u64, |offsets| offsets[at]);
            samples.push((
                read.sequence + offset,
                read.device.clone(),
                read.group.clone(),
                tag,
                value,
            ));
        }
    }
    samples
}

fn encoded(sink: &MqttSink, items: &[Item], limits: Limits) -> (Vec<Message>, Parcel, Encoded) {
    let mut encoder = Encoder::new("out", sink);
    let mut parcel = Parcel::default();
    let encoded = encoder.encode(items, 0, limits, &mut parcel);
    (messages(&parcel), parcel, encoded)
}

#[test]
fn a_message_is_as_the_documentation_has_it() {
    let mut samples = vec![
        sample(0, Value::Float(21.5)),
        sample(1, Value::Uint(u64::MAX)),
    ];
    samples[0].source_time = Some(WallNs(5));
    samples[1].quality = Quality::UncertainLastKnown;
    let (messages, parcel, _) = encoded(&sink(), &[item(1_201, samples)], NO_LIMITS);
    let [message] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!(message.topic, "bulkhead/press/fast");
    assert_eq!(
        std::str::from_utf8(payload(message)).unwrap(),
        concat!(
            r#"{"channel":"press","device":"plc","group":"fast","epoch":7,"sequence":1201,"#,
            r#""time":"2026-07-18T13:00:00.000000001Z","time_ns":1784379600000000001,"#,
            r#""values":{"a":21.5,"b\"ü":18446744073709551615},"#,
            r#""quality":{"b\"ü":"uncertain-last-known"},"source_time_ns":{"a":5}}"#
        )
    );
    assert_eq!(
        (
            parcel.packets.len(),
            parcel.packets[0].samples,
            parcel.longest()
        ),
        (1, 2, parcel.bytes.len())
    );
}

#[test]
fn every_sample_is_rebuilt_with_its_number_and_its_order() {
    let bad = Sample {
        tag: TagId(3),
        value: None,
        quality: Quality::BadTimeout,
        source_time: None,
    };
    let samples = vec![
        sample(0, Value::Int(0)),
        sample(2, Value::Int(1)),
        sample(1, Value::Int(2)),
        // The same tag again: it begins another message.
        sample(0, Value::Int(3)),
        bad,
        sample(2, Value::Int(5)),
        // No tag of the layout.
        sample(9, Value::Int(6)),
        sample(1, Value::Int(7)),
    ];
    let whole = Arc::new(batch(100, samples));
    let check = |batch: &Arc<Batch>, expected: &[(u64, &str, &str)]| {
        for limits in [
            NO_LIMITS,
            Limits {
                payload: 230,
                ..NO_LIMITS
            },
            Limits {
                guessed: Some(1),
                ..NO_LIMITS
            },
        ] {
            let (messages, ..) = encoded(&sink(), &[Item::Batch(Arc::clone(batch))], limits);
            let mut found = rebuilt(&messages);
            // Each group is in order by itself.
            for group in [("plc", "fast"), ("drive", "fast"), ("plc", "")] {
                let numbers: Vec<u64> = found
                    .iter()
                    .filter(|sample| (sample.1.as_str(), sample.2.as_str()) == group)
                    .map(|sample| sample.0)
                    .collect();
                assert!(numbers.is_sorted(), "{group:?}: {numbers:?}");
            }
            found.sort_by_key(|sample| sample.0);
            let found: Vec<(u64, &str, &str)> = found
                .iter()
                .map(|sample| (sample.0, sample.1.as_str(), sample.3.as_str()))
                .collect();
            assert_eq!(found, expected);
            for message in &messages {
                let topic = message.topic.as_str();
                assert!(
                    ["bulkhead/press/fast", "bulkhead/press/_"].contains(&topic),
                    "{topic}"
                );
            }
        }
    };
    let expected = [
        (100, "plc", "a"),
        (101, "drive", "c"),
        (102, "plc", "b\"ü"),
        (103, "plc", "a"),
        (104, "plc", "d"),
        (105, "drive", "c"),
        (107, "plc", "b\"ü"),
    ];
    check(&whole, &expected);
    let filtered = whole.filtered(|sample| sample.tag != TagId(0)).unwrap();
    check(
        &filtered,
        &[
            expected[1],
            expected[2],
            expected[4],
            expected[5],
            expected[6],
        ],
    );
}

#[test]
fn with_a_tag_in_the_topic_each_sample_is_a_message() {
    let one_each = MqttSink {
        topic: vec![
            TopicPart::Device,
            TopicPart::Text("/".to_owned()),
            TopicPart::Tag,
        ],
        ..sink()
    };
    let mut samples = vec![
        sample(0, Value::Int(1)),
        sample(0, Value::Int(2)),
        sample(2, Value::Boolean(true)),
    ];
    samples[2].quality = Quality::Uncertain;
    samples[2].source_time = Some(WallNs(9));
    let (messages, ..) = encoded(&one_each, &[item(5, samples)], NO_LIMITS);
    let found: Vec<(&str, Json)> = messages
        .iter()
        .map(|message| {
            (
                message.topic.as_str(),
                serde_json::from_slice(payload(message)).unwrap(),
            )
        })
        .collect();
    let of = |device: &str, tag: &str, sequence: u64, value: Json| {
        json!({"channel": "press", "device": device, "group": "fast", "tag": tag, "epoch": 7, "sequence": sequence,
            "time": "2026-07-18T13:00:00.000000001Z", "time_ns": 1_784_379_600_000_000_001u64, "value": value})
    };
    let mut last = of("drive", "c", 7, json!(true));
    last["quality"] = json!("uncertain");
    last["source_time_ns"] = json!(9);
    let expected = [
        ("plc/a", of("plc", "a", 5, json!(1))),
        ("plc/a", of("plc", "a", 6, json!(2))),
        ("drive/c", last),
    ];
    assert_eq!(found, expected);
}

#[test]
fn messages_keep_to_every_limit_and_what_never_fits_is_named() {
    let samples: Vec<Sample> = (0u32..200)
        .map(|at| sample(at % 2, Value::Uint(u64::from(at))))
        .collect();
    let mut with_a_long_one = samples.clone();
    with_a_long_one[50] = sample(3, Value::Text("x".repeat(2_000).into()));
    let items = [item(1, samples), item(201, with_a_long_one)];
    for one_each in [false, true] {
        let mut sink = sink();
        if one_each {
            sink.topic.push(TopicPart::Tag);
        }
        for limits in [
            Limits {
                payload: 600,
                ..NO_LIMITS
            },
            Limits {
                packet: Some(600),
                ..NO_LIMITS
            },
            Limits {
                payload: 700,
                packet: Some(600),
                guessed: Some(300),
            },
        ] {
            let (messages, parcel, encoded) = encoded(&sink, &items, limits);
            assert!(parcel.longest() <= 650, "{}", parcel.longest());
            if limits.packet.is_some() {
                assert!(parcel.longest() <= 600, "{}", parcel.longest());
            }
            let (item, why) = encoded.too_large.unwrap();
            assert_eq!((item, encoded.next), (1, 2));
            assert!(
                why.contains("press/d") && why.contains("max_payload"),
                "{why}"
            );
            // All the others are there.
            let samples: usize = parcel.packets.iter().map(|packet| packet.samples).sum();
            assert_eq!(samples, 399);
            if !one_each {
                let mut numbers: Vec<u64> =
                    rebuilt(&messages).iter().map(|sample| sample.0).collect();
                numbers.sort_unstable();
                assert_eq!(
                    numbers,
                    (1..=400)
                        .filter(|number| *number != 251)
                        .collect::<Vec<u64>>()
                );
            }
        }
    }
    // What is only believed does not keep a sample back.
    let guessed = Limits {
        guessed: Some(300),
        ..NO_LIMITS
    };
    let (_, parcel, encoded) = encoded(&sink(), &items, guessed);
    assert_eq!(encoded.too_large, None);
    assert!(
        parcel
            .packets
            .iter()
            .filter(|packet| packet.payload > 300)
            .count()
            == 1
    );
}

#[test]
fn a_gap_is_told_where_it_is() {
    let gap = Gap {
        messages: 3,
        samples: 30,
        reason: GapReason::Slow,
        at: WallNs(1),
    };
    let items = [item(1, vec![sample(0, Value::Int(1))]), Item::Gap(gap)];
    let (messages, ..) = encoded(&sink(), &items, NO_LIMITS);
    assert_eq!(messages[1].topic, "bulkhead/out/gap");
    assert_eq!(
        serde_json::from_slice::<Json>(payload(&messages[1])).unwrap(),
        json!({"sink": "out", "messages": 3, "samples": 30, "reason": "slow", "time": "1970-01-01T00:00:00.000000001Z", "time_ns": 1})
    );
}
