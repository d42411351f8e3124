//! How values lie in registers and bits, and how to get them out.
//!
//! Decoding is on the path of every poll: it works on the slice that came from the wire, and allocates for strings, bytes
//! and arrays only. The way back is in `encode`.

use bulkhead_sdk::{Quality, Value};
use thiserror::Error;

use crate::address::Packing;
use crate::order::Order;

/// A number that lies in one, two or four registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// `int16`
    Int16,
    /// `uint16`
    Uint16,
    /// `int32`
    Int32,
    /// `uint32`
    Uint32,
    /// `int64`
    Int64,
    /// `uint64`
    Uint64,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `uint16` in binary-coded decimal: four digits.
    Bcd16,
    /// `uint32` in binary-coded decimal: eight digits.
    Bcd32,
}

/// Why bytes are no value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// There are fewer than the value has.
    #[error("the bytes end before the value does")]
    CutShort,
    /// A string that is none.
    #[error("the bytes are no text in UTF-8")]
    NotText,
    /// A half-byte above 9.
    #[error("{0:#x} is not binary-coded decimal: each of its half-bytes would be 0 to 9")]
    NotBcd(u32),
}

impl Unreadable {
    /// What it says of the tag.
    pub fn quality(self) -> Quality {
        match self {
            Self::CutShort => Quality::BadNoCommunication,
            Self::NotText | Self::NotBcd(_) => Quality::BadTypeMismatch,
        }
    }
}

/// How a value lies in what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// A coil or a discrete input.
    Bit,
    /// Coils or discrete inputs that follow each other.
    Bits(u16),
    /// One bit of a register, 0 the lowest.
    RegisterBit {
        /// 0 to 15.
        bit: u8,
        /// Whether the register's bytes are swapped.
        order: Order,
    },
    /// Bits of registers that follow each other, from one bit of the first upwards.
    RegisterBits {
        /// The first, 0 to 15.
        bit: u8,
        /// How many.
        count: u16,
        /// Whether each register's bytes are swapped.
        order: Order,
    },
    /// A number.
    Number(Number, Order),
    /// Numbers that follow each other.
    Numbers(Number, Order, u16),
    /// A string of at most `length` bytes, filled up with NUL.
    Text {
        /// In bytes.
        length: u16,
        /// How it lies in the registers.
        packing: Packing,
    },
    /// Exactly `length` bytes.
    Bytes {
        /// In bytes.
        length: u16,
        /// How they lie in the registers.
        packing: Packing,
    },
}

impl Number {
    /// How many bytes it has.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int16 | Self::Uint16 | Self::Bcd16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float32 | Self::Bcd32 => 4,
            Self::Int64 | Self::Uint64 | Self::Float64 => 8,
        }
    }

    /// Its name in the operator's file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int16 => "int16",
            Self::Uint16 => "uint16",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Int64 => "int64",
            Self::Uint64 => "uint64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Bcd16 => "four decimal digits",
            Self::Bcd32 => "eight decimal digits",
        }
    }
}

impl Codec {
    /// How many registers or bits it takes, as far as `u16` can say.
    pub fn places(self) -> u32 {
        match self {
            Self::Bit | Self::RegisterBit { .. } => 1,
            Self::Bits(count) => u32::from(count),
            Self::RegisterBits { bit, count, .. } => {
                (u32::from(bit) + u32::from(count)).div_ceil(16)
            }
            Self::Number(number, _) => number.bytes() as u32 / 2,
            Self::Numbers(number, _, count) => number.bytes() as u32 / 2 * u32::from(count),
            Self::Text { length, packing } | Self::Bytes { length, packing } => match packing {
                Packing::H | Packing::L => u32::from(length.div_ceil(2)),
                Packing::D | Packing::E => u32::from(length),
            },
        }
    }

    /// The value that lies `offset` places from the start of what was read.
    ///
    /// # Errors
    ///
    /// Where the bytes do not hold a value of the type.
    pub fn decode(self, data: &[u8], offset: usize) -> Result<Value, Unreadable> {
        const CUT: Unreadable = Unreadable::CutShort;
        match self {
            Self::Bit => bit(data, offset).map(Value::Boolean).ok_or(CUT),
            Self::Bits(count) => {
                let bits: Option<Vec<bool>> = (offset..offset + usize::from(count))
                    .map(|at| bit(data, at))
                    .collect();
                bits.map(Value::Booleans).ok_or(CUT)
            }
            Self::RegisterBit { bit, order } => {
                let register = order.u16(chunk(data, 2 * offset).ok_or(CUT)?);
                Ok(Value::Boolean(register >> bit & 1 == 1))
            }
            Self::RegisterBits { bit, count, order } => {
                let bits: Option<Vec<bool>> = (0..usize::from(count))
                    .map(|step| usize::from(bit) + step)
                    .map(|at| {
                        let register = order.u16(chunk(data, 2 * (offset + at / 16))?);
                        Some(register >> (at % 16) & 1 == 1)
                    })
                    .collect();
                bits.map(Value::Booleans).ok_or(CUT)
            }
            Self::Number(number, order) => number_at(number, order, data, 2 * offset),
            Self::Numbers(number, order, count) => {
                let bytes = data
                    .get(2 * offset..)
                    .and_then(|data| data.get(..number.bytes() * usize::from(count)));
                numbers(number, order, bytes.ok_or(CUT)?)
            }
            Self::Text { length, packing } => {
                let mut bytes = unpack(data, 2 * offset, length, packing).ok_or(CUT)?;
                if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                    bytes.truncate(end);
                }
                String::from_utf8(bytes)
                    .map(Value::Text)
                    .map_err(|_| Unreadable::NotText)
            }
            Self::Bytes { length, packing } => unpack(data, 2 * offset, length, packing)
                .map(Value::Bytes)
                .ok_or(CUT),
        }
    }
}

fn bit(data: &[u8], at: usize) -> Option<bool> {
    data.get(at / 8).map(|byte| byte >> (at % 8) & 1 == 1)
}

fn chunk<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

fn number_at(number: Number, order: Order, data: &[u8], at: usize) -> Result<Value, Unreadable> {
    let two = || chunk(data, at).map(|two| order.u16(two));
    let four = || chunk(data, at).map(|four| order.u32(four));
    let eight = || chunk(data, at).map(|eight| order.u64(eight));
    let value = match number {
        Number::Int16 => two().map(|bits| Value::Int(i64::from(bits.cast_signed()))),
        Number::Uint16 => two().map(|bits| Value::Uint(u64::from(bits))),
        Number::Int32 => four().map(|bits| Value::Int(i64::from(bits.cast_signed()))),
        Number::Uint32 => four().map(|bits| Value::Uint(u64::from(bits))),
        Number::Int64 => eight().map(|bits| Value::Int(bits.cast_signed())),
        Number::Uint64 => eight().map(Value::Uint),
        Number::Float32 => four().map(|bits| Value::Float(f64::from(f32::from_bits(bits)))),
        Number::Float64 => eight().map(|bits| Value::Float(f64::from_bits(bits))),
        Number::Bcd16 => return bcd(two().ok_or(Unreadable::CutShort)?.into()).map(Value::Uint),
        Number::Bcd32 => return bcd(four().ok_or(Unreadable::CutShort)?).map(Value::Uint),
    };
    value.ok_or(Unreadable::CutShort)
}

fn numbers(number: Number, order: Order, bytes: &[u8]) -> Result<Value, Unreadable> {
    let two = || bytes.as_chunks().0.iter().map(|two| order.u16(*two));
    let four = || bytes.as_chunks().0.iter().map(|four| order.u32(*four));
    let eight = || bytes.as_chunks().0.iter().map(|eight| order.u64(*eight));
    Ok(match number {
        Number::Int16 => Value::Ints(two().map(|bits| i64::from(bits.cast_signed())).collect()),
        Number::Uint16 => Value::Uints(two().map(u64::from).collect()),
        Number::Int32 => Value::Ints(four().map(|bits| i64::from(bits.cast_signed())).collect()),
        Number::Uint32 => Value::Uints(four().map(u64::from).collect()),
        Number::Int64 => Value::Ints(eight().map(u64::cast_signed).collect()),
        Number::Uint64 => Value::Uints(eight().collect()),
        Number::Float32 => {
            Value::Floats(four().map(|bits| f64::from(f32::from_bits(bits))).collect())
        }
        Number::Float64 => Value::Floats(eight().map(f64::from_bits).collect()),
        Number::Bcd16 => Value::Uints(
            two()
                .map(|bits| bcd(u32::from(bits)))
                .collect::<Result<_, _>>()?,
        ),
        Number::Bcd32 => Value::Uints(four().map(bcd).collect::<Result<_, _>>()?),
    })
}

/// The number whose decimal digits are the half-bytes.
fn bcd(bits: u32) -> Result<u64, Unreadable> {
    (0..8).rev().try_fold(0, |number, place| {
        let digit = bits >> (4 * place) & 0xf;
        if digit > 9 {
            return Err(Unreadable::NotBcd(bits));
        }
        Ok(10 * number + u64::from(digit))
    })
}

fn unpack(data: &[u8], at: usize, length: u16, packing: Packing) -> Option<Vec<u8>> {
    let length = usize::from(length);
    let registers = if matches!(packing, Packing::H | Packing::L) {
        length.div_ceil(2)
    } else {
        length
    };
    let wire = data.get(at..)?.get(..2 * registers)?;
    let pairs = wire.as_chunks().0.iter();
    let mut bytes: Vec<u8> = match packing {
        Packing::H => wire.to_vec(),
        Packing::L => pairs.flat_map(|&[high, low]| [low, high]).collect(),
        Packing::D => pairs.map(|&[_, low]| low).collect(),
        Packing::E => pairs.map(|&[high, _]| high).collect(),
    };
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{EncodeError, Encoded, Masked};

    /// Known values as they come from the wire in the order ABCD. The floats are those of the libmodbus manual and IEEE 754.
    fn numbers_table() -> Vec<(Number, Vec<u8>, Value)> {
        vec![
            (Number::Int16, vec![0xff, 0xfe], Value::Int(-2)),
            (Number::Int16, vec![0x80, 0x00], Value::Int(-32_768)),
            (Number::Uint16, vec![0xff, 0xfe], Value::Uint(65_534)),
            (Number::Int32, vec![0xff, 0xff, 0xff, 0xfe], Value::Int(-2)),
            (
                Number::Int32,
                vec![0x00, 0x02, 0x22, 0x33],
                Value::Int(0x0002_2233),
            ),
            (
                Number::Uint32,
                vec![0xff, 0xff, 0xff, 0xfe],
                Value::Uint(4_294_967_294),
            ),
            (
                Number::Int64,
                vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
                Value::Int(-256),
            ),
            (
                Number::Uint64,
                vec![1, 2, 3, 4, 5, 6, 7, 8],
                Value::Uint(0x0102_0304_0506_0708),
            ),
            (
                Number::Float32,
                vec![0x47, 0xf1, 0x20, 0x00],
                Value::Float(123_456.0),
            ),
            (
                Number::Float32,
                vec![0xc0, 0x20, 0x00, 0x00],
                Value::Float(-2.5),
            ),
            (
                Number::Float64,
                vec![0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18],
                Value::Float(std::f64::consts::PI),
            ),
        ]
    }

    /// The same bytes as a device of this order sends them.
    fn in_order(bytes: &[u8], order: Order) -> Vec<u8> {
        let mut registers: Vec<[u8; 2]> = bytes.as_chunks().0.to_vec();
        if matches!(order, Order::Cdab | Order::Dcba) {
            registers.reverse();
        }
        if matches!(order, Order::Badc | Order::Dcba) {
            registers.iter_mut().for_each(|register| register.reverse());
        }
        registers.concat()
    }

    const ORDERS: [Order; 4] = [Order::Abcd, Order::Badc, Order::Cdab, Order::Dcba];

    #[test]
    fn numbers_in_every_order_there_and_back() {
        for (number, bytes, value) in numbers_table() {
            for order in ORDERS {
                let codec = Codec::Number(number, order);
                let wire = in_order(&bytes, order);
                let mut data = vec![0xaa; 6];
                data.extend(&wire);
                assert_eq!(
                    codec.decode(&data, 3),
                    Ok(value.clone()),
                    "{number:?} {order:?}"
                );
                assert_eq!(
                    codec.encode(&value),
                    Ok(Encoded::Registers(wire)),
                    "{number:?} {order:?}"
                );
                assert!(
                    codec.decode(&data[..data.len() - 1], 3).is_err(),
                    "cut short"
                );
            }
        }
    }

    #[test]
    fn the_orders_by_name() {
        let decode = |order, bytes: &[u8]| Codec::Number(Number::Uint32, order).decode(bytes, 0);
        for (order, bytes) in [
            (Order::Abcd, [1, 2, 3, 4]),
            (Order::Badc, [2, 1, 4, 3]),
            (Order::Cdab, [3, 4, 1, 2]),
            (Order::Dcba, [4, 3, 2, 1]),
        ] {
            assert_eq!(
                decode(order, &bytes),
                Ok(Value::Uint(0x0102_0304)),
                "{order:?}"
            );
        }
    }

    #[test]
    fn arrays() {
        let codec = Codec::Numbers(Number::Int16, Order::Abcd, 3);
        let value = Value::Ints(vec![1, -1, 256]);
        assert_eq!(codec.places(), 3);
        assert_eq!(
            codec.decode(&[9, 9, 0, 1, 255, 255, 1, 0, 9, 9], 1),
            Ok(value.clone())
        );
        assert_eq!(
            codec.encode(&value),
            Ok(Encoded::Registers(vec![0, 1, 255, 255, 1, 0]))
        );
        assert_eq!(
            codec.encode(&Value::Ints(vec![1])),
            Err(EncodeError::Length { got: 1, right: 3 })
        );
        let codec = Codec::Numbers(Number::Float32, Order::Cdab, 2);
        let value = Value::Floats(vec![1.0, -2.5]);
        let wire = vec![0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0x20];
        assert_eq!(codec.decode(&wire, 0), Ok(value.clone()));
        assert_eq!(codec.encode(&value), Ok(Encoded::Registers(wire)));
    }

    #[test]
    fn bits() {
        let data = [0b0100_0001, 0b0000_0010];
        let set: Vec<usize> = (0..16)
            .filter(|at| Codec::Bit.decode(&data, *at) == Ok(Value::Boolean(true)))
            .collect();
        assert_eq!(set, [0, 6, 9]);
        assert!(Codec::Bit.decode(&data, 16).is_err());
        assert_eq!(
            Codec::Bits(4).decode(&data, 6),
            Ok(Value::Booleans(vec![true, false, false, true]))
        );
        assert!(Codec::Bits(4).decode(&data, 13).is_err());
        assert_eq!(
            Codec::Bit.encode(&Value::Boolean(true)),
            Ok(Encoded::Bits(vec![true]))
        );
        assert_eq!(
            Codec::Bit.encode(&Value::Uint(1)),
            Err(EncodeError::Type("true or false"))
        );
    }

    #[test]
    fn bits_of_registers() {
        for order in ORDERS {
            for bit in 0..16 {
                let codec = Codec::RegisterBit { bit, order };
                let Ok(Encoded::Masked(masked)) = codec.encode(&Value::Boolean(true)) else {
                    panic!("{codec:?} encodes to a mask");
                };
                let [Masked { mask, bits }] = masked[..] else {
                    panic!("{codec:?} is one register");
                };
                assert_eq!(mask, bits);
                assert_eq!(mask.count_ones(), 1);
                assert_eq!(
                    codec.decode(&mask.to_be_bytes(), 0),
                    Ok(Value::Boolean(true))
                );
                assert_eq!(
                    codec.decode(&(!mask).to_be_bytes(), 0),
                    Ok(Value::Boolean(false))
                );
            }
        }
        let lowest = Codec::RegisterBit {
            bit: 0,
            order: Order::Abcd,
        };
        assert_eq!(lowest.decode(&[0, 1], 0), Ok(Value::Boolean(true)));
        let highest = Codec::RegisterBit {
            bit: 15,
            order: Order::Abcd,
        };
        assert_eq!(highest.decode(&[0x80, 0], 0), Ok(Value::Boolean(true)));
    }

    #[test]
    fn bits_of_several_registers() {
        let codec = Codec::RegisterBits {
            bit: 14,
            count: 5,
            order: Order::Abcd,
        };
        assert_eq!(codec.places(), 2);
        let bits = Value::Booleans(vec![true, false, true, true, false]);
        assert_eq!(
            codec.decode(&[9, 9, 0x40, 0, 0, 0b011], 1),
            Ok(bits.clone())
        );
        assert_eq!(
            codec.decode(&[0x40, 0], 0),
            Err(Unreadable::CutShort),
            "the second register is missing"
        );
        let first = Masked {
            mask: 0xc000,
            bits: 0x4000,
        };
        let second = Masked {
            mask: 0b111,
            bits: 0b011,
        };
        assert_eq!(
            codec.encode(&bits),
            Ok(Encoded::Masked(vec![first, second]))
        );
        assert_eq!(
            codec.encode(&Value::Booleans(vec![true])),
            Err(EncodeError::Length { got: 1, right: 5 })
        );
        let swapped = Codec::RegisterBits {
            bit: 0,
            count: 2,
            order: Order::Dcba,
        };
        assert_eq!(
            swapped.decode(&[0b10, 0], 0),
            Ok(Value::Booleans(vec![false, true]))
        );
        let whole = Codec::RegisterBits {
            bit: 0,
            count: 16,
            order: Order::Abcd,
        };
        assert_eq!(
            whole.encode(&Value::Booleans((0..16).map(|at| at == 15).collect())),
            Ok(Encoded::Registers(vec![0x80, 0])),
            "nothing is left that would have to be kept"
        );
    }

    #[test]
    fn binary_coded_decimals() {
        let orders = |number, wire: [u8; 4], value: u64| {
            for order in ORDERS {
                let codec = Codec::Number(number, order);
                let wire = in_order(&wire[4 - number.bytes()..], order);
                assert_eq!(codec.decode(&wire, 0), Ok(Value::Uint(value)));
                assert_eq!(
                    codec.encode(&Value::Uint(value)),
                    Ok(Encoded::Registers(wire))
                );
            }
        };
        orders(Number::Bcd16, [0, 0, 0x12, 0x34], 1234);
        orders(Number::Bcd16, [0, 0, 0x99, 0x99], 9999);
        orders(Number::Bcd16, [0, 0, 0, 0x07], 7);
        orders(Number::Bcd32, [0x12, 0x34, 0x56, 0x78], 12_345_678);
        orders(Number::Bcd32, [0x99, 0x99, 0x99, 0x99], 99_999_999);
        orders(Number::Bcd32, [0, 0, 0, 0], 0);
        for place in 0..4 {
            let bits = 0x1234_u16 & !(0xf << (4 * place)) | 0xa << (4 * place);
            assert_eq!(
                Codec::Number(Number::Bcd16, Order::Abcd).decode(&bits.to_be_bytes(), 0),
                Err(Unreadable::NotBcd(bits.into())),
                "{bits:x}"
            );
        }
        assert_eq!(
            Codec::Numbers(Number::Bcd16, Order::Abcd, 2).decode(&[0x12, 0x34, 0x0f, 0], 0),
            Err(Unreadable::NotBcd(0x0f00)),
            "one is enough"
        );
        let array = Codec::Numbers(Number::Bcd32, Order::Cdab, 2);
        let value = Value::Uints(vec![1, 20_000_000]);
        let wire = vec![0, 1, 0, 0, 0, 0, 0x20, 0];
        assert_eq!(array.decode(&wire, 0), Ok(value.clone()));
        assert_eq!(array.encode(&value), Ok(Encoded::Registers(wire)));
        for (number, value) in [(Number::Bcd16, 10_000), (Number::Bcd32, 100_000_000)] {
            assert_eq!(
                Codec::Number(number, Order::Abcd).encode(&Value::Uint(value)),
                Err(EncodeError::Range(number.name()))
            );
            assert!(
                Codec::Number(number, Order::Abcd)
                    .encode(&Value::Int(-1))
                    .is_err()
            );
        }
    }

    #[test]
    fn strings() {
        let text = |length, packing| Codec::Text { length, packing };
        let value = |text: &str| Ok(Value::Text(text.to_owned()));
        for (codec, wire, read) in [
            (text(5, Packing::H), b"Pump1\0".to_vec(), "Pump1"),
            (text(5, Packing::L), b"uPpm\x001".to_vec(), "Pump1"),
            (text(3, Packing::D), b"\0a\0b\0\0".to_vec(), "ab"),
            (text(3, Packing::E), b"a\0b\0\0\0".to_vec(), "ab"),
            (text(6, Packing::H), b"ab\0\0\0\0".to_vec(), "ab"),
            (text(4, Packing::H), "°C\0".as_bytes().to_vec(), "°C"),
        ] {
            assert_eq!(codec.places() as usize * 2, wire.len());
            assert_eq!(codec.decode(&wire, 0), value(read), "{codec:?}");
            assert_eq!(
                codec.encode(&Value::Text(read.to_owned())),
                Ok(Encoded::Registers(wire)),
                "{codec:?}"
            );
        }
        assert_eq!(
            text(6, Packing::H).decode(b"ab\0cd\0", 0),
            value("ab"),
            "what follows the end is not shown"
        );
        assert_eq!(
            text(2, Packing::H).decode(&[0xff, 0xfe], 0),
            Err(Unreadable::NotText)
        );
        let long = text(2, Packing::H).encode(&Value::Text("abc".to_owned()));
        assert_eq!(long, Err(EncodeError::Length { got: 3, right: 2 }));
        assert!(
            text(4, Packing::H)
                .encode(&Value::Text("a\0b".to_owned()))
                .is_err()
        );
    }

    #[test]
    fn bytes() {
        let codec = Codec::Bytes {
            length: 3,
            packing: Packing::H,
        };
        assert_eq!(
            codec.decode(&[1, 0, 255, 9], 0),
            Ok(Value::Bytes(vec![1, 0, 255]))
        );
        assert_eq!(
            codec.encode(&Value::Bytes(vec![1, 0, 255])),
            Ok(Encoded::Registers(vec![1, 0, 255, 0]))
        );
        assert_eq!(
            codec.encode(&Value::Bytes(vec![1])),
            Err(EncodeError::Length { got: 1, right: 3 })
        );
    }
}
