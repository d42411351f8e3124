//! From values to what is written.
//!
//! Refuses what the device could not hold rather than cutting it: a value that is written is the value that is read.

use bulkhead_sdk::Value;
use thiserror::Error;

use crate::address::Packing;
use crate::order::Order;
use crate::value::{Codec, Number};

/// Why a value cannot be written.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    /// Another kind of value.
    #[error("the tag takes {0}")]
    Type(&'static str),
    /// Too large, too small, or not a number that the type has.
    #[error("the value is outside {0}")]
    Range(&'static str),
    /// Too many bytes or elements, or too few.
    #[error("the value has {got} bytes or elements; the tag takes {right}")]
    Length {
        /// As given.
        got: usize,
        /// As the tag says: at most this for a string, exactly this otherwise.
        right: u16,
    },
}

/// What encoding a value gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// For coils.
    Bits(Vec<bool>),
    /// For registers: two bytes for each.
    Registers(Vec<u8>),
    /// Some bits of registers that follow each other, whose other bits stay as they are.
    Masked(Vec<Masked>),
}

/// What becomes of one register, as it is on the wire, high byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked {
    /// The bits that are written.
    pub mask: u16,
    /// What they shall be; 0 outside the mask.
    pub bits: u16,
}

impl Codec {
    /// What to write so that decoding gives `value`.
    pub fn encode(self, value: &Value) -> Result<Encoded, EncodeError> {
        match (self, value) {
            (Self::Bit, Value::Boolean(on)) => Ok(Encoded::Bits(vec![*on])),
            (Self::RegisterBit { bit, order }, Value::Boolean(on)) => {
                let mask = order.u16((1u16 << bit).to_be_bytes());
                let bits = if *on { mask } else { 0 };
                Ok(Encoded::Masked(vec![Masked { mask, bits }]))
            }
            (Self::RegisterBits { bit, count, order }, Value::Booleans(bits)) => {
                exactly(bits.len(), count)?;
                Ok(masked(usize::from(bit), bits, order))
            }
            (Self::Bits(count), Value::Booleans(bits)) => {
                exactly(bits.len(), count)?;
                Ok(Encoded::Bits(bits.clone()))
            }
            (Self::Number(number, order), value) => {
                let mut bytes = Vec::with_capacity(number.bytes());
                put(number, order, scalar(value)?, &mut bytes)?;
                Ok(Encoded::Registers(bytes))
            }
            (Self::Numbers(number, order, count), value) => {
                let mut bytes = Vec::with_capacity(number.bytes() * usize::from(count));
                for element in elements(value, count)? {
                    put(number, order, element, &mut bytes)?;
                }
                Ok(Encoded::Registers(bytes))
            }
            (Self::Text { length, packing }, Value::Text(text)) => {
                if text.len() > usize::from(length) {
                    return Err(EncodeError::Length {
                        got: text.len(),
                        right: length,
                    });
                }
                if text.contains('\0') {
                    return Err(EncodeError::Range("a string, which ends at its first NUL"));
                }
                let mut bytes = text.clone().into_bytes();
                bytes.resize(usize::from(length), 0);
                Ok(Encoded::Registers(pack(&bytes, packing)))
            }
            (Self::Bytes { length, packing }, Value::Bytes(bytes)) => {
                exactly(bytes.len(), length)?;
                Ok(Encoded::Registers(pack(bytes, packing)))
            }
            (Self::Bit | Self::RegisterBit { .. }, _) => Err(EncodeError::Type("true or false")),
            (Self::Bits(_) | Self::RegisterBits { .. }, _) => {
                Err(EncodeError::Type("an array of true and false"))
            }
            (Self::Text { .. }, _) => Err(EncodeError::Type("a string")),
            (Self::Bytes { .. }, _) => Err(EncodeError::Type("bytes")),
        }
    }
}

/// A number on its way to the device; integers of either sign fit `i128`.
#[derive(Clone, Copy)]
enum Scalar {
    Whole(i128),
    Float(f64),
}

fn scalar(value: &Value) -> Result<Scalar, EncodeError> {
    match value {
        Value::Int(whole) => Ok(Scalar::Whole(i128::from(*whole))),
        Value::Uint(whole) => Ok(Scalar::Whole(i128::from(*whole))),
        Value::Float(float) => Ok(Scalar::Float(*float)),
        _ => Err(EncodeError::Type("a number")),
    }
}

fn elements(value: &Value, count: u16) -> Result<Vec<Scalar>, EncodeError> {
    let list: Vec<Scalar> = match value {
        Value::Ints(list) => list
            .iter()
            .map(|whole| Scalar::Whole(i128::from(*whole)))
            .collect(),
        Value::Uints(list) => list
            .iter()
            .map(|whole| Scalar::Whole(i128::from(*whole)))
            .collect(),
        Value::Floats(list) => list.iter().map(|float| Scalar::Float(*float)).collect(),
        _ => return Err(EncodeError::Type("an array of numbers")),
    };
    exactly(list.len(), count)?;
    Ok(list)
}

fn put(
    number: Number,
    order: Order,
    scalar: Scalar,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let range = || EncodeError::Range(number.name());
    let whole = || match scalar {
        Scalar::Whole(whole) => Ok(whole),
        Scalar::Float(_) => Err(EncodeError::Type("a whole number")),
    };
    let float = match scalar {
        Scalar::Whole(whole) => whole as f64,
        Scalar::Float(float) => float,
    };
    let mut two = |bits: u16| bytes.extend(order.u16(bits.to_be_bytes()).to_be_bytes());
    match number {
        Number::Int16 => two(i16::try_from(whole()?)
            .map_err(|_| range())?
            .cast_unsigned()),
        Number::Uint16 => two(u16::try_from(whole()?).map_err(|_| range())?),
        Number::Bcd16 => two(digits(whole()?, 4)
            .and_then(|bits| u16::try_from(bits).ok())
            .ok_or_else(range)?),
        Number::Int32 | Number::Uint32 | Number::Float32 | Number::Bcd32 => {
            let bits = match number {
                Number::Bcd32 => digits(whole()?, 8).ok_or_else(range)?,
                Number::Int32 => i32::try_from(whole()?)
                    .map_err(|_| range())?
                    .cast_unsigned(),
                Number::Uint32 => u32::try_from(whole()?).map_err(|_| range())?,
                _ => {
                    let narrow = float as f32;
                    if narrow.is_infinite() && float.is_finite() {
                        return Err(range());
                    }
                    narrow.to_bits()
                }
            };
            bytes.extend(order.u32(bits.to_be_bytes()).to_be_bytes());
        }
        Number::Int64 | Number::Uint64 | Number::Float64 => {
            let bits = match number {
                Number::Int64 => i64::try_from(whole()?)
                    .map_err(|_| range())?
                    .cast_unsigned(),
                Number::Uint64 => u64::try_from(whole()?).map_err(|_| range())?,
                _ => float.to_bits(),
            };
            bytes.extend(order.u64(bits.to_be_bytes()).to_be_bytes());
        }
    }
    Ok(())
}

/// A number as so many decimal digits, each in its half-byte.
fn digits(whole: i128, count: u32) -> Option<u32> {
    let mut rest = u32::try_from(whole).ok()?;
    let mut bits = 0;
    for place in 0..count {
        bits |= (rest % 10) << (4 * place);
        rest /= 10;
    }
    (rest == 0).then_some(bits)
}

/// Bits from `first` upwards, as what becomes of each register.
fn masked(first: usize, bits: &[bool], order: Order) -> Encoded {
    let mut registers = vec![Masked { mask: 0, bits: 0 }; (first + bits.len()).div_ceil(16)];
    for (at, on) in (first..).zip(bits) {
        let bit = order.u16((1u16 << (at % 16)).to_be_bytes());
        let register = &mut registers[at / 16];
        register.mask |= bit;
        register.bits |= if *on { bit } else { 0 };
    }
    if registers.iter().all(|register| register.mask == u16::MAX) {
        let bytes = registers
            .iter()
            .flat_map(|register| register.bits.to_be_bytes());
        return Encoded::Registers(bytes.collect());
    }
    Encoded::Masked(registers)
}

fn exactly(got: usize, right: u16) -> Result<(), EncodeError> {
    if got == usize::from(right) {
        Ok(())
    } else {
        Err(EncodeError::Length { got, right })
    }
}

fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    let pairs = bytes
        .chunks(2)
        .map(|pair| [pair[0], pair.get(1).copied().unwrap_or(0)]);
    match packing {
        Packing::H => pairs.flatten().collect(),
        Packing::L => pairs.flat_map(|[first, second]| [second, first]).collect(),
        Packing::D => bytes.iter().flat_map(|byte| [0, *byte]).collect(),
        Packing::E => bytes.iter().flat_map(|byte| [*byte, 0]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::Unreadable;

    const ORDERS: [Order; 4] = [Order::Abcd, Order::Badc, Order::Cdab, Order::Dcba];

    #[test]
    fn what_does_not_fit_is_refused() {
        let encode = |number, value| Codec::Number(number, Order::Abcd).encode(&value);
        for (number, value) in [
            (Number::Int16, Value::Int(32_768)),
            (Number::Uint16, Value::Int(-1)),
            (Number::Uint16, Value::Uint(65_536)),
            (Number::Int32, Value::Int(1 << 31)),
            (Number::Uint32, Value::Int(1 << 32)),
            (Number::Int64, Value::Uint(1 << 63)),
            (Number::Uint64, Value::Int(-1)),
            (Number::Float32, Value::Float(1e39)),
        ] {
            assert_eq!(
                encode(number, value),
                Err(EncodeError::Range(number.name()))
            );
        }
        assert_eq!(
            encode(Number::Int16, Value::Float(1.0)),
            Err(EncodeError::Type("a whole number"))
        );
        assert_eq!(
            encode(Number::Int16, Value::Text("1".to_owned())),
            Err(EncodeError::Type("a number"))
        );
        assert_eq!(
            encode(Number::Float32, Value::Int(2)),
            Ok(Encoded::Registers(vec![0x40, 0, 0, 0]))
        );
    }

    fn any_codec() -> impl Strategy<Value = Codec> {
        use Number::*;
        let number = prop::sample::select(vec![
            Int16, Uint16, Int32, Uint32, Int64, Uint64, Float32, Float64, Bcd16, Bcd32,
        ]);
        let order = prop::sample::select(ORDERS.to_vec());
        let packing = prop::sample::select(vec![Packing::H, Packing::L, Packing::D, Packing::E]);
        prop_oneof![
            Just(Codec::Bit),
            (1u16..50).prop_map(Codec::Bits),
            (0u8..16, order.clone()).prop_map(|(bit, order)| Codec::RegisterBit { bit, order }),
            (0u8..16, 1u16..70, order.clone())
                .prop_map(|(bit, count, order)| Codec::RegisterBits { bit, count, order }),
            (number.clone(), order.clone())
                .prop_map(|(number, order)| Codec::Number(number, order)),
            (number, order, 1u16..20)
                .prop_map(|(number, order, count)| Codec::Numbers(number, order, count)),
            (1u16..40, packing.clone())
                .prop_map(|(length, packing)| Codec::Text { length, packing }),
            (1u16..40, packing).prop_map(|(length, packing)| Codec::Bytes { length, packing }),
        ]
    }

    proptest! {
        /// Whatever the device sends: no panic, and what was read can be written back and read again.
        #[test]
        fn what_is_read_can_be_written(codec in any_codec(), data in prop::collection::vec(any::<u8>(), 0..200), offset in 0usize..60) {
            if let Ok(value) = codec.decode(&data, offset) {
                let wire = match codec.encode(&value) {
                    Ok(Encoded::Registers(bytes)) => bytes,
                    Ok(Encoded::Bits(bits)) => bits.chunks(8)
                        .map(|eight| eight.iter().enumerate().fold(0, |byte, (at, on)| byte | (u8::from(*on) << at)))
                        .collect(),
                    Ok(Encoded::Masked(registers)) => registers.iter().flat_map(|register| register.bits.to_be_bytes()).collect(),
                    Err(error) => return Err(TestCaseError::fail(format!("{value:?}: {error}"))),
                };
                let again = codec.decode(&wire, 0);
                prop_assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, Unreadable>(value)), "NaN is not equal to itself");
            }
        }
    }
}
