//! One request of a unit, answered (*Application Protocol* V1.1b3, section 6).

use super::memory::{Bits, Registers, Unit};
use super::values::Moment;

/// An exception code (*Application Protocol* V1.1b3, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exception(pub(super) u8);

impl Exception {
    pub(super) const ILLEGAL_FUNCTION: Self = Self(1);
    pub(super) const ILLEGAL_ADDRESS: Self = Self(2);
    pub(super) const ILLEGAL_VALUE: Self = Self(3);
    pub(super) const DEVICE_FAILURE: Self = Self(4);
    pub(super) const TARGET_FAILED_TO_RESPOND: Self = Self(11);
}

/// The most that one request may ask for, from the same specification.
const READ_BITS_MAX: u16 = 2000;
const READ_REGISTERS_MAX: u16 = 125;
const WRITE_BITS_MAX: u16 = 1968;
const WRITE_REGISTERS_MAX: u16 = 123;
const EXCHANGE_WRITE_MAX: u16 = 121;

/// Carries out a request and appends the answer to `out`. Returns whether the answer is an exception.
pub(super) fn answer(unit: &Unit, pdu: &[u8], moment: &Moment, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (&function, data) = pdu.split_first().expect("a frame holds a function code");
    out.push(function);
    match carry_out(unit, function, data, moment, out) {
        Ok(()) => false,
        Err(exception) => {
            out.truncate(start);
            refuse(function, exception, out);
            true
        }
    }
}

/// Appends an exception.
pub(super) fn refuse(function: u8, exception: Exception, out: &mut Vec<u8>) {
    out.extend_from_slice(&[function | 0x80, exception.0]);
}

/// A request whose data is too short or too long for its function is answered with exception 3, as the state
/// diagrams of section 6 do for a quantity that contradicts the byte count.
fn carry_out(
    unit: &Unit,
    function: u8,
    data: &[u8],
    moment: &Moment,
    out: &mut Vec<u8>,
) -> Result<(), Exception> {
    match function {
        1 | 2 => {
            let table = if function == 1 {
                Bits::Coils
            } else {
                Bits::Discrete
            };
            let [first, count] = words(data)?;
            check_count(count, READ_BITS_MAX)?;
            out.push(bytes_for(count));
            let start = out.len();
            out.resize(start + usize::from(bytes_for(count)), 0);
            let mut index = 0;
            unit.read_bits(table, first, count, moment, |bit| {
                out[start + index / 8] |= u8::from(bit) << (index % 8);
                index += 1;
            })
        }
        3 | 4 => {
            let table = if function == 3 {
                Registers::Holding
            } else {
                Registers::Input
            };
            let [first, count] = words(data)?;
            check_count(count, READ_REGISTERS_MAX)?;
            out.push((count * 2) as u8);
            unit.read_registers(table, first, count, moment, out)
        }
        5 => {
            let [address, value] = words(data)?;
            let on = match value {
                0xff00 => true,
                0x0000 => false,
                _ => return Err(Exception::ILLEGAL_VALUE),
            };
            unit.write_coils(address, [on].into_iter())?;
            out.extend_from_slice(data);
            Ok(())
        }
        6 => {
            let [address, value] = words(data)?;
            unit.write_registers(address, &[value.to_be_bytes()])?;
            out.extend_from_slice(data);
            Ok(())
        }
        15 => {
            let (head, bits) = split(data)?;
            let [first, count] = words(head)?;
            check_count(count, WRITE_BITS_MAX)?;
            let bits = counted(bits, usize::from(bytes_for(count)))?;
            unit.write_coils(
                first,
                (0..usize::from(count)).map(|index| bits[index / 8] >> (index % 8) & 1 == 1),
            )?;
            out.extend_from_slice(head);
            Ok(())
        }
        16 => {
            let (head, values) = split(data)?;
            let [first, count] = words(head)?;
            check_count(count, WRITE_REGISTERS_MAX)?;
            let values = counted(values, usize::from(count) * 2)?;
            unit.write_registers(first, values.as_chunks::<2>().0)?;
            out.extend_from_slice(head);
            Ok(())
        }
        22 => {
            let [address, and, or] = words(data)?;
            unit.mask_register(address, and, or)?;
            out.extend_from_slice(data);
            Ok(())
        }
        23 => {
            let (head, rest) = data.split_at_checked(8).ok_or(Exception::ILLEGAL_VALUE)?;
            let [read_first, read_count, write_first, write_count] = words(head)?;
            check_count(read_count, READ_REGISTERS_MAX)?;
            check_count(write_count, EXCHANGE_WRITE_MAX)?;
            let values = counted(rest, usize::from(write_count) * 2)?;
            out.push((read_count * 2) as u8);
            let write = (write_first, values.as_chunks::<2>().0);
            unit.write_then_read(write, (read_first, read_count), moment, out)
        }
        _ => Err(Exception::ILLEGAL_FUNCTION),
    }
}

/// Exactly `N` big-endian words.
fn words<const N: usize>(data: &[u8]) -> Result<[u16; N], Exception> {
    let (pairs, rest) = data.as_chunks::<2>();
    let pairs: &[[u8; 2]; N] = pairs.try_into().map_err(|_| Exception::ILLEGAL_VALUE)?;
    if rest.is_empty() {
        Ok(pairs.map(u16::from_be_bytes))
    } else {
        Err(Exception::ILLEGAL_VALUE)
    }
}

/// Address and quantity, then what follows them.
fn split(data: &[u8]) -> Result<(&[u8], &[u8]), Exception> {
    data.split_at_checked(4).ok_or(Exception::ILLEGAL_VALUE)
}

/// A byte count and as many bytes, no more and no less, where `expected` is what the quantity asks for.
fn counted(data: &[u8], expected: usize) -> Result<&[u8], Exception> {
    match data.split_first() {
        Some((&count, bytes)) if usize::from(count) == expected && bytes.len() == expected => {
            Ok(bytes)
        }
        _ => Err(Exception::ILLEGAL_VALUE),
    }
}

fn check_count(count: u16, max: u16) -> Result<(), Exception> {
    if (1..=max).contains(&count) {
        Ok(())
    } else {
        Err(Exception::ILLEGAL_VALUE)
    }
}

/// Bytes that hold so many bits, at most 250.
const fn bytes_for(bits: u16) -> u8 {
    bits.div_ceil(8) as u8
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn bytes(text: &str) -> Vec<u8> {
        text.split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    fn ask(unit: &Unit, request: &str) -> String {
        let moment = Moment {
            since_start: Duration::ZERO,
            period: Duration::from_secs(10),
            seed: 1,
            inputs_by: 0,
        };
        let mut out = b"before".to_vec();
        answer(unit, &bytes(request), &moment, &mut out);
        hex(out.strip_prefix(b"before").expect("an answer is appended"))
    }

    /// One unit lives through the whole table: later rows read what earlier ones wrote.
    #[test]
    fn requests_and_answers() {
        let unit = Unit::new(2, 1000, 1000);
        for (request, expected) in [
            // Reads: known values, initial values, across the borders at 100 and 200.
            ("03 00 64 00 03", "03 06 00 02 ab cd cf c7"),
            ("04 00 64 00 01", "04 02 00 02"),
            ("03 00 c8 00 02", "03 04 08 98 08 99"),
            ("03 00 63 00 02", "03 04 00 00 00 02"),
            ("03 00 c7 00 02", "03 04 ff ff 08 98"),
            ("01 00 64 00 0a", "01 02 24 01"),
            ("02 00 64 00 0a", "02 02 21 00"),
            ("02 00 c8 00 04", "02 01 0a"),
            // Register 0 counts its reads, in each table for itself.
            ("03 00 00 00 01", "03 02 00 01"),
            ("03 00 00 00 01", "03 02 00 02"),
            ("03 00 01 00 01", "03 02 00 00"),
            ("04 00 00 00 01", "04 02 00 01"),
            ("03 00 00 00 01", "03 02 00 03"),
            // Writes are kept; input registers do not move.
            ("06 00 c8 12 34", "06 00 c8 12 34"),
            ("03 00 c8 00 02", "03 04 12 34 08 99"),
            ("04 00 c8 00 02", "04 04 08 98 08 99"),
            ("10 00 c9 00 02 04 00 01 ff fe", "10 00 c9 00 02"),
            ("03 00 c8 00 03", "03 06 12 34 00 01 ff fe"),
            ("05 00 c9 ff 00", "05 00 c9 ff 00"),
            ("01 00 c8 00 08", "01 01 02"),
            ("0f 00 c8 00 0a 02 cd 01", "0f 00 c8 00 0a"),
            ("01 00 c8 00 0c", "01 02 cd 01"),
            ("05 00 c8 00 00", "05 00 c8 00 00"),
            ("01 00 c8 00 0c", "01 02 cc 01"),
            // Function 22 with the figures of the specification: 0x12, and 0xF2, or 0x25 give 0x17.
            ("06 00 d0 00 12", "06 00 d0 00 12"),
            ("16 00 d0 00 f2 00 25", "16 00 d0 00 f2 00 25"),
            ("03 00 d0 00 01", "03 02 00 17"),
            // Function 23 reads what it has just written.
            ("17 00 d0 00 02 00 d1 00 01 02 be ef", "17 04 00 17 be ef"),
            // The largest reads and writes in quantity, and one more.
            ("03 00 c8 00 7e", "83 03"),
            ("03 00 c8 00 00", "83 03"),
            ("01 00 00 07 d1", "81 03"),
            ("10 00 c8 00 7c f8", "90 03"),
            // Addresses.
            ("03 03 e7 00 01", "03 02 0b b7"),
            ("03 03 e8 00 01", "83 02"),
            ("03 03 e7 00 02", "83 02"),
            ("03 ff ff 00 02", "83 02"),
            ("01 03 e8 00 01", "81 02"),
            ("06 00 c7 00 01", "86 02"),
            ("05 00 c7 ff 00", "85 02"),
            ("10 00 c7 00 02 04 00 01 00 02", "90 02"),
            ("17 00 d0 00 01 00 00 00 01 02 be ef", "97 02"),
            // Values: limits, and a write that is refused whole.
            ("06 01 2a 03 e8", "06 01 2a 03 e8"),
            ("06 01 2a 03 e9", "86 03"),
            ("06 01 2b 00 00", "86 04"),
            ("10 01 29 00 02 04 00 05 ff ff", "90 03"),
            ("03 01 29 00 02", "03 04 08 f9 03 e8"),
            ("05 00 c8 12 34", "85 03"),
            // Functions that no table knows, and data that does not fit the function.
            ("07", "87 01"),
            ("2b 0e 01 00", "ab 01"),
            ("80", "80 01"),
            ("03", "83 03"),
            ("03 00 64 00", "83 03"),
            ("03 00 64 00 01 00", "83 03"),
            ("10 00 c8 00 02 04 00 01", "90 03"),
            ("10 00 c8 00 02 03 00 01 00", "90 03"),
            ("0f 00 c8 00 09 01 ff", "8f 03"),
            ("17 00 d0 00 01 00 d0 00 01 04 be ef", "97 03"),
            ("17 00 d0", "97 03"),
        ] {
            assert_eq!(ask(&unit, request), expected, "request {request}");
        }
    }

    #[test]
    fn the_largest_answers_fit_their_frames() {
        let unit = Unit::new(1, 65_536, 65_536);
        assert_eq!(ask(&unit, "03 ff 83 00 7d").split(' ').count(), 252);
        assert_eq!(ask(&unit, "01 f8 30 07 d0").split(' ').count(), 252);
        let write = format!("10 ff 85 00 7b f6{}", " 00".repeat(246));
        assert_eq!(ask(&unit, &write), "10 ff 85 00 7b");
        let exchange = format!("17 00 00 00 7d ff 00 00 79 f2{}", " 00".repeat(242));
        assert_eq!(ask(&unit, &exchange).split(' ').count(), 252);
    }

    #[test]
    fn small_units_refuse_what_they_have_not() {
        let unit = Unit::new(1, 10, 1);
        for (request, expected) in [
            ("03 00 00 00 0a", "03 14"),
            ("03 00 05 00 06", "83 02"),
            ("01 00 01 00 01", "81 02"),
            ("06 00 c8 00 01", "86 02"),
        ] {
            assert!(
                ask(&unit, request).starts_with(expected),
                "request {request}"
            );
        }
    }
}
