//! From samples to publishes: what goes under which topic, and how it is cut. Pure, and the hot path.
//!
//! The format stands in the documentation of the folder. What is written goes straight into buffers that are used again and again;
//! nothing is allocated for a sample.
//!
//! Invariants:
//! - Every sample stands in exactly one publish, unless it is too large to be published at all, which is said.
//! - The publishes of one device and group are in the order of the samples' numbers, and so are the samples in each of them.
//! - No publish is longer than the limits say, except one of a single sample where the limit is only a guess.

use std::collections::HashMap;

use serde::Serialize;

use super::super::record::{JsonValue, Time};
use super::topic::{self, Names};
use super::wire;
use crate::config::{MqttSink, MqttVersion, Qos, TopicPart};
use crate::event::{Batch, Gap, Item, Quality, Sample, WallNs};

/// Publishes are handed to the connection in pieces of about so many bytes.
const PARCEL: usize = 1 << 20;
/// What a publish has beside topic and payload, at most: its head, two lengths, its number, and no properties.
const OVERHEAD: usize = 16;
/// The shortest payload that is tried; less holds no sample.
const LEAST: usize = 128;

/// Publishes as they go over the wire, but for their packet identifiers.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) bytes: Vec<u8>,
    pub(super) packets: Vec<Packet>,
}

/// One of them. It begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) end: usize,
    /// Where its identifier belongs; `None` for QoS 0.
    pub(super) id_at: Option<usize>,
    /// From which item it is.
    pub(super) item: usize,
    /// How many samples are in it.
    pub(super) samples: usize,
    /// How long its payload is.
    pub(super) payload: usize,
}

impl Parcel {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }

    /// The longest packet, in bytes.
    pub(super) fn longest(&self) -> usize {
        let mut start = 0;
        let mut longest = 0;
        for packet in &self.packets {
            longest = longest.max(packet.end - start);
            start = packet.end;
        }
        longest
    }
}

/// How long a publish may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// A payload, as the operator says.
    pub(super) payload: usize,
    /// A whole packet, as the broker says.
    pub(super) packet: Option<usize>,
    /// A payload, as it was found out. A sample that is longer is tried nevertheless.
    pub(super) guessed: Option<usize>,
}

impl Limits {
    /// The most bytes that a payload under such a topic may have: for certain, and if it can be helped.
    fn of(self, topic: usize) -> (usize, usize) {
        let told = self
            .packet
            .map_or(usize::MAX, |packet| packet.saturating_sub(topic + OVERHEAD));
        let certain = self.payload.min(told);
        (
            certain,
            self.guessed
                .map_or(certain, |guessed| guessed.max(LEAST).min(certain)),
        )
    }
}

/// What came of some items.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    /// The first item that is not in the parcel yet.
    pub(super) next: usize,
    /// The first item of which a sample is too large, and why.
    pub(super) too_large: Option<(usize, String)>,
}

pub(super) struct Encoder {
    sink: String,
    gap_topic: String,
    template: Vec<TopicPart>,
    /// Whether each sample has a topic of its own.
    single: bool,
    version: MqttVersion,
    qos: Qos,
    retain: bool,
    /// Which samples of the batch belong together: their places, ordered by device and group.
    places: Vec<Place>,
    groups: HashMap<(u32, Option<u32>), u32>,
    /// By tag: the payload in which it stands.
    stands_in: Vec<u64>,
    payloads: u64,
    draft: Draft,
    topic: String,
    time: String,
}

#[derive(Clone, Copy)]
struct Place {
    group: u32,
    sample: u32,
}

/// A payload in the making.
#[derive(Default)]
struct Draft {
    /// Up to and with the values.
    text: Vec<u8>,
    /// The members of `quality` and of `source_time_ns`.
    quality: Vec<u8>,
    source_times: Vec<u8>,
    first: u64,
    /// How far each sample is behind the first.
    offsets: Vec<u64>,
    /// Whether some number was left out.
    sparse: bool,
}

/// To where a draft is cut back.
struct Mark {
    text: usize,
    quality: usize,
    source_times: usize,
    sparse: bool,
}

/// A batch with one of its groups.
#[derive(Clone, Copy)]
struct Under<'a> {
    batch: &'a Batch,
    item: usize,
    device: &'a str,
    group: &'a str,
}

impl Encoder {
    pub(super) fn new(name: &str, sink: &MqttSink) -> Self {
        Self {
            sink: name.to_owned(),
            gap_topic: topic::own(&sink.prefix, name, "gap"),
            single: sink.topic.contains(&TopicPart::Tag),
            template: sink.topic.clone(),
            version: sink.version,
            qos: sink.qos,
            retain: sink.retain,
            places: Vec::new(),
            groups: HashMap::new(),
            stands_in: Vec::new(),
            payloads: 0,
            draft: Draft::default(),
            topic: String::new(),
            time: String::new(),
        }
    }

    /// Fills the parcel with items from the `from`-th on, whole ones, until it is large enough.
    pub(super) fn encode(
        &mut self,
        items: &[Item],
        from: usize,
        limits: Limits,
        parcel: &mut Parcel,
    ) -> Encoded {
        parcel.clear();
        let mut encoded = Encoded {
            next: from,
            too_large: None,
        };
        for (at, item) in items.iter().enumerate().skip(from) {
            if parcel.bytes.len() >= PARCEL {
                break;
            }
            let too_large = match item {
                Item::Batch(batch) => self.batch(batch, at, limits, parcel),
                Item::Gap(gap) => {
                    self.gap(gap, at, parcel);
                    None
                }
            };
            if encoded.too_large.is_none() {
                encoded.too_large = too_large.map(|reason| (at, reason));
            }
            encoded.next = at + 1;
        }
        encoded
    }

    fn gap(&mut self, gap: &Gap, item: usize, parcel: &mut Parcel) {
        #[derive(Serialize)]
        struct Written<'a> {
            sink: &'a str,
            messages: u64,
            samples: u64,
            reason: &'a str,
            time: Time,
            time_ns: u64,
        }
        let payload = &mut self.draft.text;
        payload.clear();
        let written = Written {
            sink: &self.sink,
            messages: gap.messages,
            samples: gap.samples,
            reason: gap.reason.as_str(),
            time: Time(gap.at),
            time_ns: gap.at.0,
        };
        json(payload, &written);
        let id_at = wire::publish(
            &mut parcel.bytes,
            &wire::Publish {
                version: self.version,
                qos: self.qos,
                retain: false,
                topic: &self.gap_topic,
                correlation: None,
                payload,
            },
        );
        parcel.packets.push(Packet {
            end: parcel.bytes.len(),
            id_at,
            item,
            samples: 0,
            payload: payload.len(),
        });
    }

    /// Says why, if a sample is too large.
    fn batch(
        &mut self,
        batch: &Batch,
        item: usize,
        limits: Limits,
        parcel: &mut Parcel,
    ) -> Option<String> {
        self.sort(batch);
        self.time.clear();
        std::fmt::Write::write_fmt(&mut self.time, format_args!("{}", Time(batch.server_time)))
            .expect("a string takes everything");
        let places = std::mem::take(&mut self.places);
        let mut too_large = None;
        for places in places.chunk_by(|one, other| one.group == other.group) {
            let Some(first) = places
                .first()
                .and_then(|place| batch.samples.get(place.sample as usize))
            else {
                continue;
            };
            let names = batch.layout.tag(first.tag);
            let under = Under {
                batch,
                item,
                device: names
                    .map(|tag| batch.layout.device_of(tag))
                    .unwrap_or_default(),
                group: names
                    .map(|tag| batch.layout.group_of(tag))
                    .unwrap_or_default(),
            };
            let found = match self.single {
                true => self.singles(under, places, limits, parcel),
                false => self.group(under, places, limits, parcel),
            };
            too_large = too_large.or(found);
        }
        self.places = places;
        too_large
    }

    /// Puts together what belongs to one device and group, in the order in which they come; most batches have one only.
    fn sort(&mut self, batch: &Batch) {
        self.places.clear();
        self.groups.clear();
        let mut last = None;
        let mut number = 0;
        for (sample, at) in batch.samples.iter().zip(0u32..) {
            // A sample without a tag has no name, and cannot be told to anybody.
            let Some(tag) = batch.layout.tag(sample.tag) else {
                continue;
            };
            let key = (tag.device, tag.group);
            if last != Some(key) {
                last = Some(key);
                let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
                number = *self.groups.entry(key).or_insert(next);
            }
            self.places.push(Place {
                group: number,
                sample: at,
            });
        }
        if self.groups.len() > 1 {
            // Stable: within a group the order stays.
            self.places.sort_by_key(|place| place.group);
        }
    }

    /// One publish for all of them, or as few as can be.
    fn group(
        &mut self,
        under: Under<'_>,
        places: &[Place],
        limits: Limits,
        parcel: &mut Parcel,
    ) -> Option<String> {
        let batch = under.batch;
        self.topic.clear();
        let names = Names {
            sink: &self.sink,
            channel: batch.layout.channel.as_str(),
            device: under.device,
            group: under.group,
            tag: "",
        };
        topic::fill(&self.template, names, &mut self.topic);
        let (certain, wanted) = limits.of(self.topic.len());
        if self.stands_in.len() < batch.layout.tags.len() {
            self.stands_in.resize(batch.layout.tags.len(), 0);
        }
        let mut too_large = None;
        self.payloads += 1;
        self.draft.clear();
        for place in places {
            let Some((number, sample, name)) = numbered(batch, place.sample) else {
                continue;
            };
            let stands_in = self.stands_in.get_mut(sample.tag.index());
            let twice = stands_in
                .is_some_and(|last| std::mem::replace(last, self.payloads) == self.payloads);
            if twice {
                self.close(under, parcel);
                self.mark(sample);
            }
            let mark = self.draft.mark();
            self.add(under, number, sample, name);
            if self.draft.length() > wanted && self.draft.offsets.len() > 1 {
                self.draft.cut(&mark);
                self.close(under, parcel);
                self.mark(sample);
                self.add(under, number, sample, name);
            }
            if self.draft.offsets.len() == 1 && self.draft.length() > certain {
                too_large.get_or_insert_with(|| why(batch, name, self.draft.length(), certain));
                self.draft.clear();
            }
        }
        self.close(under, parcel);
        too_large
    }

    /// In the payload that is being made there is this tag.
    fn mark(&mut self, sample: &Sample) {
        if let Some(last) = self.stands_in.get_mut(sample.tag.index()) {
            *last = self.payloads;
        }
    }

    fn add(&mut self, under: Under<'_>, number: u64, sample: &Sample, name: &str) {
        let draft = &mut self.draft;
        if draft.offsets.is_empty() {
            draft.first = number;
            head(&mut draft.text, under);
            stamp(&mut draft.text, under.batch, number, &self.time);
            draft.text.extend_from_slice(b",\"values\":{");
        } else {
            draft.text.push(b',');
        }
        member(&mut draft.text, name);
        value(&mut draft.text, sample);
        if sample.quality != Quality::Good {
            separate(&mut draft.quality);
            member(&mut draft.quality, name);
            json(&mut draft.quality, sample.quality.as_str());
        }
        if let Some(WallNs(time)) = sample.source_time {
            separate(&mut draft.source_times);
            member(&mut draft.source_times, name);
            json(&mut draft.source_times, &time);
        }
        let offset = number.saturating_sub(draft.first);
        draft.sparse |= offset != draft.offsets.len() as u64;
        draft.offsets.push(offset);
    }

    /// Publishes the draft, if there is anything in it, and begins the next.
    fn close(&mut self, under: Under<'_>, parcel: &mut Parcel) {
        let samples = self.draft.offsets.len();
        if samples > 0 {
            self.draft.finish();
            self.publish(under.item, samples, parcel);
        }
        self.draft.clear();
        self.payloads += 1;
    }

    /// One publish for each of them.
    fn singles(
        &mut self,
        under: Under<'_>,
        places: &[Place],
        limits: Limits,
        parcel: &mut Parcel,
    ) -> Option<String> {
        let batch = under.batch;
        let mut too_large = None;
        for place in places {
            let Some((number, sample, name)) = numbered(batch, place.sample) else {
                continue;
            };
            self.topic.clear();
            let names = Names {
                sink: &self.sink,
                channel: batch.layout.channel.as_str(),
                device: under.device,
                group: under.group,
                tag: name,
            };
            topic::fill(&self.template, names, &mut self.topic);
            self.draft.clear();
            let text = &mut self.draft.text;
            head(text, under);
            text.extend_from_slice(b",\"tag\":");
            json(text, name);
            stamp(text, batch, number, &self.time);
            text.extend_from_slice(b",\"value\":");
            value(text, sample);
            if sample.quality != Quality::Good {
                text.extend_from_slice(b",\"quality\":");
                json(text, sample.quality.as_str());
            }
            if let Some(WallNs(time)) = sample.source_time {
                text.extend_from_slice(b",\"source_time_ns\":");
                json(text, &time);
            }
            text.push(b'}');
            let (certain, _) = limits.of(self.topic.len());
            let length = self.draft.text.len();
            if length > certain {
                too_large.get_or_insert_with(|| why(batch, name, length, certain));
                continue;
            }
            self.publish(under.item, 1, parcel);
        }
        self.draft.clear();
        too_large
    }

    fn publish(&mut self, item: usize, samples: usize, parcel: &mut Parcel) {
        let id_at = wire::publish(
            &mut parcel.bytes,
            &wire::Publish {
                version: self.version,
                qos: self.qos,
                retain: self.retain,
                topic: &self.topic,
                correlation: None,
                payload: &self.draft.text,
            },
        );
        parcel.packets.push(Packet {
            end: parcel.bytes.len(),
            id_at,
            item,
            samples,
            payload: self.draft.text.len(),
        });
    }
}

impl Draft {
    fn clear(&mut self) {
        self.text.clear();
        self.quality.clear();
        self.source_times.clear();
        self.offsets.clear();
        self.sparse = false;
    }

    fn mark(&self) -> Mark {
        Mark {
            text: self.text.len(),
            quality: self.quality.len(),
            source_times: self.source_times.len(),
            sparse: self.sparse,
        }
    }

    /// Takes the last sample out again.
    fn cut(&mut self, mark: &Mark) {
        self.text.truncate(mark.text);
        self.quality.truncate(mark.quality);
        self.source_times.truncate(mark.source_times);
        self.sparse = mark.sparse;
        self.offsets.pop();
    }

    /// How long it becomes, at most.
    fn length(&self) -> usize {
        const ENDS: usize = "}}".len();
        const QUALITY: usize = r#","quality":{}"#.len();
        const SOURCE_TIMES: usize = r#","source_time_ns":{}"#.len();
        const OFFSETS: usize = r#","offsets":[]"#.len();
        /// An offset has 32 bits; and a comma.
        const OFFSET: usize = 11;
        let part = |bytes: &[u8], name: usize| {
            if bytes.is_empty() {
                0
            } else {
                bytes.len() + name
            }
        };
        let offsets = if self.sparse {
            OFFSETS + OFFSET * self.offsets.len()
        } else {
            0
        };
        self.text.len()
            + ENDS
            + part(&self.quality, QUALITY)
            + part(&self.source_times, SOURCE_TIMES)
            + offsets
    }

    fn finish(&mut self) {
        self.text.push(b'}');
        for (name, members) in [
            ("quality", &self.quality),
            ("source_time_ns", &self.source_times),
        ] {
            if !members.is_empty() {
                self.text.push(b',');
                member(&mut self.text, name);
                self.text.push(b'{');
                self.text.extend_from_slice(members);
                self.text.push(b'}');
            }
        }
        if self.sparse {
            self.text.extend_from_slice(b",\"offsets\":");
            json(&mut self.text, &self.offsets);
        }
        self.text.push(b'}');
    }
}

fn numbered(batch: &Batch, at: u32) -> Option<(u64, &Sample, &str)> {
    let offset = match &batch.offsets {
        None => at,
        Some(offsets) => *offsets.get(at as usize)?,
    };
    let sample = batch.samples.get(at as usize)?;
    let name = batch.layout.tag(sample.tag)?.name;
    Some((
        batch.sequence.saturating_add(u64::from(offset)),
        sample,
        name,
    ))
}

/// `{"channel":..,"device":..,"group":..`
fn head(text: &mut Vec<u8>, under: Under<'_>) {
    text.extend_from_slice(b"{\"channel\":");
    json(text, under.batch.layout.channel.as_str());
    text.extend_from_slice(b",\"device\":");
    json(text, under.device);
    text.extend_from_slice(b",\"group\":");
    json(text, under.group);
}

/// `,"epoch":..,"sequence":..,"time":..,"time_ns":..`
fn stamp(text: &mut Vec<u8>, batch: &Batch, number: u64, time: &str) {
    text.extend_from_slice(b",\"epoch\":");
    json(text, &batch.epoch);
    text.extend_from_slice(b",\"sequence\":");
    json(text, &number);
    text.extend_from_slice(b",\"time\":\"");
    text.extend_from_slice(time.as_bytes());
    text.extend_from_slice(b"\",\"time_ns\":");
    json(text, &batch.server_time.0);
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

fn value(text: &mut Vec<u8>, sample: &Sample) {
    match &sample.value {
        Some(value) => json(text, &JsonValue(value)),
        None => text.extend_from_slice(b"null"),
    }
}

fn json<T: Serialize + ?Sized>(text: &mut Vec<u8>, what: &T) {
    serde_json::to_writer(text, what)
        .expect("memory takes everything, and no map is written whose keys are no texts");
}

fn why(batch: &Batch, tag: &str, bytes: usize, most: usize) -> String {
    format!(
        "a sample of {}/{tag} takes {bytes} bytes, and {most} may be published; raise `max_payload`, or let the broker take larger packets",
        batch.layout.channel
    )
}
