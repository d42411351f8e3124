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

use crate::bus::Batch;
use crate::event::{Sample, Value, WallNs};

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
    /// Which of the channel's batches, counted from 1 since the host started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

impl<'a> Record<'a> {
    /// Puts names to a sample of a batch; `None` if the channel has no such tag.
    pub fn of(batch: &'a Batch, sample: &'a Sample) -> Option<Self> {
        let tag = batch.channel.tags.get(sample.tag.index())?;
        let device = batch.channel.devices.get(tag.device.index())?;
        Some(Self {
            channel: batch.instance.channel.as_str(),
            tag: &tag.name,
            device: &device.name,
            value: sample.value.as_ref().map(JsonValue),
            quality: sample.quality.as_str(),
            source_time: sample.source_time.map(Time),
            source_time_ns: sample.source_time.map(|time| time.0),
            server_time: Time(batch.server_time),
            server_time_ns: batch.server_time.0,
            incarnation: batch.instance.incarnation,
            sequence: Some(batch.sequence),
        })
    }
}

/// What stands in a sink's output where messages were dropped, because the sink was slower than the channels for longer
/// than its queue could bear. Which batches they were shows in the sequences of each channel.
#[derive(Debug, serde::Serialize)]
pub(super) struct Gap<'a> {
    /// Messages: batches, and events, which are no business of a sink.
    pub(super) gap: u64,
    /// The samples in them.
    pub(super) samples: u64,
    pub(super) sink: &'a str,
    pub(super) server_time: Time,
    pub(super) server_time_ns: u64,
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
    }

    #[test]
    fn times_have_nine_digits() {
        let check = |ns, expected: &str| assert_eq!(Time(WallNs(ns)).to_string(), expected, "{ns}");
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1_784_379_600_000_000_001, "2026-07-18T13:00:00.000000001Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }
}
