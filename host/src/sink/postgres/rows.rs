//! Samples as rows, in the binary form of `COPY` (PostgreSQL manual, `COPY`, "Binary Format").
//!
//! Each number is written with its length before it, so the columns of the table must have exactly the types of [`COLUMNS`];
//! `schema` casts nothing and makes the table that takes the rows in with the same list.
//!
//! What a table cannot hold as it is:
//! - `value` is a double: whole numbers beyond 2^53 are the nearest one there, and stand in `value_exact` with all their digits.
//! - A text cannot hold the character NUL: it is stored as `␀` (U+2400).
//! - Nanoseconds after 2262-04-11 do not fit: what is later is stored as the last moment that does.

use std::borrow::Cow;

use crate::event::{Batch, Sample, Value, WallNs};
use crate::sink::record::JsonValue;

/// The columns in the order of the rows, with their types.
pub(super) const COLUMNS: [(&str, &str); 12] = [
    ("channel", "text"),
    ("epoch", "bigint"),
    ("sequence", "bigint"),
    ("tag", "text"),
    ("device", "text"),
    ("grp", "text"),
    ("server_time", "timestamptz"),
    ("server_time_ns", "bigint"),
    ("source_time_ns", "bigint"),
    ("quality", "text"),
    ("value", "double precision"),
    ("value_exact", "jsonb"),
];

/// What begins the binary form: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it: no further row.
const TRAILER: &[u8] = &[0xff, 0xff];
/// Seconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH_SECONDS: i64 = 946_684_800;
/// Up to here each whole number is a double.
const EXACT: u64 = 1 << 53;

/// Why a batch can never be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRow {
    #[error("its epoch or its numbers are beyond what a bigint holds")]
    Number,
    #[error("a value in it is longer than a row may be")]
    Length,
}

/// Rows, ready to be sent piece by piece.
#[derive(Debug)]
pub(super) struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            bytes: HEADER.to_vec(),
        }
    }

    /// How much waits to be sent.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What waits to be sent.
    pub(super) fn take(&mut self) -> bytes::Bytes {
        let next = Vec::with_capacity(self.bytes.capacity());
        std::mem::replace(&mut self.bytes, next).into()
    }

    /// Ends them; what is left is to be sent.
    pub(super) fn end(mut self) -> bytes::Bytes {
        self.bytes.extend_from_slice(TRAILER);
        self.bytes.into()
    }

    /// Appends a row for each sample, or nothing.
    pub(super) fn push(&mut self, batch: &Batch) -> Result<(), NoRow> {
        let before = self.bytes.len();
        let pushed = batch
            .numbered()
            .try_for_each(|(number, sample)| self.row(batch, number, sample));
        if pushed.is_err() {
            self.bytes.truncate(before);
        }
        pushed
    }

    fn row(&mut self, batch: &Batch, number: u64, sample: &Sample) -> Result<(), NoRow> {
        // The host publishes no tag that the channel does not have.
        let Some(tag) = batch.layout.tag(sample.tag) else {
            return Ok(());
        };
        let signed = |number: u64| i64::try_from(number).map_err(|_| NoRow::Number);
        self.bytes.extend_from_slice(&12i16.to_be_bytes());
        self.text(batch.layout.channel.as_str())?;
        self.bigint(signed(batch.epoch)?);
        self.bigint(signed(number)?);
        self.text(tag.name)?;
        self.text(batch.layout.device_of(tag))?;
        self.text(batch.layout.group_of(tag))?;
        self.bigint(micros_since_2000(batch.server_time));
        self.bigint(nanos(batch.server_time));
        match sample.source_time {
            Some(time) => self.bigint(nanos(time)),
            None => self.null(),
        }
        self.text(sample.quality.as_str())?;
        match sample.value.as_ref().and_then(double) {
            Some(value) => self.field(&value.to_be_bytes())?,
            None => self.null(),
        }
        match &sample.value {
            Some(value) if !double_says_all(value) => self.json(value),
            _ => {
                self.null();
                Ok(())
            }
        }
    }

    fn field(&mut self, bytes: &[u8]) -> Result<(), NoRow> {
        let length = i32::try_from(bytes.len()).map_err(|_| NoRow::Length)?;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn bigint(&mut self, number: i64) {
        self.bytes.extend_from_slice(&8i32.to_be_bytes());
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
    }

    fn text(&mut self, text: &str) -> Result<(), NoRow> {
        self.field(without_nul(text).as_bytes())
    }

    /// The binary form of `jsonb`: its version, and JSON as text.
    fn json(&mut self, value: &Value) -> Result<(), NoRow> {
        let stored = match value {
            Value::Text(text) if text.contains('\0') => {
                Cow::Owned(Value::Text(without_nul(text).into()))
            }
            Value::Texts(all) if all.iter().any(|text| text.contains('\0')) => {
                let all = all.iter().map(|text| without_nul(text).into());
                Cow::Owned(Value::Texts(all.collect()))
            }
            other => Cow::Borrowed(other),
        };
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0, 0, 0, 1]);
        serde_json::to_writer(&mut self.bytes, &JsonValue(&stored)).map_err(|_| NoRow::Length)?;
        let length = i32::try_from(self.bytes.len() - at - 4).map_err(|_| NoRow::Length)?;
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }
}

/// The value as a curve would draw it; `None` for what no curve draws.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is lost here stands in `value_exact`"
)]
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Boolean(truth) => Some(f64::from(u8::from(*truth))),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(_)
        | Value::Bytes(_)
        | Value::Booleans(_)
        | Value::Ints(_)
        | Value::Uints(_)
        | Value::Floats(_)
        | Value::Texts(_) => None,
    }
}

/// Whether nothing of the value is lost as a double.
fn double_says_all(value: &Value) -> bool {
    match value {
        Value::Int(number) => number.unsigned_abs() <= EXACT,
        Value::Uint(number) => *number <= EXACT,
        Value::Float(_) => true,
        _ => false,
    }
}

fn without_nul(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{2400}").into(),
        false => text.into(),
    }
}

/// Nanoseconds since 1970, as far as a bigint goes.
pub(super) fn nanos(time: WallNs) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// As PostgreSQL counts time; nanoseconds are cut, not rounded, so that no two samples change places.
pub(super) fn micros_since_2000(time: WallNs) -> i64 {
    let micros = i64::try_from(time.0 / 1_000).unwrap_or(i64::MAX);
    micros - EPOCH_SECONDS * 1_000_000
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Layout, Quality, TagNames};
    use crate::ids::{ChannelId, InstanceId, TagId};

    fn batch(epoch: u64, values: Vec<Option<Value>>) -> Batch {
        let channel = ChannelId::new("press").unwrap();
        let tag = TagNames {
            name: "t\0",
            unit: "",
            device: 0,
            group: None,
        };
        Batch {
            instance: Arc::new(InstanceId {
                channel: channel.clone(),
                incarnation: 1,
            }),
            layout: Arc::new(Layout {
                channel,
                devices: ["plc".into()].into(),
                groups: [].into(),
                tags: [tag].into_iter().collect(),
            }),
            epoch,
            sequence: 7,
            offsets: None,
            server_time: WallNs(EPOCH_SECONDS as u64 * 1_000_000_000 + 1_999),
            samples: values
                .into_iter()
                .map(|value| Sample {
                    tag: TagId(0),
                    value,
                    quality: Quality::Good,
                    source_time: Some(WallNs(u64::MAX)),
                })
                .collect(),
        }
    }

    /// The fields of each row.
    fn read(bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
        let mut rest = bytes.strip_prefix(HEADER).unwrap();
        let mut take = |count: usize| {
            let (taken, behind) = rest.split_at(count);
            rest = behind;
            taken.to_vec()
        };
        let mut rows = Vec::new();
        loop {
            let fields = i16::from_be_bytes(take(2).try_into().unwrap());
            if fields == -1 {
                assert!(rest.is_empty());
                return rows;
            }
            let row = (0..fields).map(|_| {
                let length = i32::from_be_bytes(take(4).try_into().unwrap());
                usize::try_from(length).ok().map(&mut take)
            });
            rows.push(row.collect());
        }
    }

    #[test]
    fn a_row_has_every_column() {
        let mut rows = Rows::new();
        rows.push(&batch(3, vec![Some(Value::Float(1.5)), None]))
            .unwrap();
        let rows = read(&rows.end());
        assert_eq!(rows.len(), 2);
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let number = |number: i64| Some(number.to_be_bytes().to_vec());
        let time = EPOCH_SECONDS * 1_000_000_000 + 1_999;
        assert_eq!(
            rows[0],
            [
                text("press"),
                number(3),
                number(7),
                text("t\u{2400}"),
                text("plc"),
                text(""),
                number(1),
                number(time),
                number(i64::MAX),
                text("good"),
                Some(1.5f64.to_be_bytes().to_vec()),
                None,
            ]
        );
        assert_eq!(rows[0].len(), COLUMNS.len());
        assert_eq!((&rows[1][2], &rows[1][10]), (&number(8), &None));
    }

    #[test]
    fn what_a_double_cannot_say_stands_beside_it() {
        let check = |value: Value, double: Option<f64>, exact: Option<&str>| {
            let mut rows = Rows::new();
            rows.push(&batch(1, vec![Some(value)])).unwrap();
            let row = read(&rows.end()).remove(0);
            let found = row[10]
                .as_deref()
                .map(|b| f64::from_be_bytes(b.try_into().unwrap()));
            let json = row[11].as_deref().map(|b| {
                assert_eq!(b[0], 1);
                std::str::from_utf8(&b[1..]).unwrap()
            });
            assert_eq!(
                (found.map(f64::to_bits), json),
                (double.map(f64::to_bits), exact)
            );
        };
        check(Value::Boolean(true), Some(1.0), Some("true"));
        check(Value::Int(-5), Some(-5.0), None);
        check(Value::Uint(EXACT), Some(9_007_199_254_740_992.0), None);
        check(
            Value::Uint(EXACT + 1),
            Some(9_007_199_254_740_992.0),
            Some("9007199254740993"),
        );
        check(
            Value::Int(i64::MIN),
            Some(-9.223_372_036_854_776e18),
            Some("-9223372036854775808"),
        );
        check(Value::Float(-0.0), Some(-0.0), None);
        check(Value::Float(f64::INFINITY), Some(f64::INFINITY), None);
        check(Value::Text("a\0".into()), None, Some("\"a\u{2400}\""));
        check(Value::Bytes([0, 255, 16].into()), None, Some("\"AP8Q\""));
        check(Value::Ints([1, 2].into()), None, Some("[1,2]"));
        check(
            Value::Texts(["a\0".into(), "b".into()].into()),
            None,
            Some("[\"a\u{2400}\",\"b\"]"),
        );
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let mut rows = Rows::new();
        assert_eq!(rows.push(&batch(u64::MAX, vec![None])), Err(NoRow::Number));
        let mut late = batch(1, vec![None]);
        late.sequence = i64::MAX as u64;
        late.samples.push(late.samples[0].clone());
        assert_eq!(rows.push(&late), Err(NoRow::Number));
        assert!(read(&rows.end()).is_empty());
    }
}
