//! A sample as JSON, the same everywhere: in files, on standard output, in the API.
//!
//! - **Integers** are JSON numbers with all their digits, up to 64 bits. A reader whose numbers are doubles
//!   (JavaScript's `JSON.parse`) loses digits beyond 2^53 and should use a parser that keeps them.
//! - **Floating-point numbers** are the shortest digits that give the same double again. Those that JSON cannot write are the
//!   strings `"NaN"`, `"Infinity"` and `"-Infinity"`, as in the JSON form of Protocol Buffers: `null` is taken, for
//!   *no value*.
//! - **Bytes** are a string in base64 (RFC 4648, section 4, with padding).
//! - **Times** are given twice: RFC 3339 in UTC with nine digits of a second, and nanoseconds since 1970 under the
//!   same name with `_ns` behind it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::event::{Batch, Gap, GapReason, Item, Sample, Value, WallNs};

/// One sample, ready to be written.
#[derive(Debug, serde::Serialize)]
pub struct Record<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// The tag's name.
    pub tag: &'a str,
    /// The device's name.
    pub device: &'a str,
    /// `null` if there never was one.
    pub value: Option<JsonValue<'a>>,
    /// See [`crate::event::Quality`].
    pub quality: &'static str,
    /// When the device took it, if the protocol says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_time: Option<Time>,
    /// The same, as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_time_ns: Option<u64>,
    /// When the host received it.
    pub server_time: Time,
    /// The same, as a number.
    pub server_time_ns: u64,
    /// Which life of the channel.
    pub incarnation: u64,
    /// Raised with each start of the host; see [`Batch::epoch`].
    pub epoch: u64,
    /// Which of the channel's samples in that epoch, counted from 1: the three together are unique for ever.
    pub sequence: u64,
}

impl<'a> Record<'a> {
    /// Puts names to a sample of a batch, as [`Batch::numbered`] gives it; `None` if the channel has no such tag.
    pub fn of(batch: &'a Batch, (sequence, sample): (u64, &'a Sample)) -> Option<Self> {
        let tag = batch.layout.tag(sample.tag)?;
        Some(Self {
            channel: batch.instance.channel.as_str(),
            tag: tag.name,
            device: batch.layout.device_of(tag),
            value: sample.value.as_ref().map(JsonValue),
            quality: sample.quality.as_str(),
            source_time: sample.source_time.map(Time),
            source_time_ns: sample.source_time.map(|time| time.0),
            server_time: Time(batch.server_time),
            server_time_ns: batch.server_time.0,
            incarnation: batch.instance.incarnation,
            epoch: batch.epoch,
            sequence,
        })
    }
}

/// What stands in a sink's output where something is missing. Which samples they were shows in the numbers of each channel.
#[derive(Debug, serde::Serialize)]
pub(super) struct GapRecord<'a> {
    /// Messages: batches, and where they were not told apart events, which are no business of a sink.
    pub(super) gap: u64,
    /// The samples in them.
    pub(super) samples: u64,
    pub(super) reason: GapReason,
    pub(super) sink: &'a str,
    pub(super) server_time: Time,
    pub(super) server_time_ns: u64,
}

/// What a sink of kind `file` would write.
pub fn json_lines(items: &[Item], sink: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Batch(batch) => json_batch(&mut out, batch),
            Item::Gap(gap) => json_gap(&mut out, gap, sink),
        }
    }
    out
}

/// Appends a line for each sample.
pub(super) fn json_batch(out: &mut Vec<u8>, batch: &Batch) {
    for numbered in batch.numbered() {
        if let Some(record) = Record::of(batch, numbered) {
            json_line(out, &record);
        }
    }
}

/// Appends the line of a gap.
pub(super) fn json_gap(out: &mut Vec<u8>, gap: &Gap, sink: &str) {
    let record = GapRecord {
        gap: gap.messages,
        samples: gap.samples,
        reason: gap.reason,
        sink,
        server_time: Time(gap.at),
        server_time_ns: gap.at.0,
    };
    json_line(out, &record);
}

fn json_line(out: &mut Vec<u8>, record: &impl Serialize) {
    serde_json::to_writer(&mut *out, record)
        .expect("a record has text for keys, and a buffer takes everything");
    out.push(b'\n');
}

impl Serialize for GapReason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// A value as this module's documentation says.
#[derive(Clone, Copy, Debug)]
pub struct JsonValue<'a>(pub &'a Value);

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Boolean(v) => to.serialize_bool(*v),
            Value::Int(v) => to.serialize_i64(*v),
            Value::Uint(v) => to.serialize_u64(*v),
            Value::Float(v) => Float(*v).serialize(to),
            Value::Text(v) => to.serialize_str(v),
            Value::Bytes(v) => to.serialize_str(&BASE64.encode(v)),
            Value::Booleans(all) => all.serialize(to),
            Value::Ints(all) => all.serialize(to),
            Value::Uints(all) => all.serialize(to),
            Value::Floats(all) => {
                let mut list = to.serialize_seq(Some(all.len()))?;
                for v in all {
                    list.serialize_element(&Float(*v))?;
                }
                list.end()
            }
            Value::Texts(all) => all.serialize(to),
        }
    }
}

struct Float(f64);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_nan() => to.serialize_str("NaN"),
            f64::INFINITY => to.serialize_str("Infinity"),
            f64::NEG_INFINITY => to.serialize_str("-Infinity"),
            v => to.serialize_f64(v),
        }
    }
}

/// A moment, written as RFC 3339 in UTC with nine digits of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub WallNs);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = jiff::Timestamp::from_nanosecond(i128::from(self.0.0))
            .expect("64 bits of nanoseconds end in 2554");
        write!(f, "{timestamp:.9}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Value, expected: &str) {
        assert_eq!(
            serde_json::to_string(&JsonValue(&value)).unwrap(),
            expected,
            "{value:?}"
        );
    }

    #[test]
    fn values_are_written_without_losing_anything() {
        check(Value::Boolean(true), "true");
        check(Value::Int(i64::MIN), "-9223372036854775808");
        check(Value::Uint(u64::MAX), "18446744073709551615");
        check(Value::Int(9_007_199_254_740_993), "9007199254740993");
        check(Value::Float(0.1), "0.1");
        check(Value::Float(21.0), "21.0");
        check(Value::Float(f64::from(0.1f32)), "0.10000000149011612");
        check(Value::Float(-0.0), "-0.0");
        check(Value::Float(f64::NAN), r#""NaN""#);
        check(Value::Float(f64::INFINITY), r#""Infinity""#);
        check(Value::Text("a\"\n".into()), r#""a\"\n""#);
        check(Value::Bytes([0, 255, 16].into()), r#""AP8Q""#);
        check(Value::Booleans([true, false].into()), "[true,false]");
        check(
            Value::Uints([u64::MAX, 0].into()),
            "[18446744073709551615,0]",
        );
        check(
            Value::Floats([1.5, f64::NEG_INFINITY].into()),
            r#"[1.5,"-Infinity"]"#,
        );
        check(
            Value::Texts(["a\"\n".into(), "".into()].into()),
            r#"["a\"\n",""]"#,
        );
    }

    #[test]
    fn times_have_nine_digits() {
        let check = |ns, expected: &str| assert_eq!(Time(WallNs(ns)).to_string(), expected, "{ns}");
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1_784_379_600_000_000_001, "2026-07-18T13:00:00.000000001Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }
}
