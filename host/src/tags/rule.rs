//! What the way from a driver to the consumers must know of a tag, in one cache line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Bounds, Part, Report, Tag};
use crate::event::{DataType, Scalar, Value};
use crate::ids::DeviceId;

/// What a tag's samples may be, and what becomes of them. Made once from the configuration.
#[derive(Clone, Debug)]
pub struct Rule {
    kind: Kind,
    scalar: Scalar,
    /// The number of elements of an array; 0 for a single value.
    elements: u32,
    /// Whether only whole numbers from `least` to `most` fit.
    whole: bool,
    least: i64,
    most: u64,
    scale: Scale,
    /// The divisor or the factor, and what is added afterwards.
    by: f64,
    offset: f64,
    pub(super) device: DeviceId,
    pub(super) report: Report,
    pub(super) deadband: f64,
    /// What few tags have; on the heap, so that the others stay in one cache line.
    pub(super) rare: Option<Box<Rare>>,
}

/// What few tags have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rare {
    part: Option<Part>,
    clamp: Option<Bounds>,
    limits: Option<Bounds>,
    /// Zero where there is none.
    pub(super) interval: Duration,
    pub(super) max_silence: Option<Duration>,
}

/// The rules of a channel's tags. Those that are treated alike share theirs: it is looked up for each sample, and a few are at hand where
/// thousands are not.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    distinct: Box<[Rule]>,
    /// Which of them, for each tag.
    of_tags: Box<[u32]>,
}

impl Rules {
    /// The rules of these tags, in their order.
    pub fn new(tags: &[Tag]) -> Self {
        let mut distinct = Vec::new();
        let mut known = HashMap::new();
        let of_tags = tags.iter().map(|tag| {
            let key = (Arc::as_ptr(&tag.treatment), tag.data_type, tag.device);
            *known.entry(key).or_insert_with(|| {
                distinct.push(Rule::new(tag));
                u32::try_from(distinct.len() - 1).expect("a channel has at most 100,000 tags")
            })
        });
        Self {
            of_tags: of_tags.collect(),
            distinct: distinct.into(),
        }
    }

    /// What holds for the tag at this place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&Rule> {
        self.distinct.get(*self.of_tags.get(place)? as usize)
    }
}

impl Rare {
    fn of(tag: &Tag) -> Option<Box<Self>> {
        let rare = Self {
            part: tag.treatment.part,
            clamp: tag.treatment.clamp,
            limits: tag.treatment.limits,
            interval: tag.treatment.interval,
            max_silence: tag.treatment.max_silence,
        };
        (rare != Self::default()).then(|| Box::new(rare))
    }
}

/// What a type is made of, as far as values tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Text,
    Bytes,
}

/// How the device's terms become engineering units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    None,
    /// A scale of 0.1 is a division by 10, which is exact where a multiplication by the nearest double to 0.1 is not.
    Divide,
    Multiply,
}

impl Rule {
    /// What holds for this tag.
    pub fn new(tag: &Tag) -> Self {
        let DataType { scalar, elements } = tag.data_type;
        // What lies outside of 64 bits is outside of every integer type.
        let range = scalar.integer_range().map(|(low, high)| {
            (
                i64::try_from(low).unwrap_or(i64::MIN),
                u64::try_from(high).unwrap_or(u64::MAX),
            )
        });
        let (least, most) = range.unwrap_or((i64::MIN, u64::MAX));
        let (scale, by) = Scale::new(tag.treatment.scale, tag.treatment.offset);
        Self {
            kind: match scalar {
                Scalar::Bool => Kind::Boolean,
                Scalar::String => Kind::Text,
                Scalar::Bytes => Kind::Bytes,
                _ => Kind::Number,
            },
            scalar,
            elements: elements.unwrap_or(0),
            whole: range.is_some(),
            least,
            most,
            scale,
            by,
            offset: tag.treatment.offset,
            device: tag.device,
            report: tag.treatment.report,
            deadband: tag.treatment.deadband,
            rare: Rare::of(tag),
        }
    }

    /// Whether consumers are told every value and quality that the table takes in, but for those that are as before: what they were told
    /// last is what is known now. Not so where small changes are kept back, or where it matters when they were told.
    #[inline]
    pub(super) fn tells_what_it_knows(&self) -> bool {
        match self.report {
            Report::Always => true,
            Report::Change => {
                self.deadband == 0.0
                    && self
                        .rare
                        .as_ref()
                        .is_none_or(|rare| rare.max_silence.is_none())
            }
            _ => false,
        }
    }

    /// The tag's type.
    pub(super) fn data_type(&self) -> DataType {
        DataType {
            scalar: self.scalar,
            elements: (self.elements != 0).then_some(self.elements),
        }
    }

    /// Whether the tag holds single truth values.
    #[inline]
    pub fn holds_boolean(&self) -> bool {
        self.kind == Kind::Boolean && self.elements == 0
    }

    /// Whether the tag holds single numbers, of whatever type.
    #[inline]
    pub fn holds_number(&self) -> bool {
        self.kind == Kind::Number && self.elements == 0
    }

    /// Whether the tag holds texts.
    #[inline]
    pub fn holds_text(&self) -> bool {
        self.kind == Kind::Text && self.elements == 0
    }

    /// Whether the tag holds byte strings.
    #[inline]
    pub fn holds_bytes(&self) -> bool {
        self.kind == Kind::Bytes && self.elements == 0
    }

    /// Whether the tag holds arrays of so many truth values.
    #[inline]
    pub fn holds_booleans(&self, count: usize) -> bool {
        self.kind == Kind::Boolean && self.is_array_of(count)
    }

    /// Whether the tag holds arrays of so many texts.
    #[inline]
    pub fn holds_texts(&self, count: usize) -> bool {
        self.kind == Kind::Text && self.is_array_of(count)
    }

    /// Whether the tag holds arrays of so many numbers, of whatever type.
    #[inline]
    pub fn holds_numbers(&self, count: usize) -> bool {
        self.kind == Kind::Number && self.is_array_of(count)
    }

    #[inline]
    fn is_array_of(&self, count: usize) -> bool {
        self.elements != 0 && self.elements as usize == count
    }

    /// Whether a raw value fits the integer type of its tag.
    #[inline]
    pub(super) fn fits(&self, value: &Value) -> bool {
        !self.whole || self.fits_integer(value)
    }

    /// Whether only whole numbers of some range fit.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether a signed number fits.
    #[inline]
    pub(super) fn fits_int(&self, v: i64) -> bool {
        v >= self.least && u64::try_from(v).map_or(true, |v| v <= self.most)
    }

    /// Whether an unsigned number fits.
    #[inline]
    pub(super) fn fits_uint(&self, v: u64) -> bool {
        v <= self.most
    }

    /// A number in engineering units, where those are others than the device's.
    #[inline]
    pub(super) fn scaled(&self, raw: f64) -> Option<f64> {
        (self.scale != Scale::None).then(|| self.of(raw))
    }

    fn fits_integer(&self, value: &Value) -> bool {
        // The cast saturates far outside every range; NaN has a fraction that is not 0.
        let whole = |v: f64| {
            let number = v as i128;
            v.fract() == 0.0 && i128::from(self.least) <= number && number <= i128::from(self.most)
        };
        match value {
            Value::Int(v) => self.fits_int(*v),
            Value::Uint(v) => self.fits_uint(*v),
            Value::Float(v) => whole(*v),
            Value::Ints(all) => all.iter().all(|v| self.fits_int(*v)),
            Value::Uints(all) => all.iter().all(|v| self.fits_uint(*v)),
            Value::Floats(all) => all.iter().all(|v| whole(*v)),
            Value::Boolean(_)
            | Value::Booleans(_)
            | Value::Text(_)
            | Value::Bytes(_)
            | Value::Texts(_) => true,
        }
    }

    /// From the device's terms to engineering units: the bits that are the tag's, the scale, the clamp.
    #[inline]
    pub(super) fn in_units(&self, value: Value) -> Value {
        let value = match self.rare.as_ref().and_then(|rare| rare.part) {
            Some(part) => taken(part, value),
            None => value,
        };
        let value = match self.scale {
            Scale::None => value,
            Scale::Divide | Scale::Multiply => self.apply(value),
        };
        match self.rare.as_ref().and_then(|rare| rare.clamp) {
            Some(clamp) => clamped(clamp, value),
            None => value,
        }
    }

    /// The tag's limits, where the value in engineering units is not within.
    pub(super) fn beyond(&self, value: &Value) -> Option<Bounds> {
        let limits = self.rare.as_ref()?.limits?;
        (!numbers(value).all(|number| limits.contains(number))).then_some(limits)
    }

    #[inline]
    fn of(&self, raw: f64) -> f64 {
        match self.scale {
            Scale::None => raw,
            Scale::Divide => raw / self.by + self.offset,
            Scale::Multiply => raw.mul_add(self.by, self.offset),
        }
    }

    fn apply(&self, value: Value) -> Value {
        let scaled = |raw: f64| self.of(raw);
        match value {
            Value::Int(v) => Value::Float(scaled(v as f64)),
            Value::Uint(v) => Value::Float(scaled(v as f64)),
            Value::Float(v) => Value::Float(scaled(v)),
            Value::Ints(all) => Value::Floats(all.iter().map(|v| scaled(*v as f64)).collect()),
            Value::Uints(all) => Value::Floats(all.iter().map(|v| scaled(*v as f64)).collect()),
            Value::Floats(all) => Value::Floats(all.iter().map(|v| scaled(*v)).collect()),
            other @ (Value::Boolean(_)
            | Value::Text(_)
            | Value::Bytes(_)
            | Value::Booleans(_)
            | Value::Texts(_)) => other,
        }
    }
}

/// The bits of whole numbers.
fn taken(part: Part, value: Value) -> Value {
    // Negative numbers in two's complement; a fraction was refused before.
    let bits = |v: f64| {
        if v < 0.0 {
            (v as i64).cast_unsigned()
        } else {
            v as u64
        }
    };
    let one = |bits: u64| match part {
        Part::Mask(mask) => Value::Uint((bits & mask) >> mask.trailing_zeros()),
        Part::Bit(bit) => Value::Boolean(bits >> bit & 1 == 1),
    };
    let many = |all: Vec<u64>| match part {
        Part::Mask(mask) => Value::Uints(
            all.into_iter()
                .map(|bits| (bits & mask) >> mask.trailing_zeros())
                .collect(),
        ),
        Part::Bit(bit) => {
            Value::Booleans(all.into_iter().map(|bits| bits >> bit & 1 == 1).collect())
        }
    };
    match value {
        Value::Int(v) => one(v.cast_unsigned()),
        Value::Uint(v) => one(v),
        Value::Float(v) => one(bits(v)),
        Value::Ints(all) => many(all.iter().map(|v| v.cast_unsigned()).collect()),
        Value::Uints(all) => many(all.to_vec()),
        Value::Floats(all) => many(all.iter().map(|v| bits(*v)).collect()),
        other @ (Value::Boolean(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Booleans(_)
        | Value::Texts(_)) => other,
    }
}

/// What lies beyond is the nearer end. What is within stays of its own kind, and what is no number at all stays that.
fn clamped(clamp: Bounds, value: Value) -> Value {
    if numbers(&value).all(|number| number.is_nan() || clamp.contains(number)) {
        return value;
    }
    let end = |v: f64| v.clamp(clamp.low, clamp.high);
    match value {
        Value::Int(v) => Value::Float(end(v as f64)),
        Value::Uint(v) => Value::Float(end(v as f64)),
        Value::Float(v) => Value::Float(end(v)),
        Value::Ints(all) => Value::Floats(all.iter().map(|v| end(*v as f64)).collect()),
        Value::Uints(all) => Value::Floats(all.iter().map(|v| end(*v as f64)).collect()),
        Value::Floats(all) => Value::Floats(all.iter().map(|v| end(*v)).collect()),
        other @ (Value::Boolean(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Booleans(_)
        | Value::Texts(_)) => other,
    }
}

/// All numbers of a value; none where it has none.
fn numbers(value: &Value) -> Box<dyn Iterator<Item = f64> + '_> {
    match value {
        Value::Int(v) => Box::new(std::iter::once(*v as f64)),
        Value::Uint(v) => Box::new(std::iter::once(*v as f64)),
        Value::Float(v) => Box::new(std::iter::once(*v)),
        Value::Ints(all) => Box::new(all.iter().map(|v| *v as f64)),
        Value::Uints(all) => Box::new(all.iter().map(|v| *v as f64)),
        Value::Floats(all) => Box::new(all.iter().copied()),
        Value::Boolean(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Booleans(_)
        | Value::Texts(_) => Box::new(std::iter::empty()),
    }
}

impl Scale {
    /// How, and by what.
    fn new(scale: f64, offset: f64) -> (Self, f64) {
        let divisor = (1.0 / scale).round();
        if scale == 1.0 && offset == 0.0 {
            (Self::None, 1.0)
        } else if divisor * scale == 1.0 {
            (Self::Divide, divisor)
        } else {
            (Self::Multiply, scale)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scaling::tests::tag;
    use super::*;

    #[test]
    fn tags_that_are_treated_alike_have_one_rule() {
        let first = tag("int16", 0.5, 1.0);
        let mut others = [first.clone(), first.clone(), first.clone(), first.clone()];
        others[1].data_type = DataType::parse("int16[2]").unwrap();
        others[2].device = DeviceId(1);
        others[3].treatment = tag("int16", 2.0, 1.0).treatment;
        let [same, typed, placed, treated] = others;
        let tags = [first, typed, same, placed, treated];
        let rules = Rules::new(&tags);
        assert_eq!(*rules.of_tags, [0, 1, 0, 2, 3]);
        for (place, tag) in tags.iter().enumerate() {
            let (shared, own) = (rules.get(place).unwrap(), Rule::new(tag));
            assert_eq!(format!("{shared:?}"), format!("{own:?}"), "{place}");
        }
        assert!(rules.get(tags.len()).is_none());
    }

    #[test]
    fn a_rule_fits_one_cache_line() {
        assert!(size_of::<Rule>() <= 64, "{}", size_of::<Rule>());
    }

    #[test]
    fn raw_values_are_scaled_by_hand_computed_figures() {
        let check = |kind: &str, scale, offset, raw: Value, expected: Value| {
            assert_eq!(Rule::new(&tag(kind, scale, offset)).in_units(raw), expected);
        };
        check("int16", 1.0, 0.0, Value::Int(-7), Value::Int(-7));
        check("int16", 0.5, 0.0, Value::Int(-7), Value::Float(-3.5));
        check("int16", 0.1, 0.0, Value::Int(-131), Value::Float(-13.1));
        check("uint16", 2.0, -40.0, Value::Uint(100), Value::Float(160.0));
        check("float32", 10.0, 1.0, Value::Float(2.5), Value::Float(26.0));
        check(
            "int16[2]",
            0.5,
            1.0,
            Value::Ints([2, 4].into()),
            Value::Floats([2.0, 3.0].into()),
        );
        check("bool", 0.5, 1.0, Value::Boolean(true), Value::Boolean(true));
    }

    #[test]
    fn a_raw_value_fits_its_integer_type_or_not() {
        let fits = |kind: &str, value: Value| Rule::new(&tag(kind, 1.0, 0.0)).fits(&value);
        assert!(fits("int16", Value::Int(-32768)));
        assert!(!fits("int16", Value::Int(-32769)));
        assert!(!fits("int16", Value::Int(32768)));
        assert!(!fits("uint16", Value::Int(-1)));
        assert!(!fits("uint8[2]", Value::Ints([0, 256].into())));
        assert!(fits("uint64", Value::Uint(u64::MAX)));
        assert!(!fits("int64", Value::Uint(u64::MAX)));
        assert!(fits("int64", Value::Int(i64::MIN)));
        assert!(fits("float32", Value::Float(1e300)));
        assert!(fits("int16", Value::Float(-7.0)));
        for bad in [0.5, 40_000.0, 1e300, f64::NAN, f64::INFINITY] {
            assert!(!fits("int16", Value::Float(bad)), "{bad}");
        }
    }

    #[test]
    fn a_rule_holds_what_its_type_admits() {
        let all = [
            "bool",
            "int8",
            "uint64",
            "float32",
            "string",
            "bytes",
            "bool[2]",
            "string[2]",
            "int16[2]",
            "float64[3]",
        ];
        let values = [
            Value::Boolean(true),
            Value::Int(1),
            Value::Uint(1),
            Value::Float(1.0),
            Value::Text("a".into()),
            Value::Bytes([1].into()),
            Value::Booleans([true, false].into()),
            Value::Ints([1, 2].into()),
            Value::Uints([1, 2, 3].into()),
            Value::Floats([1.0, 2.0, 3.0].into()),
            Value::Texts(["a".into(), "b".into()].into()),
            Value::Texts(["a".into()].into()),
        ];
        for kind in all {
            let tag = tag(kind, 1.0, 0.0);
            let rule = Rule::new(&tag);
            for value in &values {
                let held = match value {
                    Value::Boolean(_) => rule.holds_boolean(),
                    Value::Int(_) | Value::Uint(_) | Value::Float(_) => rule.holds_number(),
                    Value::Text(_) => rule.holds_text(),
                    Value::Bytes(_) => rule.holds_bytes(),
                    Value::Booleans(all) => rule.holds_booleans(all.len()),
                    Value::Ints(all) => rule.holds_numbers(all.len()),
                    Value::Uints(all) => rule.holds_numbers(all.len()),
                    Value::Floats(all) => rule.holds_numbers(all.len()),
                    Value::Texts(all) => rule.holds_texts(all.len()),
                };
                assert_eq!(held, tag.data_type.admits(value), "{kind} {value:?}");
            }
        }
    }
}
