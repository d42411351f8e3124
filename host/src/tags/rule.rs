//! What the way from a driver to the consumers must know of a tag, in one cache line.

use crate::config::{Report, Tag};
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
        let (scale, by) = Scale::new(tag.scale, tag.offset);
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
            offset: tag.offset,
            device: tag.device,
            report: tag.report,
            deadband: tag.deadband,
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
            Value::Boolean(_) | Value::Booleans(_) | Value::Text(_) | Value::Bytes(_) => true,
        }
    }

    /// From the device's terms to engineering units.
    #[inline]
    pub(super) fn in_units(&self, value: Value) -> Value {
        match self.scale {
            Scale::None => value,
            Scale::Divide | Scale::Multiply => self.apply(value),
        }
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
            other @ (Value::Boolean(_) | Value::Text(_) | Value::Bytes(_) | Value::Booleans(_)) => {
                other
            }
        }
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
                };
                assert_eq!(held, tag.data_type.admits(value), "{kind} {value:?}");
            }
        }
    }
}
