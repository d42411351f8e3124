//! The type of a tag.

use std::fmt;
use std::str::FromStr;

use crate::abi::Value;

/// What one element of a tag's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// True or false.
    Bool,
    /// A signed integer of 8 bits.
    Int8,
    /// An unsigned integer of 8 bits.
    Uint8,
    /// A signed integer of 16 bits.
    Int16,
    /// An unsigned integer of 16 bits.
    Uint16,
    /// A signed integer of 32 bits.
    Int32,
    /// An unsigned integer of 32 bits.
    Uint32,
    /// A signed integer of 64 bits.
    Int64,
    /// An unsigned integer of 64 bits.
    Uint64,
    /// An IEEE 754 number of 32 bits.
    Float32,
    /// An IEEE 754 number of 64 bits.
    Float64,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
}

impl Scalar {
    const ALL: [(&'static str, Self); 13] = [
        ("bool", Self::Bool),
        ("int8", Self::Int8),
        ("uint8", Self::Uint8),
        ("int16", Self::Int16),
        ("uint16", Self::Uint16),
        ("int32", Self::Int32),
        ("uint32", Self::Uint32),
        ("int64", Self::Int64),
        ("uint64", Self::Uint64),
        ("float32", Self::Float32),
        ("float64", Self::Float64),
        ("string", Self::String),
        ("bytes", Self::Bytes),
    ];

    /// Its name in the operator's file.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, scalar)| *scalar == self)
            .map_or("", |(name, _)| name)
    }

    /// The least and the greatest value of a signed integer type.
    pub const fn signed_range(self) -> Option<(i64, i64)> {
        match self {
            Self::Int8 => Some((i8::MIN as i64, i8::MAX as i64)),
            Self::Int16 => Some((i16::MIN as i64, i16::MAX as i64)),
            Self::Int32 => Some((i32::MIN as i64, i32::MAX as i64)),
            Self::Int64 => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }

    /// The greatest value of an unsigned integer type.
    pub const fn unsigned_max(self) -> Option<u64> {
        match self {
            Self::Uint8 => Some(u8::MAX as u64),
            Self::Uint16 => Some(u16::MAX as u64),
            Self::Uint32 => Some(u32::MAX as u64),
            Self::Uint64 => Some(u64::MAX),
            _ => None,
        }
    }
}

/// The type of a tag: a [`Scalar`], or an array of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataType {
    /// What it is, or what its elements are.
    pub scalar: Scalar,
    /// How many elements an array has, from 1 to 65,536; `None` for a single value.
    pub length: Option<u32>,
}

impl DataType {
    /// A single value.
    pub const fn single(scalar: Scalar) -> Self {
        Self {
            scalar,
            length: None,
        }
    }

    /// Whether `value` is of this type and, for integers, within its range.
    pub fn accepts(self, value: &Value) -> bool {
        let int = |number: &i64| {
            self.scalar
                .signed_range()
                .is_some_and(|(least, greatest)| (least..=greatest).contains(number))
        };
        let uint = |number: &u64| {
            self.scalar
                .unsigned_max()
                .is_some_and(|greatest| *number <= greatest)
        };
        let float = matches!(self.scalar, Scalar::Float32 | Scalar::Float64);
        let count = |length: usize| self.length.is_some_and(|count| count as usize == length);
        match value {
            Value::Boolean(_) => self.length.is_none() && self.scalar == Scalar::Bool,
            Value::Int(number) => self.length.is_none() && int(number),
            Value::Uint(number) => self.length.is_none() && uint(number),
            Value::Float(_) => self.length.is_none() && float,
            Value::Text(_) => self.length.is_none() && self.scalar == Scalar::String,
            Value::Bytes(_) => self.length.is_none() && self.scalar == Scalar::Bytes,
            Value::Booleans(items) => count(items.len()) && self.scalar == Scalar::Bool,
            Value::Ints(items) => count(items.len()) && items.iter().all(int),
            Value::Uints(items) => count(items.len()) && items.iter().all(uint),
            Value::Floats(items) => count(items.len()) && float,
            Value::Texts(items) => count(items.len()) && self.scalar == Scalar::String,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.scalar.name())?;
        match self.length {
            Some(length) => write!(formatter, "[{length}]"),
            None => Ok(()),
        }
    }
}

/// What is not a data type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no data type; use bool, int8 to int64, uint8 to uint64, float32, float64, string or bytes, with [n] behind it for an array of n"
)]
pub struct NotADataType {
    /// What was given.
    pub given: String,
}

impl FromStr for DataType {
    type Err = NotADataType;

    fn from_str(text: &str) -> Result<Self, NotADataType> {
        let parsed = || {
            let (name, length) = match text.strip_suffix(']') {
                Some(text) => {
                    let (name, length) = text.split_once('[')?;
                    let length = length.parse().ok()?;
                    (1..=65_536)
                        .contains(&length)
                        .then_some((name, Some(length)))?
                }
                None => (text, None),
            };
            let (_, scalar) = Scalar::ALL.iter().find(|(known, _)| *known == name)?;
            Some(Self {
                scalar: *scalar,
                length,
            })
        };
        parsed().ok_or_else(|| NotADataType {
            given: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, scalar) in Scalar::ALL {
            assert_eq!(name.parse(), Ok(DataType::single(scalar)));
            assert_eq!(DataType::single(scalar).to_string(), name);
        }
        let array: DataType = "int16[65536]".parse().expect("the longest array");
        assert_eq!(array.length, Some(65_536));
        assert_eq!(array.to_string(), "int16[65536]");
        for wrong in [
            "",
            "int",
            "INT16",
            "int16[",
            "int16]",
            "int16[0]",
            "int16[65537]",
            "int16[-1]",
            "[4]",
            "int16[4] ",
            "double",
        ] {
            let fault = wrong.parse::<DataType>().expect_err(wrong);
            assert_eq!(fault.given, wrong);
        }
    }

    #[test]
    fn values_fit_or_do_not() {
        let check = |data_type: &str, value: Value, fits: bool| {
            let data_type: DataType = data_type.parse().expect(data_type);
            assert_eq!(data_type.accepts(&value), fits, "{value:?} as {data_type}");
        };
        check("bool", Value::Boolean(true), true);
        check("bool", Value::Uint(1), false);
        check("int8", Value::Int(-128), true);
        check("int8", Value::Int(128), false);
        check("int8", Value::Uint(1), false);
        check("uint8", Value::Uint(255), true);
        check("uint8", Value::Uint(256), false);
        check("int64", Value::Int(i64::MIN), true);
        check("uint64", Value::Uint(u64::MAX), true);
        check("float32", Value::Float(1.0), true);
        check("float64", Value::Int(1), false);
        check("string", Value::Text(String::new()), true);
        check("bytes", Value::Bytes(Vec::new()), true);
        check("int16[2]", Value::Ints(vec![1, 2]), true);
        check("int16[2]", Value::Ints(vec![1]), false);
        check("int16[2]", Value::Ints(vec![1, 40_000]), false);
        check("int16[2]", Value::Int(1), false);
        check("int16", Value::Ints(vec![1]), false);
        check("bool[1]", Value::Booleans(vec![true]), true);
        check("uint8[1]", Value::Uints(vec![1]), true);
        check("float32[1]", Value::Floats(vec![1.0]), true);
        check("float32[1]", Value::Uints(vec![1]), false);
        let texts = |all: &[&str]| Value::Texts(all.iter().map(ToString::to_string).collect());
        check("string[2]", texts(&["a", ""]), true);
        check("string[2]", texts(&["a"]), false);
        check("string[2]", Value::Text("ab".to_owned()), false);
        check("string", texts(&["a"]), false);
        check("bytes[1]", texts(&["a"]), false);
    }
}
