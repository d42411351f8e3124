//! From samples to messages: what goes under which subject, and how it is cut. Pure.
//!
//! The payload is the same JSON as that of a sink of kind `mqtt`; its members stand in the documentation of the folder.
//!
//! Invariants:
//! - Every sample stands in exactly one message, unless it is too large for any, which is said.
//! - The messages of a batch are in the order of the samples' numbers, and so are the samples in each: where devices or groups take
//!   turns in a batch, a new message begins at each turn.
//! - A message has the same id each time it is made, and another if other samples are in it: with another limit it is cut
//!   elsewhere, and nothing of it may be taken for a duplicate.

use std::collections::HashSet;

use serde::Serialize;

use crate::config::Subject;
use crate::event::{Batch, Gap, Quality, Sample, WallNs};
use crate::ids::TagId;
use crate::sink::record::{JsonValue, Time};

/// What stands for the channel in the subject of a gap. No channel has such a name.
const GAPS: &str = "_gaps";

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) subject: String,
    /// `channel:epoch:first-last:samples`
    pub(super) id: String,
    pub(super) bytes: Vec<u8>,
}

/// Cuts batches into messages.
pub(super) struct Cutter<'a> {
    pub(super) subject: &'a Subject,
    /// The most bytes of a payload.
    pub(super) limit: usize,
}

impl Cutter<'_> {
    /// Appends the messages of a batch. Says why, if a sample is too large for any; the others are there all the same.
    pub(super) fn batch(&self, batch: &Batch, to: &mut Vec<Payload>) -> Result<(), String> {
        let mut draft = Draft::default();
        let mut whole = Ok(());
        let mut last = None;
        for (number, sample) in batch.numbered() {
            // The host publishes no tag that the channel does not have.
            let Some(tag) = batch.layout.tag(sample.tag) else {
                continue;
            };
            let under = (tag.device, tag.group);
            let turns = last.replace(under).is_some_and(|before| before != under);
            if turns || draft.tags.contains(&sample.tag) {
                to.extend(self.finish(batch, &mut draft));
            }
            let before = draft.mark();
            draft.add(batch, number, sample);
            if draft.length() > self.limit && draft.tags.len() > 1 {
                draft.cut(&before, sample.tag);
                to.extend(self.finish(batch, &mut draft));
                draft.add(batch, number, sample);
            }
            if draft.tags.len() == 1 && draft.length() > self.limit {
                whole = Err(format!(
                    "a sample of {}/{} takes {} bytes, and the server takes {}; raise its `max_payload`, or the stream's longest message",
                    batch.layout.channel,
                    tag.name,
                    draft.length(),
                    self.limit
                ));
                draft.clear();
            }
        }
        to.extend(self.finish(batch, &mut draft));
        whole
    }

    /// The draft as a message, if there is anything in it. The draft is empty then.
    fn finish(&self, batch: &Batch, draft: &mut Draft) -> Option<Payload> {
        let first = *draft.numbers.first()?;
        let last = *draft.numbers.last()?;
        let channel = batch.layout.channel.as_str();
        let payload = Payload {
            subject: self.subject.fill(channel, &draft.device, &draft.group),
            // The time tells two hosts apart that call their channels the same, and the group two messages of one batch.
            id: format!(
                "{channel}:{}:{first}-{last}:{}:{}",
                batch.epoch,
                draft.numbers.len(),
                batch.server_time.0
            ),
            bytes: draft.finish(),
        };
        draft.clear();
        Some(payload)
    }

    /// The message of a gap.
    pub(super) fn gap(&self, sink: &str, gap: &Gap) -> Payload {
        #[derive(Serialize)]
        struct Written<'a> {
            sink: &'a str,
            messages: u64,
            samples: u64,
            reason: &'a str,
            time: Time,
            time_ns: u64,
        }
        let Gap {
            messages,
            samples,
            reason,
            at,
        } = *gap;
        let mut bytes = Vec::new();
        json(
            &mut bytes,
            &Written {
                sink,
                messages,
                samples,
                reason: reason.as_str(),
                time: Time(at),
                time_ns: at.0,
            },
        );
        Payload {
            subject: self.subject.fill(GAPS, "", ""),
            id: format!(
                "{GAPS}:{sink}:{}:{messages}:{samples}:{}",
                at.0,
                reason.as_str()
            ),
            bytes,
        }
    }
}

/// A payload in the making.
#[derive(Default)]
struct Draft {
    device: String,
    group: String,
    /// Up to and with the values.
    text: Vec<u8>,
    /// The members of `quality` and of `source_time_ns`.
    quality: Vec<u8>,
    source_times: Vec<u8>,
    numbers: Vec<u64>,
    tags: HashSet<TagId>,
}

/// To where a draft is cut back.
struct Mark {
    text: usize,
    quality: usize,
    source_times: usize,
}

impl Draft {
    fn clear(&mut self) {
        self.text.clear();
        self.quality.clear();
        self.source_times.clear();
        self.numbers.clear();
        self.tags.clear();
    }

    fn mark(&self) -> Mark {
        Mark {
            text: self.text.len(),
            quality: self.quality.len(),
            source_times: self.source_times.len(),
        }
    }

    /// Takes the last sample out again.
    fn cut(&mut self, mark: &Mark, tag: TagId) {
        self.text.truncate(mark.text);
        self.quality.truncate(mark.quality);
        self.source_times.truncate(mark.source_times);
        self.numbers.pop();
        self.tags.remove(&tag);
    }

    fn add(&mut self, batch: &Batch, number: u64, sample: &Sample) {
        let Some(tag) = batch.layout.tag(sample.tag) else {
            return;
        };
        let text = &mut self.text;
        if self.numbers.is_empty() {
            self.device = batch.layout.device_of(tag).to_owned();
            self.group = batch.layout.group_of(tag).to_owned();
            text.extend_from_slice(b"{\"channel\":");
            json(text, batch.layout.channel.as_str());
            text.extend_from_slice(b",\"device\":");
            json(text, &self.device);
            text.extend_from_slice(b",\"group\":");
            json(text, &self.group);
            text.extend_from_slice(b",\"epoch\":");
            json(text, &batch.epoch);
            text.extend_from_slice(b",\"sequence\":");
            json(text, &number);
            text.extend_from_slice(b",\"time\":");
            json(text, &Time(batch.server_time));
            text.extend_from_slice(b",\"time_ns\":");
            json(text, &batch.server_time.0);
            text.extend_from_slice(b",\"values\":{");
        } else {
            text.push(b',');
        }
        member(text, tag.name);
        match &sample.value {
            Some(value) => json(text, &JsonValue(value)),
            None => text.extend_from_slice(b"null"),
        }
        if sample.quality != Quality::Good {
            separate(&mut self.quality);
            member(&mut self.quality, tag.name);
            json(&mut self.quality, sample.quality.as_str());
        }
        if let Some(WallNs(time)) = sample.source_time {
            separate(&mut self.source_times);
            member(&mut self.source_times, tag.name);
            json(&mut self.source_times, &time);
        }
        self.numbers.push(number);
        self.tags.insert(sample.tag);
    }

    /// Whether some number was left out between the first and the last.
    fn is_sparse(&self) -> bool {
        let span = self.numbers.first().zip(self.numbers.last());
        span.is_some_and(|(first, last)| last - first != self.numbers.len() as u64 - 1)
    }

    /// How long it becomes, at most.
    fn length(&self) -> usize {
        const ENDS: usize = "}}".len();
        const QUALITY: usize = r#","quality":{}"#.len();
        const SOURCE_TIMES: usize = r#","source_time_ns":{}"#.len();
        const OFFSETS: usize = r#","offsets":[]"#.len();
        /// An offset has 32 bits; and a comma.
        const OFFSET: usize = 11;
        let offsets = match self.is_sparse() {
            true => OFFSETS + OFFSET * self.numbers.len(),
            false => 0,
        };
        let parts = ENDS + QUALITY + SOURCE_TIMES + offsets;
        self.text.len() + self.quality.len() + self.source_times.len() + parts
    }

    fn finish(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.text);
        text.push(b'}');
        for (name, members) in [
            ("quality", &self.quality),
            ("source_time_ns", &self.source_times),
        ] {
            if !members.is_empty() {
                text.push(b',');
                member(&mut text, name);
                text.push(b'{');
                text.extend_from_slice(members);
                text.push(b'}');
            }
        }
        if self.is_sparse() {
            let first = self.numbers.first().copied().unwrap_or_default();
            let offsets: Vec<u64> = self.numbers.iter().map(|number| number - first).collect();
            text.extend_from_slice(b",\"offsets\":");
            json(&mut text, &offsets);
        }
        text.push(b'}');
        text
    }
}

fn member(text: &mut Vec<u8>, name: &str) {
    json(text, name);
    text.push(b':');
}

fn separate(text: &mut Vec<u8>) {
    if !text.is_empty() {
        text.push(b',');
    }
}

fn json<T: Serialize + ?Sized>(text: &mut Vec<u8>, what: &T) {
    serde_json::to_writer(text, what)
        .expect("memory takes everything, and no map is written whose keys are no texts");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Subject;
    use crate::event::{GapReason, Layout, TagNames, Value};
    use crate::ids::{ChannelId, InstanceId};

    fn subject() -> Subject {
        Subject::parse("bulkhead.{channel}.{group}").unwrap()
    }

    /// Tags 0, 1 and 2 are of one device and group, 3 of none.
    fn batch(samples: &[(u32, Value)]) -> Batch {
        let channel = ChannelId::new("press").unwrap();
        let tag = |name, group| TagNames {
            name,
            unit: "",
            device: 0,
            group,
        };
        let tags = [
            tag("a", Some(0)),
            tag("b", Some(0)),
            tag("c", Some(0)),
            tag("x\"", None),
        ];
        Batch {
            instance: Arc::new(InstanceId {
                channel: channel.clone(),
                incarnation: 1,
            }),
            layout: Arc::new(Layout {
                channel,
                devices: ["plc".into()].into(),
                groups: ["fast.1".into()].into(),
                tags: tags.into_iter().collect(),
            }),
            epoch: 4,
            sequence: 11,
            offsets: None,
            server_time: WallNs(1_784_379_600_000_000_001),
            samples: samples
                .iter()
                .map(|(tag, value)| Sample {
                    tag: TagId(*tag),
                    value: Some(value.clone()),
                    quality: Quality::Good,
                    source_time: None,
                })
                .collect(),
        }
    }

    /// Subject, id and text of each message.
    type Shown = Vec<(String, String, String)>;

    fn cut(batch: &Batch, limit: usize) -> (Shown, Result<(), String>) {
        let (mut payloads, subject) = (Vec::new(), subject());
        let cutter = Cutter {
            subject: &subject,
            limit,
        };
        let whole = cutter.batch(batch, &mut payloads);
        let shown = payloads.into_iter().map(|it| {
            assert!(it.bytes.len() <= limit, "{} > {limit}", it.bytes.len());
            (it.subject, it.id, String::from_utf8(it.bytes).unwrap())
        });
        (shown.collect(), whole)
    }

    #[test]
    fn a_batch_of_one_group_is_one_message() {
        let mut given = batch(&[(0, Value::Uint(u64::MAX)), (1, Value::Boolean(true))]);
        given.samples[1].quality = Quality::BadTimeout;
        given.samples[1].source_time = Some(WallNs(5));
        let (payloads, whole) = cut(&given, 10_000);
        assert_eq!(whole, Ok(()));
        assert_eq!(
            payloads,
            [(
                "bulkhead.press.fast_1".to_owned(),
                "press:4:11-12:2:1784379600000000001".to_owned(),
                "{\"channel\":\"press\",\"device\":\"plc\",\"group\":\"fast.1\",\"epoch\":4,\"sequence\":11,\
                 \"time\":\"2026-07-18T13:00:00.000000001Z\",\"time_ns\":1784379600000000001,\
                 \"values\":{\"a\":18446744073709551615,\"b\":true},\"quality\":{\"b\":\"bad-timeout\"},\
                 \"source_time_ns\":{\"b\":5}}"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn a_message_ends_where_the_group_changes_or_a_tag_comes_again() {
        let one = Value::Int(1);
        let given = batch(&[
            (0, one.clone()),
            (3, one.clone()),
            (0, one.clone()),
            (1, one.clone()),
            (0, one.clone()),
        ]);
        let ids = |given: &Batch| {
            let (payloads, _) = cut(given, 10_000);
            payloads
                .into_iter()
                .map(|(subject, id, _)| (subject, id))
                .collect::<Vec<_>>()
        };
        let expected = [
            (
                "bulkhead.press.fast_1",
                "press:4:11-11:1:1784379600000000001",
            ),
            ("bulkhead.press._", "press:4:12-12:1:1784379600000000001"),
            (
                "bulkhead.press.fast_1",
                "press:4:13-14:2:1784379600000000001",
            ),
            (
                "bulkhead.press.fast_1",
                "press:4:15-15:1:1784379600000000001",
            ),
        ];
        let expected = expected.map(|(subject, id)| (subject.to_owned(), id.to_owned()));
        assert_eq!(ids(&given), expected);
        // What a filter has left out is told by the offsets.
        let filtered = Arc::new(batch(&[(0, one.clone()), (1, one.clone()), (2, one)]))
            .filtered(|sample| sample.tag != TagId(1))
            .unwrap();
        let (payloads, _) = cut(&filtered, 10_000);
        assert_eq!(payloads[0].1, "press:4:11-13:2:1784379600000000001");
        assert!(
            payloads[0]
                .2
                .ends_with("\"values\":{\"a\":1,\"c\":1},\"offsets\":[0,2]}"),
            "{payloads:?}"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_cannot_be_cut_is_said() {
        let text = |length: usize| Value::Text("x".repeat(length).into());
        let given = batch(&[(0, text(300)), (1, text(300)), (2, text(300))]);
        let (payloads, whole) = cut(&given, 1_000);
        let ids: Vec<&str> = payloads.iter().map(|(_, id, _)| &**id).collect();
        assert_eq!(
            (whole, ids),
            (
                Ok(()),
                vec![
                    "press:4:11-12:2:1784379600000000001",
                    "press:4:13-13:1:1784379600000000001"
                ]
            )
        );
        let given = batch(&[(0, text(10)), (1, text(3_000)), (2, text(10))]);
        let (payloads, whole) = cut(&given, 1_000);
        let ids: Vec<&str> = payloads.iter().map(|(_, id, _)| &**id).collect();
        assert_eq!(
            ids,
            [
                "press:4:11-11:1:1784379600000000001",
                "press:4:13-13:1:1784379600000000001"
            ]
        );
        let why = whole.unwrap_err();
        assert!(
            why.contains("press/b") && why.contains("max_payload"),
            "{why}"
        );
    }

    #[test]
    fn a_gap_is_a_message_of_its_own() {
        let subject = subject();
        let cutter = Cutter {
            subject: &subject,
            limit: 1_000,
        };
        let gap = Gap {
            messages: 3,
            samples: 40,
            reason: GapReason::Slow,
            at: WallNs(0),
        };
        let payload = cutter.gap("nats", &gap);
        assert_eq!(
            (&*payload.subject, &*payload.id),
            ("bulkhead._gaps._", "_gaps:nats:0:3:40:slow")
        );
        assert_eq!(
            String::from_utf8(payload.bytes).unwrap(),
            "{\"sink\":\"nats\",\"messages\":3,\"samples\":40,\"reason\":\"slow\",\"time\":\"1970-01-01T00:00:00.000000000Z\",\"time_ns\":0}"
        );
    }
}
