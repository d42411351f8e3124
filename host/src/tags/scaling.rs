//! Engineering units back to raw values: `raw = (value - offset) / scale`. The other way is [`super::rule`].
//!
//! A scaled value is a double, which resolves less than a 64-bit integer does. So what was read at an end of the type may come back a
//! little beyond it: that is taken for the end, or it could be read and not written.

use crate::config::{Bounds, Tag};
use crate::event::{Scalar, Value};

/// Why a value cannot be written to a tag.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadValue {
    /// Another kind of value.
    #[error("tag {tag} is of type {expected}; {found} was given")]
    WrongType {
        /// The tag.
        tag: String,
        /// Its type.
        expected: String,
        /// What was given.
        found: String,
    },
    /// It does not fit.
    #[error("{value} does not fit tag {tag}, whose type {expected} holds {low} to {high}{scaled}")]
    OutOfRange {
        /// The tag.
        tag: String,
        /// Its type.
        expected: String,
        /// What was given.
        value: f64,
        /// The least, in the units of the tag.
        low: f64,
        /// The most, in the units of the tag.
        high: f64,
        /// Mentions the scale where there is one.
        scaled: String,
    },
    /// The configuration does not want it there.
    #[error("{value} is not written to tag {tag}, whose `{what}` is {bounds}")]
    OutOfBounds {
        /// The tag.
        tag: String,
        /// What was given.
        value: f64,
        /// The key that says so.
        what: &'static str,
        /// What it says.
        bounds: Bounds,
    },
    /// It is not a number.
    #[error("tag {tag} takes finite numbers only")]
    NotFinite {
        /// The tag.
        tag: String,
    },
    /// It has a fraction that the tag has no place for.
    #[error("{value} is no whole number, and tag {tag} is of type {expected}, without a scale")]
    NotWhole {
        /// The tag.
        tag: String,
        /// Its type.
        expected: String,
        /// What was given.
        value: f64,
    },
    /// It is too long.
    #[error(
        "the value for tag {tag} is longer than 64 KiB (the texts of an array together) or 65,536 elements"
    )]
    TooLong {
        /// The tag.
        tag: String,
    },
}

/// Whether a tag's values are scaled at all.
fn is_scaled(tag: &Tag) -> bool {
    tag.treatment.scale != 1.0 || tag.treatment.offset != 0.0
}

/// By how much a raw value may be off that was scaled, as a double, and back.
fn slack(tag: &Tag, raw: f64) -> f64 {
    let held = raw.abs() + (tag.treatment.offset / tag.treatment.scale).abs();
    match is_scaled(tag) && held.is_finite() {
        true => 4.0 * f64::EPSILON * held,
        false => 0.0,
    }
}

/// From engineering units to the device's terms, checked against the tag's type and range.
pub fn to_device(tag: &Tag, value: Value) -> Result<Value, BadValue> {
    if !value.is_within_bounds() {
        return Err(BadValue::TooLong {
            tag: tag.name.to_string(),
        });
    }
    let wrong_type = |value: &Value| BadValue::WrongType {
        tag: tag.name.to_string(),
        expected: tag.data_type.to_string(),
        found: kind_of(value),
    };
    if !tag.data_type.admits(&value) {
        return Err(wrong_type(&value));
    }
    let scalar = tag.data_type.scalar;
    match value {
        Value::Int(v) => number(tag, scalar, Number::Int(i128::from(v))),
        Value::Uint(v) => number(tag, scalar, Number::Int(i128::from(v))),
        Value::Float(v) => number(tag, scalar, Number::Float(v)),
        Value::Ints(all) => elements(tag, scalar, all.iter().map(|v| Number::Int(i128::from(*v)))),
        Value::Uints(all) => elements(tag, scalar, all.iter().map(|v| Number::Int(i128::from(*v)))),
        Value::Floats(all) => elements(tag, scalar, all.iter().map(|v| Number::Float(*v))),
        other @ (Value::Boolean(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Booleans(_)
        | Value::Texts(_)) => Ok(other),
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

fn number(tag: &Tag, scalar: Scalar, number: Number) -> Result<Value, BadValue> {
    let given = match number {
        Number::Int(v) => v as f64,
        Number::Float(v) => v,
    };
    if !given.is_finite() {
        return Err(BadValue::NotFinite {
            tag: tag.name.to_string(),
        });
    }
    for (what, bounds) in [
        ("clamp", tag.treatment.clamp),
        ("limits", tag.treatment.limits),
    ] {
        if let Some(bounds) = bounds.filter(|bounds| !bounds.contains(given)) {
            return Err(BadValue::OutOfBounds {
                tag: tag.name.to_string(),
                value: given,
                what,
                bounds,
            });
        }
    }
    let raw = match number {
        _ if is_scaled(tag) => Number::Float((given - tag.treatment.offset) / tag.treatment.scale),
        exact => exact,
    };
    let Some((low, high)) = scalar.integer_range() else {
        let raw = match raw {
            Number::Int(v) => v as f64,
            Number::Float(v) => v,
        };
        let most = if scalar == Scalar::Float32 {
            f64::from(f32::MAX)
        } else {
            f64::MAX
        };
        return if raw.abs() <= most + slack(tag, most).min(f64::MAX - most) {
            Ok(Value::Float(raw.clamp(-most, most)))
        } else {
            Err(out_of_range(tag, given, -most, most))
        };
    };
    let whole = match raw {
        Number::Int(v) => v,
        // A scaled tag takes the nearest step that it has; without a scale a fraction is a mistake.
        Number::Float(v) if !is_scaled(tag) && v.fract() != 0.0 => {
            return Err(BadValue::NotWhole {
                tag: tag.name.to_string(),
                expected: tag.data_type.to_string(),
                value: v,
            });
        }
        // The cast saturates, and what saturates is out of every range below 128 bits.
        Number::Float(v) => v.round_ties_even() as i128,
    };
    let end = whole.clamp(low, high);
    if (whole - end).unsigned_abs() as f64 > slack(tag, end as f64) {
        return Err(out_of_range(tag, given, low as f64, high as f64));
    }
    let whole = end;
    Ok(if low < 0 {
        Value::Int(i64::try_from(whole).expect("checked against a range of at most 64 bits"))
    } else {
        Value::Uint(u64::try_from(whole).expect("checked against a range of at most 64 bits"))
    })
}

fn elements(
    tag: &Tag,
    scalar: Scalar,
    all: impl Iterator<Item = Number>,
) -> Result<Value, BadValue> {
    let (mut ints, mut uints, mut floats) = (Vec::new(), Vec::new(), Vec::new());
    for element in all {
        match number(tag, scalar, element)? {
            Value::Int(v) => ints.push(v),
            Value::Uint(v) => uints.push(v),
            Value::Float(v) => floats.push(v),
            other => unreachable!("a number stays a number, not {other:?}"),
        }
    }
    Ok(match scalar.integer_range() {
        None => Value::Floats(floats.into()),
        Some((low, _)) if low < 0 => Value::Ints(ints.into()),
        Some(_) => Value::Uints(uints.into()),
    })
}

fn out_of_range(tag: &Tag, value: f64, raw_low: f64, raw_high: f64) -> BadValue {
    let ends =
        [raw_low, raw_high].map(|raw| raw.mul_add(tag.treatment.scale, tag.treatment.offset));
    let scaled = if is_scaled(tag) {
        format!(
            " (scale {}, offset {})",
            tag.treatment.scale, tag.treatment.offset
        )
    } else {
        String::new()
    };
    BadValue::OutOfRange {
        tag: tag.name.to_string(),
        expected: tag.data_type.to_string(),
        value,
        low: ends[0].min(ends[1]),
        high: ends[0].max(ends[1]),
        scaled,
    }
}

fn kind_of(value: &Value) -> String {
    let (what, length) = match value {
        Value::Boolean(_) => return "a truth value".into(),
        Value::Int(_) | Value::Uint(_) | Value::Float(_) => return "a number".into(),
        Value::Text(_) => return "text".into(),
        Value::Bytes(_) => return "bytes".into(),
        Value::Booleans(all) => ("truth values", all.len()),
        Value::Ints(all) => ("numbers", all.len()),
        Value::Uints(all) => ("numbers", all.len()),
        Value::Floats(all) => ("numbers", all.len()),
        Value::Texts(all) => ("texts", all.len()),
    };
    format!("an array of {what}, of length {length},")
}

#[cfg(test)]
pub(in crate::tags) mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::config::{Access, Treatment};
    use crate::event::DataType;
    use crate::ids::DeviceId;

    pub(in crate::tags) fn tag(data_type: &str, scale: f64, offset: f64) -> Tag {
        Tag {
            name: "t".into(),
            device: DeviceId(0),
            address: "".into(),
            data_type: DataType::parse(data_type).unwrap(),
            access: Access::ReadWrite,
            settings: Arc::default(),
            treatment: Arc::new(Treatment {
                scale,
                offset,
                ..Treatment::default()
            }),
            description: "".into(),
        }
    }

    /// The same, with another treatment.
    pub(in crate::tags) fn treated(mut tag: Tag, change: impl FnOnce(&mut Treatment)) -> Tag {
        change(Arc::make_mut(&mut tag.treatment));
        tag
    }

    #[test]
    fn writes_undo_the_scale_and_keep_to_the_type() {
        let check = |kind: &str, scale, offset, value: Value, expected: Result<Value, &str>| {
            let actual = to_device(&tag(kind, scale, offset), value.clone());
            match (actual, expected) {
                (Ok(actual), Ok(expected)) => assert_eq!(actual, expected),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (actual, expected) => panic!("{value:?} to {kind}: {actual:?}, not {expected:?}"),
            }
        };
        check("int16", 1.0, 0.0, Value::Int(-7), Ok(Value::Int(-7)));
        check("uint16", 1.0, 0.0, Value::Int(7), Ok(Value::Uint(7)));
        check("uint16", 1.0, 0.0, Value::Int(-1), Err("holds 0 to 65535"));
        check("int16", 0.1, 0.0, Value::Float(21.5), Ok(Value::Int(215)));
        check("int16", 0.1, 0.0, Value::Float(4000.0), Err("-3276.8"));
        check("int16", 1.0, 0.0, Value::Float(21.0), Ok(Value::Int(21)));
        check("int16", 1.0, 0.0, Value::Float(21.5), Err("no whole"));
        check(
            "uint64",
            1.0,
            0.0,
            Value::Uint(u64::MAX),
            Ok(Value::Uint(u64::MAX)),
        );
        check(
            "int64",
            1.0,
            0.0,
            Value::Int(i64::MIN),
            Ok(Value::Int(i64::MIN)),
        );
        check("int64", 1.0, 0.0, Value::Float(1e19), Err("does not fit"));
        check("float32", 1.0, 0.0, Value::Float(1e39), Err("does not fit"));
        check("float32", 1.0, 0.0, Value::Float(f64::NAN), Err("finite"));
        check("float64", 2.0, 1.0, Value::Int(5), Ok(Value::Float(2.0)));
        check(
            "bool",
            1.0,
            0.0,
            Value::Int(1),
            Err("of type bool; a number was given"),
        );
        check(
            "string",
            1.0,
            0.0,
            Value::Text("a".into()),
            Ok(Value::Text("a".into())),
        );
        check(
            "int16[2]",
            1.0,
            0.0,
            Value::Ints([1, 2].into()),
            Ok(Value::Ints([1, 2].into())),
        );
        check(
            "int16[2]",
            1.0,
            0.0,
            Value::Ints([1].into()),
            Err("is of type int16[2]; an array of numbers, of length 1, was given"),
        );
        let texts = |all: &[&str]| Value::Texts(all.iter().map(|text| (*text).into()).collect());
        check(
            "string[2]",
            1.0,
            0.0,
            texts(&["a", ""]),
            Ok(texts(&["a", ""])),
        );
        check(
            "string[2]",
            1.0,
            0.0,
            texts(&["a", "b", "c"]),
            Err("is of type string[2]; an array of texts, of length 3, was given"),
        );
        check(
            "string[2]",
            1.0,
            0.0,
            Value::Booleans([true, false].into()),
            Err("is of type string[2]; an array of truth values, of length 2, was given"),
        );
        check(
            "string",
            1.0,
            0.0,
            texts(&["a"]),
            Err("is of type string; an array of texts"),
        );
        let half = "x".repeat(Value::MAX_BYTES / 2);
        let whole = texts(&[&half, &half]);
        check("string[2]", 1.0, 0.0, whole.clone(), Ok(whole));
        check(
            "string[3]",
            1.0,
            0.0,
            texts(&[&half, &half, "x"]),
            Err("64 KiB"),
        );
        check(
            "string",
            1.0,
            0.0,
            Value::Text("x".repeat(70_000).into()),
            Err("64 KiB"),
        );
    }
}
