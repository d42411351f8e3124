//! Values and the types that operators give to tags.

use std::fmt;

/// The value of a tag, as the device or the operator gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Boolean(bool),
    /// A signed integer of up to 64 bits.
    Int(i64),
    /// An unsigned integer of up to 64 bits.
    Uint(u64),
    /// A floating-point number.
    Float(f64),
    /// Text, at most [`Value::MAX_BYTES`].
    Text(Box<str>),
    /// Bytes, at most [`Value::MAX_BYTES`].
    Bytes(Box<[u8]>),
    /// An array, at most [`Value::MAX_ELEMENTS`]; so are the following.
    Booleans(Box<[bool]>),
    /// An array of signed integers.
    Ints(Box<[i64]>),
    /// An array of unsigned integers.
    Uints(Box<[u64]>),
    /// An array of floating-point numbers.
    Floats(Box<[f64]>),
    /// An array of texts, which are together at most [`Value::MAX_BYTES`].
    Texts(Box<[Box<str>]>),
}

impl Value {
    /// The longest text or byte string, and the longest that all texts of an array are together.
    pub const MAX_BYTES: usize = crate::limits::VALUE_BYTES;
    /// The longest array.
    pub const MAX_ELEMENTS: usize = crate::limits::VALUE_ELEMENTS;

    /// What it holds on the heap, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::Boolean(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => 0,
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Booleans(all) => size_of_val(&**all),
            Value::Ints(all) => size_of_val(&**all),
            Value::Uints(all) => size_of_val(&**all),
            Value::Floats(all) => size_of_val(&**all),
            Value::Texts(all) => bytes_of_texts(all),
        }
    }

    /// Whether a text, byte string or array keeps to its bound.
    pub fn is_within_bounds(&self) -> bool {
        match self {
            Value::Boolean(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => true,
            Value::Text(text) => text.len() <= Self::MAX_BYTES,
            Value::Bytes(bytes) => bytes.len() <= Self::MAX_BYTES,
            Value::Booleans(all) => all.len() <= Self::MAX_ELEMENTS,
            Value::Ints(all) => all.len() <= Self::MAX_ELEMENTS,
            Value::Uints(all) => all.len() <= Self::MAX_ELEMENTS,
            Value::Floats(all) => all.len() <= Self::MAX_ELEMENTS,
            Value::Texts(all) => are_within_bounds(all),
        }
    }
}

/// What texts of an array take, in bytes: their own, and for each what keeps it apart from the others, or a great many short ones
/// would count for next to nothing.
pub(crate) fn bytes_of_texts<T: AsRef<str>>(all: &[T]) -> usize {
    const APART: usize = 32;
    all.iter().map(|text| APART + text.as_ref().len()).sum()
}

/// Whether texts of an array keep to their bounds.
pub(crate) fn are_within_bounds<T: AsRef<str>>(all: &[T]) -> bool {
    let bytes: usize = all.iter().map(|text| text.as_ref().len()).sum();
    all.len() <= Value::MAX_ELEMENTS && bytes <= Value::MAX_BYTES
}

/// The type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Scalar {
    Bool,
    Int8,
    Uint8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Float32,
    Float64,
    String,
    Bytes,
}

impl Scalar {
    /// Every type, with the name that the configuration and the ABI use.
    pub const ALL: &'static [(Scalar, &'static str)] = &[
        (Scalar::Bool, "bool"),
        (Scalar::Int8, "int8"),
        (Scalar::Uint8, "uint8"),
        (Scalar::Int16, "int16"),
        (Scalar::Uint16, "uint16"),
        (Scalar::Int32, "int32"),
        (Scalar::Uint32, "uint32"),
        (Scalar::Int64, "int64"),
        (Scalar::Uint64, "uint64"),
        (Scalar::Float32, "float32"),
        (Scalar::Float64, "float64"),
        (Scalar::String, "string"),
        (Scalar::Bytes, "bytes"),
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(scalar, _)| *scalar == self)
            .map_or("", |(_, name)| name)
    }

    /// Whether scaling and deadbands make sense.
    pub fn is_numeric(self) -> bool {
        !matches!(self, Scalar::Bool | Scalar::String | Scalar::Bytes)
    }

    /// How many bits an integer type has, and whether it is signed.
    fn integer(self) -> Option<(u32, bool)> {
        Some(match self {
            Scalar::Int8 => (8, true),
            Scalar::Uint8 => (8, false),
            Scalar::Int16 => (16, true),
            Scalar::Uint16 => (16, false),
            Scalar::Int32 => (32, true),
            Scalar::Uint32 => (32, false),
            Scalar::Int64 => (64, true),
            Scalar::Uint64 => (64, false),
            Scalar::Bool | Scalar::Float32 | Scalar::Float64 | Scalar::String | Scalar::Bytes => {
                return None;
            }
        })
    }

    /// How many bits it has, for the integer types.
    pub fn bits(self) -> Option<u32> {
        self.integer().map(|(bits, _)| bits)
    }

    /// The smallest and the largest value, for the integer types.
    pub fn integer_range(self) -> Option<(i128, i128)> {
        let (bits, signed) = self.integer()?;
        Some(if signed {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        })
    }
}

/// The type of a tag: `float32`, or `int16[8]` for an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataType {
    /// The type of the value, or of each element.
    pub scalar: Scalar,
    /// The number of elements, for an array: 1 to [`Value::MAX_ELEMENTS`].
    pub elements: Option<u32>,
}

impl DataType {
    /// Reads `float32` or `int16[8]`.
    pub fn parse(text: &str) -> Option<DataType> {
        let (name, elements) = match text.split_once('[') {
            None => (text, None),
            Some((name, rest)) => {
                let digits = rest.strip_suffix(']')?;
                digits
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
                    .then_some(())?;
                let count: u32 = digits.parse().ok()?;
                (1..=Value::MAX_ELEMENTS as u32)
                    .contains(&count)
                    .then_some(())?;
                (name, Some(count))
            }
        };
        let (scalar, _) = Scalar::ALL.iter().find(|(_, known)| *known == name)?;
        Some(DataType {
            scalar: *scalar,
            elements,
        })
    }

    /// Whether a driver may publish this value, or an operator write it, for a tag of this type, before scaling.
    ///
    /// The variant decides; ranges are checked at the edges. Any number goes for a numeric tag, so that a driver
    /// which counts up from zero need not choose between `int` and `uint`.
    pub fn admits(self, value: &Value) -> bool {
        let numeric = self.scalar.is_numeric();
        match (value, self.elements) {
            (Value::Boolean(_), None) => self.scalar == Scalar::Bool,
            (Value::Int(_) | Value::Uint(_) | Value::Float(_), None) => numeric,
            (Value::Text(_), None) => self.scalar == Scalar::String,
            (Value::Bytes(_), None) => self.scalar == Scalar::Bytes,
            (Value::Booleans(all), Some(n)) => {
                self.scalar == Scalar::Bool && all.len() == n as usize
            }
            (Value::Ints(all), Some(n)) => numeric && all.len() == n as usize,
            (Value::Uints(all), Some(n)) => numeric && all.len() == n as usize,
            (Value::Floats(all), Some(n)) => numeric && all.len() == n as usize,
            (Value::Texts(all), Some(n)) => {
                self.scalar == Scalar::String && all.len() == n as usize
            }
            _ => false,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scalar.as_str())?;
        match self.elements {
            Some(elements) => write!(f, "[{elements}]"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for (scalar, name) in Scalar::ALL {
            let parsed = DataType::parse(name).unwrap();
            assert_eq!(
                parsed,
                DataType {
                    scalar: *scalar,
                    elements: None
                }
            );
            assert_eq!(parsed.to_string(), *name);
        }
        assert_eq!(DataType::parse("int16[8]").unwrap().to_string(), "int16[8]");
        for bad in [
            "",
            "int",
            "int16[0]",
            "int16[",
            "int16[8",
            "int16[65537]",
            "int16[-1]",
            "int16[+1]",
        ] {
            assert_eq!(DataType::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_type_admits_its_own_variants_only() {
        let check = |kind: &str, value: Value, expected: bool| {
            assert_eq!(
                DataType::parse(kind).unwrap().admits(&value),
                expected,
                "{kind} {value:?}"
            );
        };
        check("int16", Value::Int(1), true);
        check("int16", Value::Uint(1), true);
        check("float32", Value::Int(1), true);
        check("int16", Value::Boolean(true), false);
        check("bool", Value::Int(1), false);
        check("string", Value::Text("a".into()), true);
        check("int16[2]", Value::Ints([1, 2].into()), true);
        check("int16[2]", Value::Ints([1].into()), false);
        check("int16", Value::Ints([1].into()), false);
        let texts = |all: &[&str]| Value::Texts(all.iter().map(|text| (*text).into()).collect());
        check("string[2]", texts(&["a", "b"]), true);
        check("string[2]", texts(&["a"]), false);
        check("string[1]", Value::Text("a".into()), false);
        check("string", texts(&["a"]), false);
        check("bytes[1]", texts(&["a"]), false);
        check("int16[1]", texts(&["1"]), false);
    }

    #[test]
    fn texts_of_an_array_are_bounded_together_and_a_great_many_weigh_something() {
        let texts = |count: usize, bytes: usize| {
            Value::Texts(vec!["x".repeat(bytes).into_boxed_str(); count].into())
        };
        assert!(texts(1, Value::MAX_BYTES).is_within_bounds());
        assert!(texts(Value::MAX_ELEMENTS, 1).is_within_bounds());
        assert!(!texts(1, Value::MAX_BYTES + 1).is_within_bounds());
        assert!(!texts(2, Value::MAX_BYTES / 2 + 1).is_within_bounds());
        assert!(!texts(Value::MAX_ELEMENTS + 1, 0).is_within_bounds());
        assert!(texts(1_000, 0).heap_bytes() >= 1_000 * size_of::<Box<str>>());
        assert!(texts(2, 1_000).heap_bytes() >= 2_000);
    }
}
