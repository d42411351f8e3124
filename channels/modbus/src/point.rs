//! What a tag is: its place in a unit, and how its value lies there.
//!
//! A tag's address, type and settings are checked against each other here, once, so that a poll has nothing left to
//! decide. Whatever the protocol cannot do with the tag is found out here too, not at the first poll.

use bulkhead_sdk::{DataType, Scalar};

use crate::address::{Address, Packing, Table};
use crate::order::Order;
use crate::plan::{MOST_BITS_WRITTEN, MOST_REGISTERS_WRITTEN, Span};
use crate::settings::{ChannelSettings, Faults, TagSettings};
use crate::value::{Codec, Number};

/// A tag, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Where to look.
    pub table: Table,
    /// Which registers or bits.
    pub span: Span,
    /// What they mean.
    pub codec: Codec,
}

/// A tag as the operator wrote it.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// In one of the styles of `address`.
    pub address: &'a str,
    /// Its type.
    pub data_type: DataType,
    /// Whether it shall be written.
    pub writable: bool,
    /// Its own settings.
    pub settings: &'a TagSettings,
    /// The order of the device or channel.
    pub order: Order,
}

/// Resolve a tag, or say everything that is wrong with it.
pub fn resolve(wish: Wish<'_>, channel: &ChannelSettings) -> Result<Point, Faults> {
    let mut faults = Faults::new();
    let address = Address::parse(wish.address)
        .map_err(|error| faults.push(("address", error.to_string())))
        .ok();
    let kind = kind(wish.data_type.scalar)
        .map_err(|message| faults.push(("type", message)))
        .ok();
    let (Some(address), Some(kind)) = (address, kind) else {
        return Err(faults);
    };
    let codec = codec(&address, kind, wish, &mut faults);
    let span = codec.and_then(|codec| span(address, codec, channel, &mut faults));
    if wish.writable {
        check_writable(address.table, span, &mut faults);
    }
    match (codec, span) {
        (Some(codec), Some(span)) if faults.is_empty() => Ok(Point {
            table: address.table,
            span,
            codec,
        }),
        _ => Err(faults),
    }
}

/// What a type is made of here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number(Number),
    Text,
    Bytes,
}

fn kind(scalar: Scalar) -> Result<Kind, String> {
    Ok(match scalar {
        Scalar::Bool => Kind::Bool,
        Scalar::Int16 => Kind::Number(Number::Int16),
        Scalar::Uint16 => Kind::Number(Number::Uint16),
        Scalar::Int32 => Kind::Number(Number::Int32),
        Scalar::Uint32 => Kind::Number(Number::Uint32),
        Scalar::Int64 => Kind::Number(Number::Int64),
        Scalar::Uint64 => Kind::Number(Number::Uint64),
        Scalar::Float32 => Kind::Number(Number::Float32),
        Scalar::Float64 => Kind::Number(Number::Float64),
        Scalar::String => Kind::Text,
        Scalar::Bytes => Kind::Bytes,
        Scalar::Int8 => {
            return Err("int8 is smaller than a register; use int16, or bytes".to_owned());
        }
        Scalar::Uint8 => {
            return Err("uint8 is smaller than a register; use uint16, or bytes".to_owned());
        }
    })
}

fn codec(address: &Address, kind: Kind, wish: Wish<'_>, faults: &mut Faults) -> Option<Codec> {
    let mut suffixes = Suffixes::gather(address, wish.settings, faults)?;
    let bcd = std::mem::take(&mut suffixes.bcd);
    let kind = match kind {
        _ if !bcd => kind,
        Kind::Number(Number::Uint16) => Kind::Number(Number::Bcd16),
        Kind::Number(Number::Uint32) => Kind::Number(Number::Bcd32),
        _ => {
            let message = "binary-coded decimal is without a sign, and of four or eight digits; use uint16 or uint32";
            faults.push(("type", message.to_owned()));
            return None;
        }
    };
    let codec = if address.table.is_bits() {
        bit_codec(address.table, kind, wish)
    } else {
        register_codec(kind, wish, &mut suffixes)
    };
    match codec {
        Ok(codec) => {
            suffixes.check_all_used(wish.data_type, faults);
            Some(codec)
        }
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// More elements than fit a table fit no request either, which is found out when the places are counted.
fn elements(length: u32) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn bit_codec(table: Table, kind: Kind, wish: Wish<'_>) -> Result<Codec, (&'static str, String)> {
    match (kind, wish.data_type.length) {
        (Kind::Bool, None) => Ok(Codec::Bit),
        (Kind::Bool, Some(length)) => Ok(Codec::Bits(elements(length))),
        _ => Err((
            "type",
            format!("a {table} place is a single bit; use bool, or bool[n]"),
        )),
    }
}

fn register_codec(
    kind: Kind,
    wish: Wish<'_>,
    suffixes: &mut Suffixes,
) -> Result<Codec, (&'static str, String)> {
    let fault = |at, message: &str| Err((at, message.to_owned()));
    let length = wish.data_type.length;
    match kind {
        Kind::Bool if length.is_some() => {
            let order = suffixes.order.take().unwrap_or(wish.order);
            match suffixes.bit().map_or(Ok(0), u8::try_from) {
                Ok(bit) if bit < 16 && suffixes.packing.is_none() => Ok(Codec::RegisterBits {
                    bit,
                    count: elements(length.unwrap_or_default()),
                    order,
                }),
                _ => fault(
                    "address",
                    "bits of registers begin with one of .0 (lowest) to .15 of the first, as in 40001.3",
                ),
            }
        }
        Kind::Bool => {
            let order = suffixes.order.take().unwrap_or(wish.order);
            match suffixes.bit().map(u8::try_from) {
                Some(Ok(bit)) if bit < 16 && suffixes.packing.is_none() => {
                    Ok(Codec::RegisterBit { bit, order })
                }
                _ => fault(
                    "address",
                    "a bool in a register needs its bit: .0 (lowest) to .15, as in 40001.3",
                ),
            }
        }
        Kind::Number(number) => {
            let order = suffixes.order.take().unwrap_or(wish.order);
            Ok(length.map_or(Codec::Number(number, order), |length| {
                Codec::Numbers(number, order, elements(length))
            }))
        }
        Kind::Text | Kind::Bytes if length.is_some() => fault(
            "type",
            "strings and bytes have no arrays; their length stands in the address, as in 40001.20",
        ),
        Kind::Text | Kind::Bytes => {
            let usual = if wish.order.swaps_bytes() {
                Packing::L
            } else {
                Packing::H
            };
            let packing = suffixes.packing.take().unwrap_or(usual);
            match suffixes.length() {
                None | Some(0) => fault(
                    "address",
                    "a string or bytes tag needs its length in bytes: 40001.20, or { length = 20 }",
                ),
                Some(length) if kind == Kind::Text => Ok(Codec::Text { length, packing }),
                Some(length) => Ok(Codec::Bytes { length, packing }),
            }
        }
    }
}

/// What the address's suffixes and the tag's settings say together.
struct Suffixes {
    order: Option<Order>,
    bit: Option<u16>,
    length: Option<u16>,
    /// A bit or a length, as the type decides.
    dot: Option<u16>,
    packing: Option<Packing>,
    bcd: bool,
}

impl Suffixes {
    fn gather(address: &Address, settings: &TagSettings, faults: &mut Faults) -> Option<Self> {
        let before = faults.len();
        let mut twice = |name, both: bool| {
            if both {
                faults.push((
                    name,
                    "the address says the same by its suffix; keep one of the two".to_owned(),
                ));
            }
        };
        twice(
            "settings.order",
            address.order.is_some() && settings.order.is_some(),
        );
        twice(
            "settings.bit",
            address.dot.is_some() && settings.bit.is_some(),
        );
        twice(
            "settings.length",
            address.dot.is_some() && settings.length.is_some(),
        );
        let packing = address.dot.and_then(|dot| dot.packing);
        twice(
            "settings.packing",
            packing.is_some() && settings.packing.is_some(),
        );
        (faults.len() == before).then(|| Self {
            order: address.order.or(settings.order),
            bit: settings.bit,
            length: settings.length,
            dot: address.dot.map(|dot| dot.number),
            packing: packing.or(settings.packing),
            bcd: address.bcd || settings.bcd,
        })
    }

    fn bit(&mut self) -> Option<u16> {
        self.bit.take().or_else(|| self.dot.take())
    }

    fn length(&mut self) -> Option<u16> {
        self.length.take().or_else(|| self.dot.take())
    }

    /// A suffix without a meaning is a mistake that somebody would search for long.
    fn check_all_used(&self, data_type: DataType, faults: &mut Faults) {
        for (unused, name) in [
            (self.order.is_some(), "order of bytes"),
            (self.bit.is_some(), "bit"),
            (self.length.is_some(), "length"),
            (self.dot.is_some(), "suffix after the dot"),
            (self.packing.is_some(), "packing"),
        ] {
            if unused {
                faults.push((
                    "address",
                    format!("{data_type} has no {name} here; leave it out"),
                ));
            }
        }
    }
}

fn span(
    address: Address,
    codec: Codec,
    channel: &ChannelSettings,
    faults: &mut Faults,
) -> Option<Span> {
    let places = codec.places();
    let (most, setting, unit) = if address.table.is_bits() {
        (channel.max_bits, "max_bits", "bits")
    } else {
        (channel.max_registers, "max_registers", "registers")
    };
    if places > u32::from(most) {
        let message = format!(
            "it takes {places} {unit}, and one request reads at most {most} ({setting}); split the tag"
        );
        faults.push(("address", message));
        return None;
    }
    if u32::from(address.offset) + places > 65_536 {
        faults.push((
            "address",
            format!("it takes {places} {unit} and reaches over the end of its table at 65535"),
        ));
        return None;
    }
    let count = u16::try_from(places).expect("at most 2,000");
    Some(Span {
        start: address.offset,
        count,
    })
}

fn check_writable(table: Table, span: Option<Span>, faults: &mut Faults) {
    if !table.is_writable() {
        faults.push(("access", format!("the {table} table cannot be written; make the tag read-only, or use a coil or holding address")));
        return;
    }
    let most = if table.is_bits() {
        MOST_BITS_WRITTEN
    } else {
        MOST_REGISTERS_WRITTEN
    };
    if let Some(span) = span.filter(|span| span.count > most) {
        let message = format!(
            "it takes {} places, and one request writes at most {most}; make the tag read-only or split it",
            span.count
        );
        faults.push(("access", message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(
        address: &str,
        data_type: &str,
        writable: bool,
        settings: &TagSettings,
        channel: &ChannelSettings,
    ) -> Result<Point, String> {
        let wish = Wish {
            address,
            data_type: data_type.parse().unwrap(),
            writable,
            settings,
            order: channel.order,
        };
        resolve(wish, channel).map_err(|faults| {
            faults
                .iter()
                .map(|(at, message)| format!("{at}: {message}"))
                .collect::<Vec<_>>()
                .join("; ")
        })
    }

    fn check(address: &str, data_type: &str) -> Result<Point, String> {
        check_with(
            address,
            data_type,
            false,
            &TagSettings::default(),
            &ChannelSettings::default(),
        )
    }

    fn point(table: Table, start: u16, count: u16, codec: Codec) -> Result<Point, String> {
        Ok(Point {
            table,
            span: Span { start, count },
            codec,
        })
    }

    #[test]
    fn what_tags_mean() {
        use Order::{Abcd, Cdab, Dcba};
        for (address, data_type, expected) in [
            ("00001", "bool", point(Table::Coil, 0, 1, Codec::Bit)),
            (
                "discrete:9",
                "bool[12]",
                point(Table::Discrete, 9, 12, Codec::Bits(12)),
            ),
            (
                "40001",
                "int16",
                point(Table::Holding, 0, 1, Codec::Number(Number::Int16, Abcd)),
            ),
            (
                "40001#B",
                "uint16",
                point(Table::Holding, 0, 1, Codec::Number(Number::Uint16, Dcba)),
            ),
            (
                "40010#LL",
                "float32",
                point(Table::Holding, 9, 2, Codec::Number(Number::Float32, Abcd)),
            ),
            (
                "30010#CDAB",
                "float64",
                point(Table::Input, 9, 4, Codec::Number(Number::Float64, Cdab)),
            ),
            (
                "40001",
                "uint32[3]",
                point(
                    Table::Holding,
                    0,
                    6,
                    Codec::Numbers(Number::Uint32, Abcd, 3),
                ),
            ),
            (
                "40001.15",
                "bool",
                point(
                    Table::Holding,
                    0,
                    1,
                    Codec::RegisterBit {
                        bit: 15,
                        order: Abcd,
                    },
                ),
            ),
            (
                "40001#BCD",
                "uint16",
                point(Table::Holding, 0, 1, Codec::Number(Number::Bcd16, Abcd)),
            ),
            (
                "30001#BCD#CDAB",
                "uint32",
                point(Table::Input, 0, 2, Codec::Number(Number::Bcd32, Cdab)),
            ),
            (
                "40001#BCD",
                "uint16[10]",
                point(
                    Table::Holding,
                    0,
                    10,
                    Codec::Numbers(Number::Bcd16, Abcd, 10),
                ),
            ),
            (
                "40001.14",
                "bool[3]",
                point(
                    Table::Holding,
                    0,
                    2,
                    Codec::RegisterBits {
                        bit: 14,
                        count: 3,
                        order: Abcd,
                    },
                ),
            ),
            (
                "30001#B",
                "bool[16]",
                point(
                    Table::Input,
                    0,
                    1,
                    Codec::RegisterBits {
                        bit: 0,
                        count: 16,
                        order: Dcba,
                    },
                ),
            ),
            (
                "40001.5",
                "string",
                point(
                    Table::Holding,
                    0,
                    3,
                    Codec::Text {
                        length: 5,
                        packing: Packing::H,
                    },
                ),
            ),
            (
                "40001.5D",
                "string",
                point(
                    Table::Holding,
                    0,
                    5,
                    Codec::Text {
                        length: 5,
                        packing: Packing::D,
                    },
                ),
            ),
            (
                "40001.250",
                "string",
                point(
                    Table::Holding,
                    0,
                    125,
                    Codec::Text {
                        length: 250,
                        packing: Packing::H,
                    },
                ),
            ),
            (
                "40001.4L",
                "bytes",
                point(
                    Table::Holding,
                    0,
                    2,
                    Codec::Bytes {
                        length: 4,
                        packing: Packing::L,
                    },
                ),
            ),
            (
                "holding:65535",
                "uint16",
                point(
                    Table::Holding,
                    65_535,
                    1,
                    Codec::Number(Number::Uint16, Abcd),
                ),
            ),
        ] {
            assert_eq!(check(address, data_type), expected, "{address} {data_type}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (address, data_type, part) in [
            ("40001", "int8", "use int16"),
            ("40001", "uint8", "use uint16"),
            ("00001", "uint16", "a coil place is a single bit"),
            ("00001", "bool[65536]", "takes 65535 bits"),
            ("00001.3", "bool", "has no suffix after the dot"),
            ("00001#LL", "bool", "has no order of bytes"),
            ("40001", "bool", "needs its bit"),
            ("40001.16", "bool", "needs its bit"),
            ("40001.3L", "bool", "needs its bit"),
            ("40001.16", "bool[3]", "begin with one of .0"),
            ("40001.3L", "bool[3]", "begin with one of .0"),
            ("40001", "bool[2001]", "takes 126 registers"),
            ("40001#BCD", "int16", "without a sign"),
            ("40001#BCD", "uint64", "four or eight digits"),
            ("40001#BCD", "float32", "use uint16 or uint32"),
            ("40001.4#BCD", "string", "use uint16 or uint32"),
            ("00001#BCD", "bool", "use uint16 or uint32"),
            ("40001.3", "int16", "has no suffix after the dot"),
            ("40001", "string", "needs its length"),
            ("40001.0", "string", "needs its length"),
            ("40001.20", "string[2]", "have no arrays"),
            ("40001.20#LL", "string", "has no order of bytes"),
            ("40001.251", "string", "takes 126 registers"),
            ("40001", "float64[32]", "takes 128 registers"),
            ("00001", "bool[2001]", "takes 2001 bits"),
            ("holding:65535", "uint32", "over the end"),
            ("465536", "float32", "over the end"),
        ] {
            let error = check(address, data_type).expect_err(address);
            assert!(error.contains(part), "{address} {data_type}: {error}");
        }
        let error = check("20001", "int8").expect_err("two faults");
        assert!(
            error.contains("address: ") && error.contains("type: "),
            "both are said at once: {error}"
        );
    }

    #[test]
    fn settings_say_the_same_as_suffixes() {
        let channel = ChannelSettings::default();
        let settings = |order, length, bit, packing| TagSettings {
            order,
            length,
            bit,
            packing,
            bcd: false,
        };
        let bcd = TagSettings {
            bcd: true,
            ..TagSettings::default()
        };
        for (address, data_type, tag_settings, same) in [
            (
                "40001",
                "float32",
                settings(Some(Order::Cdab), None, None, None),
                "40001#BL",
            ),
            (
                "40001",
                "bool",
                settings(None, None, Some(3), None),
                "40001.3",
            ),
            (
                "40001",
                "string",
                settings(None, Some(8), None, None),
                "40001.8",
            ),
            (
                "40001",
                "string",
                settings(None, Some(8), None, Some(Packing::E)),
                "40001.8E",
            ),
            (
                "40001.8",
                "string",
                settings(None, None, None, Some(Packing::E)),
                "40001.8E",
            ),
            ("40001", "uint32[3]", bcd, "40001#BCD"),
        ] {
            assert_eq!(
                check_with(address, data_type, false, &tag_settings, &channel),
                check(same, data_type),
                "{same}"
            );
        }
        for (address, data_type, tag_settings, part) in [
            (
                "40001#LL",
                "float32",
                settings(Some(Order::Cdab), None, None, None),
                "settings.order",
            ),
            (
                "40001.3",
                "bool",
                settings(None, None, Some(3), None),
                "settings.bit",
            ),
            (
                "40001.3",
                "string",
                settings(None, Some(3), None, None),
                "settings.length",
            ),
            (
                "40001.3H",
                "string",
                settings(None, None, None, Some(Packing::H)),
                "settings.packing",
            ),
            (
                "40001",
                "uint16",
                settings(None, None, Some(3), None),
                "has no bit",
            ),
            (
                "40001.3",
                "bool",
                settings(None, None, None, Some(Packing::H)),
                "needs its bit",
            ),
        ] {
            let error =
                check_with(address, data_type, false, &tag_settings, &channel).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_order_of_the_channel_holds_where_the_tag_says_none() {
        let channel = ChannelSettings {
            order: Order::Dcba,
            ..ChannelSettings::default()
        };
        let check = |address, data_type| {
            check_with(address, data_type, false, &TagSettings::default(), &channel)
                .unwrap()
                .codec
        };
        assert_eq!(
            check("40001", "float32"),
            Codec::Number(Number::Float32, Order::Dcba)
        );
        assert_eq!(
            check("40001#ABCD", "float32"),
            Codec::Number(Number::Float32, Order::Abcd)
        );
        assert_eq!(
            check("40001.4", "string"),
            Codec::Text {
                length: 4,
                packing: Packing::L
            }
        );
    }

    #[test]
    fn only_what_can_be_written_is_writable() {
        let channel = ChannelSettings {
            max_gap_bits: 0,
            ..ChannelSettings::default()
        };
        let check = |address, data_type| {
            check_with(address, data_type, true, &TagSettings::default(), &channel)
        };
        for (address, data_type, part) in [
            ("30001", "int16", "cannot be written"),
            ("10001", "bool", "cannot be written"),
            ("40001.250", "string", "writes at most 123"),
            ("00001", "bool[1969]", "writes at most 1968"),
        ] {
            let error = check(address, data_type).expect_err(address);
            assert!(error.contains(part), "{error}");
        }
        for (address, data_type) in [
            ("40001", "int16"),
            ("00001", "bool[1968]"),
            ("40001.246", "string"),
            ("40001.3", "bool"),
        ] {
            assert!(check(address, data_type).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_tag_must_fit_the_requests_of_the_channel() {
        let channel = ChannelSettings {
            max_registers: 3,
            ..ChannelSettings::default()
        };
        let error = check_with("40001", "float64", false, &TagSettings::default(), &channel)
            .expect_err("4 registers");
        assert!(error.contains("at most 3 (max_registers)"), "{error}");
    }
}
