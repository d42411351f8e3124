//! The order of bytes and registers in values wider than a byte.
//!
//! Modbus sends each register with its high byte first, and says nothing of values that span several. Devices
//! differ, and the trade names the four ways after the bytes `ABCD` of a 32-bit value, A the highest. Wider values
//! follow the same two rules: *swap the bytes of each register* and *lowest register first*.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In which order the bytes of a value lie in the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// Highest register first, high byte first: what the specification does within a register.
    #[default]
    #[serde(rename = "ABCD")]
    Abcd,
    /// Highest register first, the bytes of each register swapped.
    #[serde(rename = "BADC")]
    Badc,
    /// Lowest register first, high byte first.
    #[serde(rename = "CDAB")]
    Cdab,
    /// Lowest register first, the bytes of each register swapped: little-endian throughout.
    #[serde(rename = "DCBA")]
    Dcba,
}

impl Order {
    /// The order that a suffix of an address names: `ABCD`, or the notation `LL`, `LB`, `BL`, `BB` (for single
    /// registers `L`, `B`) that Neuron uses.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ABCD" | "LL" | "L" | "AB" => Some(Self::Abcd),
            "BADC" | "LB" => Some(Self::Badc),
            "CDAB" | "BL" => Some(Self::Cdab),
            "DCBA" | "BB" | "B" | "BA" => Some(Self::Dcba),
            _ => None,
        }
    }

    /// Whether the low byte of each register comes first.
    pub fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    /// The value of one register.
    pub fn u16(self, wire: [u8; 2]) -> u16 {
        if self.swaps_bytes() {
            u16::from_le_bytes(wire)
        } else {
            u16::from_be_bytes(wire)
        }
    }

    /// The value of two registers.
    pub fn u32(self, wire: [u8; 4]) -> u32 {
        match self {
            Self::Abcd => u32::from_be_bytes(wire),
            Self::Badc => u32::from_le_bytes(wire).rotate_left(16),
            Self::Cdab => u32::from_be_bytes(wire).rotate_left(16),
            Self::Dcba => u32::from_le_bytes(wire),
        }
    }

    /// The value of four registers.
    pub fn u64(self, wire: [u8; 8]) -> u64 {
        match self {
            Self::Abcd => u64::from_be_bytes(wire),
            Self::Badc => reverse_registers(u64::from_le_bytes(wire)),
            Self::Cdab => reverse_registers(u64::from_be_bytes(wire)),
            Self::Dcba => u64::from_le_bytes(wire),
        }
    }
}

/// The four registers of a 64-bit value in the opposite order, each as it is.
fn reverse_registers(value: u64) -> u64 {
    let halves_swapped = value.rotate_left(32);
    ((halves_swapped & 0x0000_ffff_0000_ffff) << 16)
        | ((halves_swapped >> 16) & 0x0000_ffff_0000_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes as they come from the wire for 0x0102, 0x01020304 and 0x0102030405060708.
    type Row = (Order, [u8; 2], [u8; 4], [u8; 8]);

    const TABLE: [Row; 4] = [
        (Order::Abcd, [1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
        (Order::Badc, [2, 1], [2, 1, 4, 3], [2, 1, 4, 3, 6, 5, 8, 7]),
        (Order::Cdab, [1, 2], [3, 4, 1, 2], [7, 8, 5, 6, 3, 4, 1, 2]),
        (Order::Dcba, [2, 1], [4, 3, 2, 1], [8, 7, 6, 5, 4, 3, 2, 1]),
    ];

    #[test]
    fn each_order_reads_its_bytes() {
        for (order, two, four, eight) in TABLE {
            assert_eq!(order.u16(two), 0x0102, "{order:?}");
            assert_eq!(order.u32(four), 0x0102_0304, "{order:?}");
            assert_eq!(order.u64(eight), 0x0102_0304_0506_0708, "{order:?}");
        }
    }

    /// Each order is its own inverse, so encoding is decoding of the big-endian bytes.
    #[test]
    fn applying_an_order_twice_changes_nothing() {
        for (order, two, four, eight) in TABLE {
            assert_eq!(order.u16(order.u16(two).to_be_bytes()).to_be_bytes(), two);
            assert_eq!(order.u32(order.u32(four).to_be_bytes()).to_be_bytes(), four);
            assert_eq!(
                order.u64(order.u64(eight).to_be_bytes()).to_be_bytes(),
                eight
            );
        }
    }

    #[test]
    fn the_suffixes_name_the_orders() {
        for (suffix, order) in [
            ("ABCD", Some(Order::Abcd)),
            ("LL", Some(Order::Abcd)),
            ("LB", Some(Order::Badc)),
            ("BL", Some(Order::Cdab)),
            ("BB", Some(Order::Dcba)),
            ("L", Some(Order::Abcd)),
            ("B", Some(Order::Dcba)),
            ("DBCA", None),
            ("abcd", None),
            ("", None),
        ] {
            assert_eq!(Order::parse(suffix), order, "{suffix}");
        }
    }
}
