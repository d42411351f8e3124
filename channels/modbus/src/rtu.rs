//! Modbus RTU on the wire: the unit, the function and its data, a checksum.
//!
//! After Modbus over Serial Line V1.02, section 2.5.1. Such a frame carries neither its length nor the request that it
//! answers: it ends where the line falls silent, which a host that hands on bytes cannot tell. So the length is taken from the
//! function and the counts behind it, as each answer has them (Modbus Application Protocol 1.1b3, section 6), and the
//! checksum says whether that was right.

use crate::pdu::{Ask, IDENTIFICATION_HEAD, MOST_PDU, Malformed};

/// The longest frame: a unit, a PDU, a checksum (Modbus over Serial Line V1.02, section 2.5.1).
pub const MOST_FRAME: usize = 1 + MOST_PDU + 2;
/// To all units at once; none answers (section 2.1).
pub const BROADCAST: u8 = 0;

const CHECKSUM: usize = 2;

/// The checksum of a frame (section 6.2.2); its low byte travels first.
pub fn checksum(bytes: &[u8]) -> u16 {
    let fold = |register: u16, byte: &u8| {
        TABLE[usize::from((register ^ u16::from(*byte)) & 0xff)] ^ (register >> 8)
    };
    bytes.iter().fold(0xffff, fold)
}

/// What each byte does to the register, made from the polynomial as section 6.2.2 does it bit by bit.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 == 1 {
                (register >> 1) ^ 0xa001
            } else {
                register >> 1
            };
            bit += 1;
        }
        table[byte] = register;
        byte += 1;
    }
    table
};

/// The whole frame of a request.
pub fn frame(unit: u8, ask: &Ask) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8);
    frame.push(unit);
    ask.encode(&mut frame);
    frame.extend(checksum(&frame).to_le_bytes());
    frame
}

/// How many further bytes are needed, at the least, of an answer that begins like this; 0 where it is whole.
///
/// # Errors
///
/// Where no answer begins like this, or it would be longer than any frame.
pub fn missing(answer: &[u8]) -> Result<usize, Malformed> {
    let [_unit, function, data @ ..] = answer else {
        return Ok(1);
    };
    let data_length = match function {
        0x80.. => 1,
        1..=4 | 23 => match data.first() {
            None => return Ok(1),
            Some(count) => 1 + usize::from(*count),
        },
        5 | 6 | 15 | 16 => 4,
        22 => 6,
        43 => match objects_length(data) {
            Ok(length) => length,
            Err(missing) => return bounded(answer.len() + missing).map(|_| missing),
        },
        _ => return Err(Malformed::NoFunction(*function)),
    };
    let whole = bounded(2 + data_length + CHECKSUM)?;
    Ok(whole.saturating_sub(answer.len()))
}

fn bounded(length: usize) -> Result<usize, Malformed> {
    if length <= MOST_FRAME {
        Ok(length)
    } else {
        Err(Malformed::TooLong)
    }
}

/// How long the objects of a device identification are with what stands before them (Modbus Application Protocol 1.1b3,
/// section 6.21), or how many bytes are needed to know more.
fn objects_length(data: &[u8]) -> Result<usize, usize> {
    let Some(&[.., count]) = data.first_chunk::<IDENTIFICATION_HEAD>() else {
        return Err(IDENTIFICATION_HEAD - data.len());
    };
    let mut end = IDENTIFICATION_HEAD;
    for _ in 0..count {
        match data.get(end + 1) {
            Some(length) => end += 2 + usize::from(*length),
            None => return Err(end + 2 - data.len()),
        }
    }
    Ok(end)
}

/// The unit and the PDU of a whole frame.
///
/// # Errors
///
/// Where the checksum is not that of the bytes.
pub fn open(frame: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    let size = Malformed::Size {
        got: frame.len(),
        right: 2 + CHECKSUM,
    };
    let (body, sum) = frame.split_last_chunk::<CHECKSUM>().ok_or(size)?;
    let (&unit, pdu) = body.split_first().ok_or(size)?;
    let (got, right) = (u16::from_le_bytes(*sum), checksum(body));
    if got == right {
        Ok((unit, pdu))
    } else {
        Err(Malformed::Checksum { got, right })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::Table;
    use crate::pdu::tests::any_ask;

    /// Whole frames as others have written them down: the example of Modbus over Serial Line V1.02, section 6.2.2, and the
    /// requests and answers of Modbus Application Protocol 1.1b3, section 6, with checksums worked out bit by bit.
    const FRAMES: [&[u8]; 12] = [
        &[0x02, 0x07, 0x41, 0x12],
        &[0x11, 0x01, 0x00, 0x13, 0x00, 0x25, 0x0e, 0x84],
        &[0x11, 0x02, 0x00, 0xc4, 0x00, 0x16, 0xba, 0xa9],
        &[0x11, 0x03, 0x00, 0x6b, 0x00, 0x03, 0x76, 0x87],
        &[0x11, 0x04, 0x00, 0x08, 0x00, 0x01, 0xb2, 0x98],
        &[0x11, 0x05, 0x00, 0xac, 0xff, 0x00, 0x4e, 0x8b],
        &[0x11, 0x06, 0x00, 0x01, 0x00, 0x03, 0x9a, 0x9b],
        &[
            0x11, 0x0f, 0x00, 0x13, 0x00, 0x0a, 0x02, 0xcd, 0x01, 0xbf, 0x0b,
        ],
        &[
            0x11, 0x10, 0x00, 0x01, 0x00, 0x02, 0x04, 0x00, 0x0a, 0x01, 0x02, 0xc6, 0xf0,
        ],
        &[0x11, 0x16, 0x00, 0x04, 0x00, 0xf2, 0x00, 0x25, 0x66, 0xe2],
        &[
            0x11, 0x03, 0x06, 0xae, 0x41, 0x56, 0x52, 0x43, 0x40, 0x49, 0xad,
        ],
        &[0x0a, 0x81, 0x02, 0xb0, 0x53],
    ];

    #[test]
    fn checksums_are_those_of_the_specification() {
        for frame in FRAMES {
            let body = &frame[..frame.len() - 2];
            assert_eq!(
                checksum(body).to_le_bytes(),
                frame[frame.len() - 2..],
                "{frame:02x?}"
            );
            assert_eq!(open(frame), Ok((frame[0], &body[1..])));
        }
    }

    #[test]
    fn requests_are_those_of_the_specification() {
        let read = |table, start, count| Ask::Read {
            table,
            start,
            count,
        };
        let bits = [
            true, false, true, true, false, false, true, true, true, false,
        ]
        .to_vec();
        for (ask, frame) in [
            (read(Table::Coil, 0x13, 0x25), FRAMES[1]),
            (read(Table::Discrete, 0xc4, 0x16), FRAMES[2]),
            (read(Table::Holding, 0x6b, 3), FRAMES[3]),
            (read(Table::Input, 8, 1), FRAMES[4]),
            (
                Ask::WriteCoil {
                    start: 0xac,
                    on: true,
                },
                FRAMES[5],
            ),
            (
                Ask::WriteRegister {
                    start: 1,
                    register: [0, 3],
                },
                FRAMES[6],
            ),
            (Ask::WriteCoils { start: 0x13, bits }, FRAMES[7]),
            (
                Ask::WriteRegisters {
                    start: 1,
                    bytes: vec![0, 10, 1, 2],
                },
                FRAMES[8],
            ),
            (
                Ask::MaskRegister {
                    start: 4,
                    and: 0xf2,
                    or: 0x25,
                },
                FRAMES[9],
            ),
        ] {
            assert_eq!(super::frame(0x11, &ask), frame, "{ask:?}");
        }
    }

    /// How long each answer is, its checksum with it.
    #[test]
    fn answers_end_where_they_end() {
        let identification = [1, 43, 14, 1, 1, 0, 0, 2, 0, 3, b'a', b'b', b'c', 1, 0, 9, 9];
        for answer in [
            &[1, 1, 3, 0xcd, 0x6b, 5, 9, 9][..],
            &[1, 3, 4, 0, 1, 0, 2, 9, 9],
            &[1, 4, 0, 9, 9],
            &[1, 23, 2, 0, 1, 9, 9],
            &[1, 5, 0, 172, 0xff, 0, 9, 9],
            &[1, 6, 0, 1, 0, 3, 9, 9],
            &[1, 15, 0, 19, 0, 10, 9, 9],
            &[1, 16, 0, 1, 0, 2, 9, 9],
            &[1, 22, 0, 4, 0, 0xf2, 0, 0x25, 9, 9],
            &[1, 0x83, 2, 9, 9],
            &identification,
        ] {
            let mut taken = 0;
            let mut steps = 0;
            while let missing @ 1.. = missing(&answer[..taken]).expect("it may be an answer") {
                taken += missing;
                steps += 1;
                assert!(taken <= answer.len(), "{answer:?} ends before byte {taken}");
                assert!(steps < 10);
            }
            assert_eq!(taken, answer.len(), "{answer:?}");
        }
    }

    #[test]
    fn what_cannot_be_an_answer_is_not_waited_for() {
        assert_eq!(missing(&[1, 7]), Err(Malformed::NoFunction(7)));
        assert_eq!(missing(&[1, 0]), Err(Malformed::NoFunction(0)));
        assert_eq!(missing(&[1, 3, 252]), Err(Malformed::TooLong));
        assert_eq!(
            missing(&[1, 3, 251]),
            Ok(253),
            "256 bytes are the longest frame"
        );
        assert_eq!(
            missing(&[1, 43, 14, 1, 1, 0, 0, 1, 0, 250]),
            Err(Malformed::TooLong)
        );
        assert!(open(&[]).is_err() && open(&[1]).is_err() && open(&[0xff, 0xff]).is_err());
    }

    proptest! {
        /// Section 6.2.2, word by word.
        #[test]
        fn the_table_is_the_polynomial(bytes: Vec<u8>) {
            let mut register = 0xffff_u16;
            for byte in &bytes {
                register ^= u16::from(*byte);
                for _ in 0..8 {
                    let carry = register & 1;
                    register >>= 1;
                    if carry == 1 {
                        register ^= 0xa001;
                    }
                }
            }
            prop_assert_eq!(checksum(&bytes), register);
        }

        /// Whoever follows `missing` reads at most a frame, whatever comes.
        #[test]
        fn reading_ends(bytes in prop::collection::vec(any::<u8>(), 300)) {
            let mut taken = 0;
            while let Ok(missing @ 1..) = missing(&bytes[..taken]) {
                taken += missing;
                prop_assert!(taken <= MOST_FRAME);
            }
        }

        /// One to fifteen wrong bits next to each other are always found; that is what this checksum promises.
        #[test]
        fn a_burst_is_found(ask in any_ask(), unit: u8, place: prop::sample::Index, burst in 1u16..0x8000) {
            let mut frame = frame(unit, &ask);
            let place = place.index(frame.len() - 1);
            frame[place] ^= (burst >> 8) as u8;
            frame[place + 1] ^= burst as u8;
            prop_assert!(open(&frame).is_err());
        }
    }
}
