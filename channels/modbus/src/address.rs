//! How a tag's address is written.
//!
//! Two styles, which cannot be confused: a *reference* of five or six digits counts from 1 and carries its table in
//! the first digit (`40001`, `400001`); a *name* counts from 0 and spells its table out (`holding:0`). Suffixes say
//! what the number alone cannot: a bit, a length, an order of bytes. This file knows the syntax; what a suffix means
//! for a data type is decided in `point`.

use std::fmt;

use thiserror::Error;

use crate::order::Order;

/// How to write an address, for people: `driver-info.address-help`.
pub const HELP: &str = "\
TABLE:OFFSET counts from 0: coil:0, discrete:0, input:0, holding:0 (to 65535).
Five or six digits count from 1 and begin with the table: 00001 or 000001 is a coil, 10001 a discrete input,
30001 an input register, 40001 or 400001 a holding register.
.BIT       a bool in a register: 40001.0 (lowest) to 40001.15
.LENGTH    bytes of a string or bytes tag: 40100.20; with H (high byte first, the usual), L (low byte first),
           D or E (one byte in each register, in its low or its high half): 40100.20L
#ORDER     order of bytes: #ABCD (also written #LL), #BADC (#LB), #CDAB (#BL), #DCBA (#BB); for single registers
           #L as usual, #B with the bytes swapped
#BCD       binary-coded decimal: four digits in a uint16, eight in a uint32, each in four bits; also 40001#BCD#CDAB
The settings of a tag can say the same: { bit = 3 }, { length = 20, packing = \"L\" }, { order = \"CDAB\" }, { bcd = true }.
The unit is the address of the device; with RTU framing 0 is all units at once, and can only be written.
A type such as int16[4] is four values that follow each other; bool[n] is n coils or discrete inputs, or n bits of
registers from .BIT upwards (40001 and 40001.0 are the same there).";

/// One of the four tables of the Modbus data model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Bits that can be written.
    Coil,
    /// Bits that can only be read.
    Discrete,
    /// Registers that can only be read.
    Input,
    /// Registers that can be written.
    Holding,
}

impl Table {
    /// Whether the table holds single bits rather than registers.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// Whether the protocol can write it.
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Coil | Self::Holding)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        })
    }
}

/// How a string lies in its registers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub enum Packing {
    /// Two bytes in each register, the high one first.
    H,
    /// Two bytes in each register, the low one first.
    L,
    /// One byte in each register, in its low half.
    D,
    /// One byte in each register, in its high half.
    E,
}

/// What follows the dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dot {
    /// A bit or a length.
    pub number: u16,
    /// Only with a length.
    pub packing: Option<Packing>,
}

/// An address, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The table.
    pub table: Table,
    /// Counted from 0, as on the wire.
    pub offset: u16,
    /// `.BIT` or `.LENGTH`.
    pub dot: Option<Dot>,
    /// `#ORDER`.
    pub order: Option<Order>,
    /// `#BCD`.
    pub bcd: bool,
}

/// What is wrong with an address.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Neither style.
    #[error(
        "{0:?} is no address; write holding:0, input:0, coil:0, discrete:0, or five or six digits such as 40001"
    )]
    Unreadable(String),
    /// The first digit names no table.
    #[error(
        "{0:?} names no table; a reference begins with 0 (coil), 1 (discrete), 3 (input) or 4 (holding)"
    )]
    NoTable(String),
    /// Outside the table.
    #[error("{text:?} is outside its table; it reaches from {from} to {to}")]
    OutOfRange {
        /// The address.
        text: String,
        /// The first legal number in this style.
        from: &'static str,
        /// The last legal number in this style.
        to: &'static str,
    },
    /// A unit in the address.
    #[error(
        "{0:?} contains a unit; give the unit as the address of the device, and only what follows `!` here"
    )]
    Unit(String),
    /// A suffix that is not understood.
    #[error(
        "{0:?} is no suffix; write .BIT, .LENGTH with H, L, D or E, or #ABCD, #BADC, #CDAB, #DCBA, #BCD"
    )]
    Suffix(String),
    /// The same kind of suffix twice.
    #[error("{0:?} has two suffixes of one kind; keep one")]
    Twice(String),
}

impl Address {
    /// Take an address apart.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('!') {
            return Err(AddressError::Unit(text.to_owned()));
        }
        let end = text.find(['.', '#']).unwrap_or(text.len());
        let (place, mut rest) = text.split_at(end);
        let (table, offset) = parse_place(place)?;
        let mut address = Self {
            table,
            offset,
            dot: None,
            order: None,
            bcd: false,
        };
        while let Some(mark) = rest.chars().next() {
            let body = &rest[1..];
            let end = body.find(['.', '#']).unwrap_or(body.len());
            let (suffix, after) = body.split_at(end);
            let unknown = || AddressError::Suffix(format!("{mark}{suffix}"));
            let taken = if mark == '.' {
                address
                    .dot
                    .replace(parse_dot(suffix).ok_or_else(unknown)?)
                    .is_some()
            } else if suffix == "BCD" {
                std::mem::replace(&mut address.bcd, true)
            } else {
                address
                    .order
                    .replace(Order::parse(suffix).ok_or_else(unknown)?)
                    .is_some()
            };
            if taken {
                return Err(AddressError::Twice(text.to_owned()));
            }
            rest = after;
        }
        Ok(address)
    }
}

fn parse_place(place: &str) -> Result<(Table, u16), AddressError> {
    let unreadable = || AddressError::Unreadable(place.to_owned());
    if let Some((name, number)) = place.split_once(':') {
        let table = match name {
            "coil" => Table::Coil,
            "discrete" => Table::Discrete,
            "input" => Table::Input,
            "holding" => Table::Holding,
            _ => return Err(unreadable()),
        };
        if !is_digits(number) {
            return Err(unreadable());
        }
        let range = || AddressError::OutOfRange {
            text: place.to_owned(),
            from: "0",
            to: "65535",
        };
        return Ok((table, number.parse().map_err(|_| range())?));
    }
    if !is_digits(place) || !matches!(place.len(), 5 | 6) {
        return Err(unreadable());
    }
    let (first, number) = place.split_at(1);
    let table = match first {
        "0" => Table::Coil,
        "1" => Table::Discrete,
        "3" => Table::Input,
        "4" => Table::Holding,
        _ => return Err(AddressError::NoTable(place.to_owned())),
    };
    let (last, to) = if place.len() == 5 {
        (9_999, "9999")
    } else {
        (65_536, "65536")
    };
    let number: u32 = number.parse().map_err(|_| unreadable())?;
    match number.checked_sub(1).map(u16::try_from) {
        Some(Ok(offset)) if number <= last => Ok((table, offset)),
        _ => Err(AddressError::OutOfRange {
            text: place.to_owned(),
            from: "1",
            to,
        }),
    }
}

fn parse_dot(suffix: &str) -> Option<Dot> {
    let (number, packing) = match suffix.strip_suffix(['H', 'L', 'D', 'E']) {
        None => (suffix, None),
        Some(number) => {
            let packing = match suffix.as_bytes().last()? {
                b'H' => Packing::H,
                b'L' => Packing::L,
                b'D' => Packing::D,
                _ => Packing::E,
            };
            (number, Some(packing))
        }
    };
    if !is_digits(number) {
        return None;
    }
    Some(Dot {
        number: number.parse().ok()?,
        packing,
    })
}

/// `str::parse` would take a sign as well.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(table: Table, offset: u16) -> Address {
        Address {
            table,
            offset,
            dot: None,
            order: None,
            bcd: false,
        }
    }

    fn dotted(table: Table, offset: u16, number: u16, packing: Option<Packing>) -> Address {
        Address {
            dot: Some(Dot { number, packing }),
            ..plain(table, offset)
        }
    }

    #[test]
    fn both_styles_name_the_same_places() {
        for (text, expected) in [
            ("holding:0", plain(Table::Holding, 0)),
            ("holding:65535", plain(Table::Holding, 65_535)),
            ("input:7", plain(Table::Input, 7)),
            ("coil:0", plain(Table::Coil, 0)),
            ("discrete:12", plain(Table::Discrete, 12)),
            ("40001", plain(Table::Holding, 0)),
            ("49999", plain(Table::Holding, 9_998)),
            ("400001", plain(Table::Holding, 0)),
            ("465536", plain(Table::Holding, 65_535)),
            ("30010", plain(Table::Input, 9)),
            ("10001", plain(Table::Discrete, 0)),
            ("00001", plain(Table::Coil, 0)),
            ("065536", plain(Table::Coil, 65_535)),
            ("40001.15", dotted(Table::Holding, 0, 15, None)),
            ("40100.20", dotted(Table::Holding, 99, 20, None)),
            (
                "40100.20L",
                dotted(Table::Holding, 99, 20, Some(Packing::L)),
            ),
            (
                "holding:99.7E",
                dotted(Table::Holding, 99, 7, Some(Packing::E)),
            ),
            (
                "40010#LL",
                Address {
                    order: Some(Order::Abcd),
                    ..plain(Table::Holding, 9)
                },
            ),
            (
                "40010#CDAB",
                Address {
                    order: Some(Order::Cdab),
                    ..plain(Table::Holding, 9)
                },
            ),
            (
                "holding:9#BB",
                Address {
                    order: Some(Order::Dcba),
                    ..plain(Table::Holding, 9)
                },
            ),
            (
                "40010.3#B",
                Address {
                    order: Some(Order::Dcba),
                    ..dotted(Table::Holding, 9, 3, None)
                },
            ),
            (
                "40010#B.3",
                Address {
                    order: Some(Order::Dcba),
                    ..dotted(Table::Holding, 9, 3, None)
                },
            ),
            (
                "40010#BCD",
                Address {
                    bcd: true,
                    ..plain(Table::Holding, 9)
                },
            ),
            (
                "40010#CDAB#BCD",
                Address {
                    bcd: true,
                    order: Some(Order::Cdab),
                    ..plain(Table::Holding, 9)
                },
            ),
        ] {
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "is no address"),
            ("1", "is no address"),
            ("4001", "is no address"),
            ("4000001", "is no address"),
            ("+0001", "is no address"),
            ("holding:+1", "is no address"),
            ("holding:", "is no address"),
            ("holding", "is no address"),
            ("register:1", "is no address"),
            ("4０001", "is no address"),
            ("20001", "names no table"),
            ("90001", "names no table"),
            ("40000", "from 1 to 9999"),
            ("400000", "from 1 to 65536"),
            ("465537", "from 1 to 65536"),
            ("holding:65536", "from 0 to 65535"),
            ("holding:99999999999999999999", "from 0 to 65535"),
            ("1!400001", "address of the device"),
            ("40001.", "is no suffix"),
            ("40001.-1", "is no suffix"),
            ("40001.H", "is no suffix"),
            ("40001.70000", "is no suffix"),
            ("40001#", "is no suffix"),
            ("40001#XY", "is no suffix"),
            ("40001#ä", "is no suffix"),
            ("40001.1.2", "two suffixes"),
            ("40001#LL#BB", "two suffixes"),
            ("40001#BCD#BCD", "two suffixes"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(text.contains(':') || text.len() >= 5, "{:?}", address);
            }
        }

        #[test]
        fn names_and_references_agree(offset: u16) {
            let name = Address::parse(&format!("holding:{offset}"));
            let reference = Address::parse(&format!("4{:05}", u32::from(offset) + 1));
            prop_assert_eq!(&name, &reference);
            prop_assert_eq!(name.unwrap().offset, offset);
        }
    }
}
