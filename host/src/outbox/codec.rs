//! How batches stand on the disk. Pure.
//!
//! ```text
//! chunk   = varint entries, then each entry
//! entry   = 0, batch | 1, gap
//! batch   = varint layout, incarnation, epoch, sequence; u64 server time; varint samples;
//!           0 | 1, varint of each offset's distance to the one before
//!           then each sample
//! sample  = varint tag (zigzag, from the tag before plus one), head, [source time], [value]
//! head    = quality (its place in `Quality::ALL`) | 0x20 a source time follows | 0x40 a value follows
//! time    = varint (zigzag, from the server time)
//! value   = 1 byte of type, then its bytes: whole numbers as varints, floating-point numbers in 8 bytes, texts and arrays
//!           after their length
//! gap     = varint messages, samples; 1 byte of reason; u64 time
//! ```
//!
//! Numbers of fixed length are little endian, varints are LEB128. A layout stands in a record of its own, once, in JSON.
//!
//! What is read may be damaged: every length is checked against what is there, and nothing is reserved that the bytes do not
//! justify.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Batch, Gap, GapReason, Item, Layout, Quality, Sample, TagNames, Value, WallNs};
use crate::ids::{ChannelId, InstanceId, TagId};

/// Why bytes are no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is written there is not what this host writes ({0})")]
pub(super) struct Damage(&'static str);

const SOURCE_TIME: u8 = 0x20;
const VALUE: u8 = 0x40;
const QUALITY: u8 = 0x1f;

/// Appends the head of a batch's entry; `layout` is the number of its layout. [`write_batch`] is to follow.
pub(super) fn write_batch_head(out: &mut Vec<u8>, layout: u64) {
    out.push(0);
    varint(out, layout);
}

/// Appends the head of a gap's entry. [`write_gap`] is to follow.
pub(super) fn write_gap_head(out: &mut Vec<u8>) {
    out.push(1);
}

/// Appends a gap, behind its head.
pub(super) fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    varint(out, gap.messages);
    varint(out, gap.samples);
    out.push(gap.reason as u8);
    out.extend_from_slice(&gap.at.0.to_le_bytes());
}

/// Appends a batch, behind its head.
pub(super) fn write_batch(out: &mut Vec<u8>, batch: &Batch) {
    // Most values take three bytes or fewer, behind four others.
    out.reserve(32 + 8 * batch.samples.len());
    for number in [batch.instance.incarnation, batch.epoch, batch.sequence] {
        varint(out, number);
    }
    out.extend_from_slice(&batch.server_time.0.to_le_bytes());
    varint(out, batch.samples.len() as u64);
    match &batch.offsets {
        None => out.push(0),
        Some(offsets) => {
            out.push(1);
            let mut before = 0;
            for offset in offsets {
                varint(out, u64::from(offset.wrapping_sub(before)));
                before = *offset;
            }
        }
    }
    let mut expected = 0_u32;
    for sample in &batch.samples {
        let away = i64::from(sample.tag.0) - i64::from(expected);
        varint(out, zigzag(away));
        expected = sample.tag.0.wrapping_add(1);
        let mut head = sample.quality as u8;
        if sample.source_time.is_some() {
            head |= SOURCE_TIME;
        }
        if sample.value.is_some() {
            head |= VALUE;
        }
        out.push(head);
        if let Some(time) = sample.source_time {
            varint(
                out,
                zigzag(time.0.wrapping_sub(batch.server_time.0).cast_signed()),
            );
        }
        if let Some(value) = &sample.value {
            write_value(out, value);
        }
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    let list = |out: &mut Vec<u8>, kind, length: usize| {
        out.push(kind);
        varint(out, length as u64);
    };
    match value {
        Value::Boolean(false) => out.push(0),
        Value::Boolean(true) => out.push(1),
        Value::Int(v) => {
            out.push(2);
            varint(out, zigzag(*v));
        }
        Value::Uint(v) => {
            out.push(3);
            varint(out, *v);
        }
        Value::Float(v) => {
            out.push(4);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::Text(v) => {
            list(out, 5, v.len());
            out.extend_from_slice(v.as_bytes());
        }
        Value::Bytes(v) => {
            list(out, 6, v.len());
            out.extend_from_slice(v);
        }
        Value::Booleans(all) => {
            list(out, 7, all.len());
            out.extend(all.iter().map(|v| u8::from(*v)));
        }
        Value::Ints(all) => {
            list(out, 8, all.len());
            all.iter().for_each(|v| varint(out, zigzag(*v)));
        }
        Value::Uints(all) => {
            list(out, 9, all.len());
            all.iter().for_each(|v| varint(out, *v));
        }
        Value::Floats(all) => {
            list(out, 10, all.len());
            all.iter()
                .for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        }
        Value::Texts(all) => {
            list(out, 11, all.len());
            for text in all {
                varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// Appends a number, least bits first, seven to a byte.
pub(super) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Small numbers of either sign become small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Reads a whole chunk. `layouts` knows the layouts by their numbers.
pub(super) fn read_chunk(
    bytes: &[u8],
    layouts: &mut dyn FnMut(u64) -> Option<Arc<Layout>>,
) -> Result<Vec<Item>, Damage> {
    let mut reader = Reader {
        rest: bytes,
        instances: HashMap::new(),
    };
    let count = reader.count(1)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(match reader.byte()? {
            0 => Item::Batch(Arc::new(reader.batch(layouts)?)),
            1 => Item::Gap(reader.gap()?),
            _ => return Err(Damage("an entry of no kind")),
        });
    }
    match reader.rest {
        [] => Ok(entries),
        _ => Err(Damage("more bytes than entries")),
    }
}

struct Reader<'b> {
    rest: &'b [u8],
    /// The same for batches that follow each other.
    instances: HashMap<(u64, u64), Arc<InstanceId>>,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Damage> {
        let (first, rest) = self.rest.split_first().ok_or(Damage("it ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], Damage> {
        let found = self.rest.split_at_checked(length);
        let (bytes, rest) = found.ok_or(Damage("it ends too early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn eight(&mut self) -> Result<[u8; 8], Damage> {
        let found = self.rest.split_first_chunk::<8>();
        let (bytes, rest) = found.ok_or(Damage("it ends too early"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damage("a number of more than 64 bits"))
    }

    /// A number of things, each of which takes so many bytes at least.
    fn count(&mut self, each: usize) -> Result<usize, Damage> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Damage("a length beyond the end")),
        }
    }

    fn gap(&mut self) -> Result<Gap, Damage> {
        let (messages, samples) = (self.varint()?, self.varint()?);
        let reason = usize::from(self.byte()?);
        let reason = *GapReason::ALL
            .get(reason)
            .ok_or(Damage("a gap for no reason"))?;
        let at = WallNs(u64::from_le_bytes(self.eight()?));
        Ok(Gap {
            messages,
            samples,
            reason,
            at,
        })
    }

    fn batch(
        &mut self,
        layouts: &mut dyn FnMut(u64) -> Option<Arc<Layout>>,
    ) -> Result<Batch, Damage> {
        let number = self.varint()?;
        let layout = layouts(number).ok_or(Damage("a layout that is not there"))?;
        let incarnation = self.varint()?;
        let (epoch, sequence) = (self.varint()?, self.varint()?);
        let server_time = WallNs(u64::from_le_bytes(self.eight()?));
        let count = self.count(2)?;
        let offsets = match self.byte()? {
            0 => None,
            1 => Some(self.offsets(count)?),
            _ => return Err(Damage("offsets of no kind")),
        };
        let instance = self
            .instances
            .entry((number, incarnation))
            .or_insert_with(|| {
                Arc::new(InstanceId {
                    channel: layout.channel.clone(),
                    incarnation,
                })
            });
        let instance = instance.clone();
        let mut samples = Vec::with_capacity(count);
        let mut expected = 0_u32;
        for _ in 0..count {
            let tag = i64::from(expected).checked_add(unzigzag(self.varint()?));
            let tag = tag.and_then(|tag| u32::try_from(tag).ok());
            let tag = tag.ok_or(Damage("a tag of no number"))?;
            expected = tag.wrapping_add(1);
            samples.push(self.sample(TagId(tag), server_time)?);
        }
        Ok(Batch {
            instance,
            layout,
            epoch,
            sequence,
            offsets,
            server_time,
            samples,
        })
    }

    fn offsets(&mut self, count: usize) -> Result<Box<[u32]>, Damage> {
        let mut offsets = Vec::with_capacity(count);
        let mut at = 0_u32;
        for _ in 0..count {
            let away = u32::try_from(self.varint()?).ok();
            at = away
                .and_then(|away| at.checked_add(away))
                .ok_or(Damage("an offset too far"))?;
            offsets.push(at);
        }
        Ok(offsets.into())
    }

    fn sample(&mut self, tag: TagId, server_time: WallNs) -> Result<Sample, Damage> {
        let head = self.byte()?;
        let quality = Quality::ALL.get(usize::from(head & QUALITY));
        let quality = *quality.ok_or(Damage("a quality that is none"))?;
        let source_time = match head & SOURCE_TIME {
            0 => None,
            _ => Some(WallNs(
                server_time
                    .0
                    .wrapping_add(unzigzag(self.varint()?).cast_unsigned()),
            )),
        };
        let value = match head & VALUE {
            0 => None,
            _ => Some(self.value()?),
        };
        Ok(Sample {
            tag,
            value,
            quality,
            source_time,
        })
    }

    fn value(&mut self) -> Result<Value, Damage> {
        Ok(match self.byte()? {
            0 => Value::Boolean(false),
            1 => Value::Boolean(true),
            2 => Value::Int(unzigzag(self.varint()?)),
            3 => Value::Uint(self.varint()?),
            4 => Value::Float(f64::from_le_bytes(self.eight()?)),
            5 => Value::Text(self.text()?),
            6 => {
                let length = self.count(1)?;
                Value::Bytes(self.bytes(length)?.into())
            }
            7 => {
                let length = self.count(1)?;
                Value::Booleans(self.bytes(length)?.iter().map(|byte| *byte != 0).collect())
            }
            8 => {
                let all = (0..self.count(1)?).map(|_| Ok(unzigzag(self.varint()?)));
                Value::Ints(all.collect::<Result<_, Damage>>()?)
            }
            9 => {
                let all = (0..self.count(1)?).map(|_| self.varint());
                Value::Uints(all.collect::<Result<_, Damage>>()?)
            }
            10 => {
                let all = (0..self.count(8)?).map(|_| Ok(f64::from_le_bytes(self.eight()?)));
                Value::Floats(all.collect::<Result<_, Damage>>()?)
            }
            11 => {
                let all = (0..self.count(1)?).map(|_| self.text());
                Value::Texts(all.collect::<Result<_, Damage>>()?)
            }
            _ => return Err(Damage("a value of no type")),
        })
    }

    fn text(&mut self) -> Result<Box<str>, Damage> {
        let length = self.count(1)?;
        let text = std::str::from_utf8(self.bytes(length)?);
        Ok(text.map_err(|_| Damage("a text that is none"))?.into())
    }
}

/// Name, unit, device, group.
type TagRecord<T> = (T, T, u32, Option<u32>);

/// A layout as its record has it.
#[derive(serde::Serialize, serde::Deserialize)]
struct LayoutRecord<T> {
    channel: String,
    devices: Vec<Box<str>>,
    groups: Vec<Box<str>>,
    tags: Vec<TagRecord<T>>,
}

/// The bytes of a layout: the same for the same layout, always.
pub(super) fn write_layout(layout: &Layout) -> Vec<u8> {
    let tags = layout.tags.iter();
    let record = LayoutRecord {
        channel: layout.channel.as_str().to_owned(),
        devices: layout.devices.to_vec(),
        groups: layout.groups.to_vec(),
        tags: tags
            .map(|tag| (tag.name, tag.unit, tag.device, tag.group))
            .collect(),
    };
    serde_json::to_vec(&record).expect("a record has text for keys, and memory takes everything")
}

/// The layout of these bytes.
pub(super) fn read_layout(bytes: &[u8]) -> Result<Layout, Damage> {
    let record: LayoutRecord<Box<str>> =
        serde_json::from_slice(bytes).map_err(|_| Damage("a layout that is none"))?;
    let channel = ChannelId::new(&record.channel);
    let tags = record.tags.iter();
    Ok(Layout {
        channel: channel.map_err(|_| Damage("a channel of no name"))?,
        devices: record.devices.into(),
        groups: record.groups.into(),
        tags: tags
            .map(|(name, unit, device, group)| TagNames {
                name,
                unit,
                device: *device,
                group: *group,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Arc<Layout> {
        let tag = |name, group| TagNames {
            name,
            unit: "°C",
            device: 0,
            group,
        };
        Arc::new(Layout {
            channel: ChannelId::new("press-3").unwrap(),
            devices: ["press".into()].into(),
            groups: ["fast".into()].into(),
            tags: [tag("a", Some(0)), tag("b", None)].into_iter().collect(),
        })
    }

    /// A batch of every kind of value, quality and time.
    fn batch(offsets: bool) -> Item {
        let values = [
            Value::Boolean(true),
            Value::Boolean(false),
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Uint(u64::MAX),
            Value::Float(-0.0),
            Value::Float(f64::INFINITY),
            Value::Text("é\0\n".into()),
            Value::Bytes([0, 255].into()),
            Value::Booleans([true, false].into()),
            Value::Ints([i64::MAX, 0, -64].into()),
            Value::Uints([0, 127, 128].into()),
            Value::Floats([0.1, f64::MIN].into()),
            Value::Text("".into()),
            Value::Uints([].into()),
            Value::Texts(["é\0".into(), "".into(), "b".into()].into()),
            Value::Texts([].into()),
        ];
        let mut samples: Vec<Sample> = Vec::new();
        for (at, value) in values.into_iter().enumerate() {
            samples.push(Sample {
                tag: TagId([7, 8, u32::MAX, 0][at % 4]),
                value: Some(value),
                quality: Quality::Good,
                source_time: [None, Some(WallNs(0)), Some(WallNs(u64::MAX))][at % 3],
            });
        }
        for quality in Quality::ALL {
            samples.push(Sample {
                tag: TagId(1),
                value: None,
                quality: *quality,
                source_time: Some(WallNs(1_784_379_600_000_000_001)),
            });
        }
        let many = samples.len() as u32;
        Item::Batch(Arc::new(Batch {
            instance: Arc::new(InstanceId {
                channel: ChannelId::new("press-3").unwrap(),
                incarnation: 300,
            }),
            layout: layout(),
            epoch: 9,
            sequence: u64::MAX / 2,
            offsets: offsets.then(|| (0..many).map(|at| at * 3).collect()),
            server_time: WallNs(1_784_379_600_000_000_000),
            samples,
        }))
    }

    fn chunk(entries: &[Item]) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint(&mut bytes, entries.len() as u64);
        for entry in entries {
            match entry {
                Item::Batch(batch) => {
                    write_batch_head(&mut bytes, 5);
                    write_batch(&mut bytes, batch);
                }
                Item::Gap(gap) => {
                    write_gap_head(&mut bytes);
                    write_gap(&mut bytes, gap);
                }
            }
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Item>, Damage> {
        read_chunk(bytes, &mut |number| (number == 5).then(layout))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let gap = Item::Gap(Gap {
            messages: 3,
            samples: 1 << 40,
            reason: GapReason::Age,
            at: WallNs(u64::MAX),
        });
        let entries = [batch(false), gap, batch(true)];
        assert_eq!(read(&chunk(&entries)).unwrap(), entries);
        assert_eq!(read(&chunk(&[])).unwrap(), []);
        let bytes = write_layout(&layout());
        assert_eq!(read_layout(&bytes).unwrap(), *layout());
        // What is stored is known by these bytes.
        let expected = r#"{"channel":"press-3","devices":["press"],"groups":["fast"],"tags":[["a","°C",0,0],["b","°C",0,null]]}"#;
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    /// What an earlier version has left in an outbox is read by this one: a kind of value keeps its number, and its bytes.
    #[test]
    fn values_are_read_as_they_were_written_before() {
        let check = |bytes: &[u8], value: Value| {
            let mut reader = Reader {
                rest: bytes,
                instances: HashMap::new(),
            };
            assert_eq!(reader.value(), Ok(value));
            assert_eq!(reader.rest, [0_u8; 0]);
        };
        check(&[0], Value::Boolean(false));
        check(&[1], Value::Boolean(true));
        check(&[2, 1], Value::Int(-1));
        check(&[3, 128, 1], Value::Uint(128));
        check(&[4, 0, 0, 0, 0, 0, 0, 248, 63], Value::Float(1.5));
        check(&[5, 2, b'a', b'b'], Value::Text("ab".into()));
        check(&[6, 1, 255], Value::Bytes([255].into()));
        check(&[7, 2, 1, 0], Value::Booleans([true, false].into()));
        check(&[8, 1, 1], Value::Ints([-1].into()));
        check(&[9, 1, 1], Value::Uints([1].into()));
        let floats = [10, 1, 0, 0, 0, 0, 0, 0, 248, 63];
        check(&floats, Value::Floats([1.5].into()));
        let texts = [11, 2, 1, b'a', 0];
        check(&texts, Value::Texts(["a".into(), "".into()].into()));
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_and_never_more() {
        let whole = chunk(&[batch(true), batch(false)]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(read(&longer).is_err());
        for at in 0..whole.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut other = whole.clone();
                other[at] ^= bits;
                // Whatever comes out: it ends, and reserves no more than the bytes justify.
                drop(read(&other));
            }
        }
        let of_all = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&of_all), Err(Damage("a length beyond the end")));
    }
}
