//! What stands in a unit's four tables.
//!
//! Addresses count from 0, as on the wire: address 0 is what other notations call `40001`, `30001`, `1` or `10001`.
//! Holding and input registers hold the same below address 200.
//!
//! **0-99: moving registers**, read only. A *turn* is one `--period`.
//!
//! | address | type | value |
//! |---|---|---|
//! | 0 | uint16 | how often this register was read, this read included: an old value shown as new is seen at once |
//! | 1 | int16 | sine, from -1000 to 1000 |
//! | 2 | uint16 | ramp, from 0 to 999 |
//! | 3 | int16 | square, 1000 in the first half of a turn and -1000 in the second |
//! | 4 | uint16 | noise, from 0 to 999, a new value each 100 ms, the same for the same `--seed` |
//! | 5 | uint16 | seconds since start |
//! | 10, 12, 14, 16 | float32 | sine, from -100 to 100, in the orders ABCD, CDAB, BADC, DCBA |
//! | 18 | float64 | the same sine, ABCDEFGH |
//! | 22 | uint64 | milliseconds since start, ABCDEFGH |
//! | 26 | int64 | the same, negated |
//! | 30 | uint32 | milliseconds since start, ABCD |
//! | 32 | int32 | the same, negated |
//! | 40-55 | string | `unit 1 turn 12`, padded with NUL to 32 bytes |
//! | others | uint16 | 0 |
//!
//! **100-199: known registers**, read only, which `tests/peers` hold as well. Orders: *ABCD* has the first word and the
//! first byte most significant; *CDAB* has its words reversed; *BADC* has the bytes of each word reversed; *DCBA* both.
//!
//! | address | type | value |
//! |---|---|---|
//! | 100 | uint16 | the unit id |
//! | 101 | uint16 | 43981 (0xABCD) |
//! | 102 | int16 | -12345 |
//! | 103 | 16 bits | bits 0, 3 and 15 set (0x8009) |
//! | 104, 106, 108, 110 | int32 | -123456789 in ABCD, CDAB, BADC, DCBA |
//! | 112, 114, 116, 118 | uint32 | 3456789012 in the four orders |
//! | 120, 122, 124, 126 | float32 | 123.456 in the four orders |
//! | 128, 132, 136, 140 | int64 | -1234567890123456789 in the four orders |
//! | 144, 148, 152, 156 | uint64 | 12345678901234567890 in the four orders |
//! | 160, 164, 168, 172 | float64 | -9876.54321 in the four orders |
//! | 176-183 | string | `Pump 7 / line A`, 16 bytes padded with NUL, high byte first |
//! | 184-191 | string | the same, low byte first |
//! | 192-195 | string | `21 µ°C` in UTF-8, 8 bytes without padding |
//! | 196 | int16 | -12345, low byte first |
//! | 197 | uint16 | 43981, low byte first |
//! | 198 | uint16 | 0 |
//! | 199 | uint16 | 65535 |
//!
//! **From 200**: holding registers keep what is written. They start as `unit * 1000 + address` (modulo 65,536), which
//! no shift and no mixed-up unit can imitate; input registers hold that start value for ever, or with `--moving-inputs` one more
//! each 10 ms. Two of them are picky,
//! as real devices are: **[`LIMITED`]** takes only 0 to 1000 (else exception 3), **[`BROKEN`]** takes nothing (exception 4).
//!
//! **Bits.** Below 100 they move, read only: 0 is on in the first half of a turn; of 1 to 99 exactly one is on, and it
//! runs around once in a turn. From 100 to 199 they are known, read only: a coil is on where its address divides by 3,
//! a discrete input where it divides by 5. From 200, coils start off and keep what is written; discrete inputs are on
//! at odd addresses.

use std::time::Duration;

/// Below this, values move by themselves.
pub const KNOWN: u16 = 100;

/// From here on, coils and holding registers keep what is written to them.
pub const WRITABLE: u16 = 200;

/// A holding register that takes only values from 0 to 1000.
pub const LIMITED: u16 = 298;

/// A holding register that takes no value at all.
pub const BROKEN: u16 = 299;

/// The moment for which moving values are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) since_start: Duration,
    pub(super) period: Duration,
    pub(super) seed: u64,
    /// By how much input registers from 200 on are more than their start values.
    pub(super) inputs_by: u16,
}

impl Moment {
    /// How far the current turn has come, from 0 up to but not including 1.
    fn phase(&self) -> f64 {
        let period = self.period.as_nanos();
        let into_turn = self.since_start.as_nanos() % period;
        into_turn as f64 / period as f64
    }
}

/// The moving registers of a unit, except register 0, which only its reader can count.
pub(super) fn moving(unit: u8, moment: &Moment) -> [u16; KNOWN as usize] {
    let phase = moment.phase();
    let sine = (phase * std::f64::consts::TAU).sin();
    let milliseconds = moment.since_start.as_millis() as u64;
    let mut registers = [0; KNOWN as usize];

    registers[1] = ((sine * 1000.0).round() as i16).cast_unsigned();
    registers[2] = (phase * 1000.0) as u16;
    registers[3] = if phase < 0.5 {
        1000
    } else {
        (-1000_i16).cast_unsigned()
    };
    registers[4] = noise(moment.seed, unit, milliseconds / 100);
    registers[5] = moment.since_start.as_secs() as u16;
    put_orders(&mut registers, 10, ((sine * 100.0) as f32).to_be_bytes());
    put(&mut registers, 18, (sine * 100.0).to_be_bytes());
    put(&mut registers, 22, milliseconds.to_be_bytes());
    put(
        &mut registers,
        26,
        milliseconds.cast_signed().wrapping_neg().to_be_bytes(),
    );
    put(&mut registers, 30, (milliseconds as u32).to_be_bytes());
    put(
        &mut registers,
        32,
        (milliseconds as i32).wrapping_neg().to_be_bytes(),
    );

    let turn = moment.since_start.as_nanos() / moment.period.as_nanos();
    let text = format!("unit {unit} turn {turn}");
    let mut padded = [0; 32];
    let length = text.len().min(padded.len());
    padded[..length].copy_from_slice(&text.as_bytes()[..length]);
    put(&mut registers, 40, padded);
    registers
}

/// The known registers of a unit: the first stands at address 100.
pub(super) fn known(unit: u8) -> [u16; (WRITABLE - KNOWN) as usize] {
    const TEXT: [u8; 16] = *b"Pump 7 / line A\0";
    let mut registers = [0; (WRITABLE - KNOWN) as usize];
    registers[0] = u16::from(unit);
    registers[1] = 0xabcd;
    registers[2] = (-12_345_i16).cast_unsigned();
    registers[3] = 0x8009;
    put_orders(&mut registers, 4, (-123_456_789_i32).to_be_bytes());
    put_orders(&mut registers, 12, 3_456_789_012_u32.to_be_bytes());
    put_orders(&mut registers, 20, 123.456_f32.to_be_bytes());
    put_orders(
        &mut registers,
        28,
        (-1_234_567_890_123_456_789_i64).to_be_bytes(),
    );
    put_orders(
        &mut registers,
        44,
        12_345_678_901_234_567_890_u64.to_be_bytes(),
    );
    put_orders(&mut registers, 60, (-9_876.543_21_f64).to_be_bytes());
    put(&mut registers, 76, TEXT);
    put(&mut registers, 84, swap_bytes(TEXT));
    put(&mut registers, 92, *b"21 \xc2\xb5\xc2\xb0C");
    registers[96] = (-12_345_i16).cast_unsigned().swap_bytes();
    registers[97] = 0xabcd_u16.swap_bytes();
    registers[99] = u16::MAX;
    registers
}

/// What a register from 200 on holds until something is written.
pub(super) fn initial(unit: u8, address: u16) -> u16 {
    u16::from(unit).wrapping_mul(1000).wrapping_add(address)
}

/// A moving bit (below 100) of either table.
pub(super) fn moving_bit(address: u16, moment: &Moment) -> bool {
    let phase = moment.phase();
    match address {
        0 => phase < 0.5,
        _ => address == 1 + (phase * f64::from(KNOWN - 1)) as u16,
    }
}

/// A coil from 100 on, before anything is written.
pub(super) const fn coil(address: u16) -> bool {
    address < WRITABLE && address.is_multiple_of(3)
}

/// A discrete input from 100 on.
pub(super) const fn discrete(address: u16) -> bool {
    if address < WRITABLE {
        address.is_multiple_of(5)
    } else {
        address % 2 == 1
    }
}

/// Lays bytes into registers, high byte first.
fn put<const N: usize>(registers: &mut [u16], at: usize, bytes: [u8; N]) {
    for (register, pair) in registers[at..].iter_mut().zip(bytes.as_chunks::<2>().0) {
        *register = u16::from_be_bytes(*pair);
    }
}

/// Lays a big-endian number into registers four times: ABCD, CDAB, BADC, DCBA.
fn put_orders<const N: usize>(registers: &mut [u16], at: usize, bytes: [u8; N]) {
    let mut reversed = bytes;
    reversed.reverse();
    let orders = [bytes, swap_bytes(reversed), swap_bytes(bytes), reversed];
    for (index, order) in orders.into_iter().enumerate() {
        put(registers, at + index * N / 2, order);
    }
}

/// Swaps the two bytes of each register.
fn swap_bytes<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    bytes
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .for_each(|pair| pair.reverse());
    bytes
}

/// A value from 0 to 999 that depends on nothing but its arguments (the finisher of `SplitMix64`, Steele et al. 2014).
fn noise(seed: u64, unit: u8, step: u64) -> u16 {
    let mut mixed =
        (seed ^ u64::from(unit) << 56).wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) % 1000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment {
            since_start: Duration::from_millis(milliseconds),
            period: Duration::from_secs(10),
            seed: 1,
            inputs_by: 0,
        }
    }

    /// Spelled out by hand, so that the table above, not the code, is what is tested.
    #[test]
    fn known_registers_in_every_order() {
        let known = known(7);
        for (address, expected) in [
            (100, &[7, 0xabcd, 0xcfc7, 0x8009][..]),
            (
                104,
                &[
                    0xf8a4, 0x32eb, 0x32eb, 0xf8a4, 0xa4f8, 0xeb32, 0xeb32, 0xa4f8,
                ],
            ),
            (
                112,
                &[
                    0xce0a, 0x6a14, 0x6a14, 0xce0a, 0x0ace, 0x146a, 0x146a, 0x0ace,
                ],
            ),
            (
                120,
                &[
                    0x42f6, 0xe979, 0xe979, 0x42f6, 0xf642, 0x79e9, 0x79e9, 0xf642,
                ],
            ),
            (
                128,
                &[
                    0xeedd, 0xef0b, 0x8216, 0x7eeb, 0x7eeb, 0x8216, 0xef0b, 0xeedd,
                ],
            ),
            (
                136,
                &[
                    0xddee, 0x0bef, 0x1682, 0xeb7e, 0xeb7e, 0x1682, 0x0bef, 0xddee,
                ],
            ),
            (
                144,
                &[
                    0xab54, 0xa98c, 0xeb1f, 0x0ad2, 0x0ad2, 0xeb1f, 0xa98c, 0xab54,
                ],
            ),
            (
                160,
                &[
                    0xc0c3, 0x4a45, 0x87e7, 0xc06e, 0xc06e, 0x87e7, 0x4a45, 0xc0c3,
                ],
            ),
            (
                176,
                &[
                    0x5075, 0x6d70, 0x2037, 0x202f, 0x206c, 0x696e, 0x6520, 0x4100,
                ],
            ),
            (
                184,
                &[
                    0x7550, 0x706d, 0x3720, 0x2f20, 0x6c20, 0x6e69, 0x2065, 0x0041,
                ],
            ),
            (
                192,
                &[0x3231, 0x20c2, 0xb5c2, 0xb043, 0xc7cf, 0xcdab, 0, 0xffff],
            ),
        ] {
            let at = address - usize::from(KNOWN);
            assert_eq!(
                known[at..at + expected.len()],
                *expected,
                "from register {address}"
            );
        }
    }

    #[test]
    fn moving_registers_follow_the_period() {
        for (milliseconds, sine, ramp, square) in [
            (0, 0, 0, 1000),
            (2_500, 1000, 250, 1000),
            (5_000, 0, 500, -1000),
            (7_500, -1000, 750, -1000),
            (10_000, 0, 0, 1000),
        ] {
            let registers = moving(3, &at(milliseconds));
            let signed = |address: usize| registers[address].cast_signed();
            assert_eq!(
                (signed(1), registers[2], signed(3)),
                (sine, ramp, square),
                "at {milliseconds} ms"
            );
            assert_eq!(registers[22..26], [0, 0, 0, milliseconds as u16]);
        }
        let text: Vec<u8> = moving(3, &at(125_000))[40..56]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        assert_eq!(
            text.trim_ascii_end(),
            b"unit 3 turn 12\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn exactly_one_light_runs() {
        for milliseconds in (0..20_000).step_by(7) {
            let on: Vec<u16> = (1..KNOWN)
                .filter(|address| moving_bit(*address, &at(milliseconds)))
                .collect();
            assert_eq!(on.len(), 1, "at {milliseconds} ms: {on:?}");
        }
    }

    #[test]
    fn noise_depends_on_seed_unit_and_step_only() {
        assert_eq!(noise(1, 2, 3), noise(1, 2, 3));
        let distinct: std::collections::HashSet<u16> =
            (0..100).map(|step| noise(1, 1, step)).collect();
        assert!(
            distinct.len() > 80,
            "{} values in 100 steps",
            distinct.len()
        );
        assert_ne!(
            [noise(1, 1, 0), noise(1, 1, 1)],
            [noise(2, 1, 0), noise(2, 1, 1)]
        );
    }
}
