//! How values lie in registers and bits, and how to get them out.
//!
//! Decoding is on the path of every poll: it works on the slice that came from the wire, and allocates for strings, bytes
//! and arrays only. The way back is in `encode`.

use bulkhead_sdk::{Quality, Value};

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
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float32 => 4,
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
        }
    }
}

impl Codec {
    /// How many registers or bits it takes, as far as `u16` can say.
    pub fn places(self) -> u32 {
        match self {
            Self::Bit | Self::RegisterBit { .. } => 1,
            Self::Bits(count) => u32::from(count),
            Self::Number(number, _) => number.bytes() as u32 / 2,
            Self::Numbers(number, _, count) => number.bytes() as u32 / 2 * u32::from(count),
            Self::Text { length, packing } | Self::Bytes { length, packing } => match packing {
                Packing::H | Packing::L => u32::from(length.div_ceil(2)),
                Packing::D | Packing::E => u32::from(length),
            },
        }
    }

    /// The value that lies `offset` places from the start of what was read. `None` where the bytes do not hold a value
    /// of the type: a string that is not UTF-8, or bytes that end too soon.
    pub fn decode(self, data: &[u8], offset: usize) -> Result<Value, Quality> {
        const CUT: Quality = Quality::BadNoCommunication;
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
            Self::Number(number, order) => number_at(number, order, data, 2 * offset).ok_or(CUT),
            Self::Numbers(number, order, count) => {
                let bytes = data
                    .get(2 * offset..)
                    .and_then(|data| data.get(..number.bytes() * usize::from(count)));
                Ok(numbers(number, order, bytes.ok_or(CUT)?))
            }
            Self::Text { length, packing } => {
                let mut bytes = unpack(data, 2 * offset, length, packing).ok_or(CUT)?;
                if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                    bytes.truncate(end);
                }
                String::from_utf8(bytes)
                    .map(Value::Text)
                    .map_err(|_| Quality::BadTypeMismatch)
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

fn number_at(number: Number, order: Order, data: &[u8], at: usize) -> Option<Value> {
    Some(match number {
        Number::Int16 => Value::Int(i64::from(order.u16(chunk(data, at)?).cast_signed())),
        Number::Uint16 => Value::Uint(u64::from(order.u16(chunk(data, at)?))),
        Number::Int32 => Value::Int(i64::from(order.u32(chunk(data, at)?).cast_signed())),
        Number::Uint32 => Value::Uint(u64::from(order.u32(chunk(data, at)?))),
        Number::Int64 => Value::Int(order.u64(chunk(data, at)?).cast_signed()),
        Number::Uint64 => Value::Uint(order.u64(chunk(data, at)?)),
        Number::Float32 => Value::Float(f64::from(f32::from_bits(order.u32(chunk(data, at)?)))),
        Number::Float64 => Value::Float(f64::from_bits(order.u64(chunk(data, at)?))),
    })
}

fn numbers(number: Number, order: Order, bytes: &[u8]) -> Value {
    let two = || bytes.as_chunks().0.iter().map(|two| order.u16(*two));
    let four = || bytes.as_chunks().0.iter().map(|four| order.u32(*four));
    let eight = || bytes.as_chunks().0.iter().map(|eight| order.u64(*eight));
    match number {
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
    }
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
    use crate::encode::{EncodeError, Encoded};

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
                let Ok(Encoded::RegisterBit { mask, on: true }) =
                    codec.encode(&Value::Boolean(true))
                else {
                    panic!("{codec:?} encodes to a mask");
                };
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
            Err(Quality::BadTypeMismatch)
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
