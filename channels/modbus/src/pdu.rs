//! What is asked and answered, whatever carries it: a function and its data (PDU).
//!
//! After Modbus Application Protocol 1.1b3, section 6. Decoding is strict: an answer is taken only if it is the one
//! answer that the request allows, down to the last byte. How a PDU travels is the business of `mbap` and `rtu`.

use thiserror::Error;

use crate::address::Table;
use crate::plan::{
    MOST_BITS, MOST_BITS_WRITTEN, MOST_REGISTERS, MOST_REGISTERS_EXCHANGED, MOST_REGISTERS_WRITTEN,
};

/// The longest function and data; the limit comes from the serial line.
pub const MOST_PDU: usize = 253;

/// Marks the function of an exception.
const EXCEPTION: u8 = 0x80;
/// A coil that is on, in a single write.
const ON: [u8; 2] = [0xff, 0x00];
const OFF: [u8; 2] = [0x00, 0x00];

/// What is asked of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read `count` places: functions 1, 2, 3 and 4.
    Read {
        /// From where.
        table: Table,
        /// The first place.
        start: u16,
        /// How many, at least 1.
        count: u16,
    },
    /// Function 5.
    WriteCoil {
        /// Which.
        start: u16,
        /// On or off.
        on: bool,
    },
    /// Function 6.
    WriteRegister {
        /// Which.
        start: u16,
        /// As on the wire.
        register: [u8; 2],
    },
    /// Function 15.
    WriteCoils {
        /// The first.
        start: u16,
        /// At least one.
        bits: Vec<bool>,
    },
    /// Function 16.
    WriteRegisters {
        /// The first.
        start: u16,
        /// As on the wire: two for each register.
        bytes: Vec<u8>,
    },
    /// Function 22: the register becomes `(itself AND and) OR (or AND NOT and)` (section 6.16).
    MaskRegister {
        /// Which.
        start: u16,
        /// The bits that stay as they are.
        and: u16,
        /// What the other bits become.
        or: u16,
    },
    /// Function 23: write registers, then read the same ones (section 6.17).
    WriteAndRead {
        /// The first.
        start: u16,
        /// As on the wire: two for each register.
        bytes: Vec<u8>,
    },
    /// Function 43 with type 14: read device identification (section 6.21).
    Identify {
        /// The category: 1 basic, 2 regular, 3 extended.
        category: u8,
        /// The object to begin with.
        object: u8,
    },
}

/// The type of encapsulated request that asks for device identification.
pub const IDENTIFICATION: u8 = 14;
/// What stands before the objects of an identification: type, category, conformity, more follows, next object, number of objects.
pub const IDENTIFICATION_HEAD: usize = 6;

/// What a unit answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The bytes read: two for each register, or eight bits in each, the lowest first.
    Data(&'a [u8]),
    /// What was written was written.
    Written,
    /// The unit refused, and says why.
    Exception(u8),
}

/// Why a frame is not the answer.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not Modbus, or out of step.
    #[error("the protocol of the answer is {0}, not 0")]
    Protocol(u16),
    /// No such frame.
    #[error("the answer says that {0} bytes follow; 2 to 254 are legal")]
    Length(u16),
    /// The answer to something else.
    #[error("the answer is to transaction {got}, not to {asked}")]
    Transaction {
        /// In the answer.
        got: u16,
        /// In the request.
        asked: u16,
    },
    /// The answer of somebody else.
    #[error("the answer comes from unit {got}, not from {asked}")]
    Unit {
        /// In the answer.
        got: u8,
        /// In the request.
        asked: u8,
    },
    /// The answer to something else.
    #[error("the answer is to function {got}, not to {asked}")]
    Function {
        /// In the answer.
        got: u8,
        /// In the request.
        asked: u8,
    },
    /// More or fewer bytes than the answer has.
    #[error("the answer is {got} bytes long, not {right}")]
    Size {
        /// In the answer.
        got: usize,
        /// As the request demands.
        right: usize,
    },
    /// The count within the answer is not what was asked for.
    #[error("the answer counts {got} bytes of data, not {right}")]
    ByteCount {
        /// In the answer.
        got: u8,
        /// As the request demands.
        right: usize,
    },
    /// No answer that this driver asks for.
    #[error("the answer is to function {0}, which was not asked for")]
    NoFunction(u8),
    /// More than any frame has.
    #[error("the answer is longer than a frame can be")]
    TooLong,
    /// The bytes are not those that were sent.
    #[error("the checksum of the answer is {got:04x}, not {right:04x}")]
    Checksum {
        /// In the answer.
        got: u16,
        /// Of its bytes.
        right: u16,
    },
    /// The line gives back what is sent on it.
    #[error(
        "the line gives back the request instead of an answer; set echo = true where its adapter does so"
    )]
    LineEcho,
    /// The line does not give back what was sent on it, though the operator says so.
    #[error(
        "the line does not give back what was sent: two spoke at once, or it has no echo and echo = true is wrong"
    )]
    NoLineEcho,
    /// An identification whose objects do not fill it.
    #[error("the answer is no device identification")]
    Identification,
    /// A write was answered with another place or value.
    #[error("the answer confirms another write than was asked for")]
    Echo,
}

impl Ask {
    /// The function code.
    pub fn function(&self) -> u8 {
        match self {
            Self::Read {
                table: Table::Coil, ..
            } => 1,
            Self::Read {
                table: Table::Discrete,
                ..
            } => 2,
            Self::Read {
                table: Table::Holding,
                ..
            } => 3,
            Self::Read {
                table: Table::Input,
                ..
            } => 4,
            Self::WriteCoil { .. } => 5,
            Self::WriteRegister { .. } => 6,
            Self::WriteCoils { .. } => 15,
            Self::WriteRegisters { .. } => 16,
            Self::MaskRegister { .. } => 22,
            Self::WriteAndRead { .. } => 23,
            Self::Identify { .. } => 43,
        }
    }

    /// Whether the answer carries data, rather than a confirmation.
    pub fn has_data(&self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::WriteAndRead { .. } | Self::Identify { .. }
        )
    }

    /// The function and its data, after what `frame` holds already.
    pub fn encode(&self, frame: &mut Vec<u8>) {
        frame.push(self.function());
        match self {
            Self::Read {
                table,
                start,
                count,
            } => {
                debug_assert!(
                    *count >= 1
                        && *count
                            <= if table.is_bits() {
                                MOST_BITS
                            } else {
                                MOST_REGISTERS
                            }
                );
                frame.extend(start.to_be_bytes());
                frame.extend(count.to_be_bytes());
            }
            Self::WriteCoil { start, on } => {
                frame.extend(start.to_be_bytes());
                frame.extend(if *on { ON } else { OFF });
            }
            Self::WriteRegister { start, register } => {
                frame.extend(start.to_be_bytes());
                frame.extend(register);
            }
            Self::WriteCoils { start, bits } => {
                debug_assert!(!bits.is_empty() && bits.len() <= usize::from(MOST_BITS_WRITTEN));
                frame.extend(start.to_be_bytes());
                frame.extend((bits.len() as u16).to_be_bytes());
                frame.push(bits.len().div_ceil(8) as u8);
                frame.extend(bits.chunks(8).map(|eight| {
                    eight
                        .iter()
                        .enumerate()
                        .fold(0u8, |byte, (place, on)| byte | (u8::from(*on) << place))
                }));
            }
            Self::WriteRegisters { start, bytes } => {
                debug_assert!(
                    bytes.len() >= 2 && bytes.len() <= 2 * usize::from(MOST_REGISTERS_WRITTEN)
                );
                frame.extend(start.to_be_bytes());
                frame.extend(((bytes.len() / 2) as u16).to_be_bytes());
                frame.push(bytes.len() as u8);
                frame.extend(bytes);
            }
            Self::MaskRegister { start, and, or } => {
                for word in [start, and, or] {
                    frame.extend(word.to_be_bytes());
                }
            }
            Self::WriteAndRead { start, bytes } => {
                debug_assert!(
                    bytes.len() >= 2 && bytes.len() <= 2 * usize::from(MOST_REGISTERS_EXCHANGED)
                );
                let count = (bytes.len() / 2) as u16;
                for word in [*start, count, *start, count] {
                    frame.extend(word.to_be_bytes());
                }
                frame.push(bytes.len() as u8);
                frame.extend(bytes);
            }
            Self::Identify { category, object } => {
                frame.extend([IDENTIFICATION, *category, *object]);
            }
        }
    }

    /// Take the function and data of a frame as the answer to this, or say why they are not.
    pub fn answer<'a>(&self, pdu: &'a [u8]) -> Result<Answer<'a>, Malformed> {
        let asked = self.function();
        let Some((&function, data)) = pdu.split_first() else {
            return Err(Malformed::Size { got: 0, right: 2 });
        };
        if function == asked | EXCEPTION {
            return match data {
                [code] => Ok(Answer::Exception(*code)),
                _ => Err(Malformed::Size {
                    got: pdu.len(),
                    right: 2,
                }),
            };
        }
        if function != asked {
            return Err(Malformed::Function {
                got: function,
                asked,
            });
        }
        match self {
            Self::Read { table, count, .. } => {
                let count = usize::from(*count);
                counted(
                    pdu.len(),
                    data,
                    if table.is_bits() {
                        count.div_ceil(8)
                    } else {
                        2 * count
                    },
                )
            }
            Self::WriteAndRead { bytes, .. } => counted(pdu.len(), data, bytes.len()),
            Self::MaskRegister { start, and, or } => {
                let [start, and, or] = [start, and, or].map(|word| word.to_be_bytes());
                confirm(data, &[start, and, or].concat())
            }
            Self::WriteCoil { start, on } => confirm_at(data, *start, if *on { ON } else { OFF }),
            Self::WriteRegister { start, register } => confirm_at(data, *start, *register),
            Self::WriteCoils { start, bits } => {
                confirm_at(data, *start, (bits.len() as u16).to_be_bytes())
            }
            Self::WriteRegisters { start, bytes } => {
                confirm_at(data, *start, ((bytes.len() / 2) as u16).to_be_bytes())
            }
            Self::Identify { category, .. } => match objects(data) {
                Some((kind, _)) if kind == [IDENTIFICATION, *category] => Ok(Answer::Data(data)),
                _ => Err(Malformed::Identification),
            },
        }
    }
}

/// An object of an identification: its id and what it says.
pub type Object<'d> = (u8, &'d [u8]);

/// The type and category of an identification, and its objects, if they fill it to the last byte.
pub fn objects(data: &[u8]) -> Option<([u8; 2], Vec<Object<'_>>)> {
    let (head, mut rest) = data.split_at_checked(IDENTIFICATION_HEAD)?;
    let [kind, category, _conformity, _more, _next, count] = *head else {
        return None;
    };
    let mut objects = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (&[object, length], value) = rest.split_first_chunk()?;
        let (value, after) = value.split_at_checked(usize::from(length))?;
        objects.push((object, value));
        rest = after;
    }
    rest.is_empty().then_some(([kind, category], objects))
}

/// Data after its own length in bytes, which is known beforehand.
fn counted(pdu: usize, data: &[u8], right: usize) -> Result<Answer<'_>, Malformed> {
    let size = Malformed::Size {
        got: pdu,
        right: right + 2,
    };
    let Some((&counted, data)) = data.split_first() else {
        return Err(size);
    };
    if usize::from(counted) != right {
        return Err(Malformed::ByteCount {
            got: counted,
            right,
        });
    }
    if data.len() != right {
        return Err(size);
    }
    Ok(Answer::Data(data))
}

/// A write is answered with its place, and its value or how many were written.
fn confirm_at<'a>(data: &[u8], start: u16, what: [u8; 2]) -> Result<Answer<'a>, Malformed> {
    confirm(data, &[start.to_be_bytes(), what].concat())
}

/// A write is answered with the beginning of its request.
fn confirm<'a>(data: &[u8], right: &[u8]) -> Result<Answer<'a>, Malformed> {
    if data.len() != right.len() {
        return Err(Malformed::Size {
            got: data.len() + 1,
            right: right.len() + 1,
        });
    }
    if data != right {
        return Err(Malformed::Echo);
    }
    Ok(Answer::Written)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mbap;

    fn encoded(ask: &Ask) -> Vec<u8> {
        let mut pdu = Vec::new();
        ask.encode(&mut pdu);
        pdu
    }

    fn read(table: Table, start: u16, count: u16) -> Ask {
        Ask::Read {
            table,
            start,
            count,
        }
    }

    /// Each function: the request after its transaction, and an answer.
    fn table() -> Vec<(Ask, Vec<u8>, Vec<u8>, Answer<'static>)> {
        vec![
            (
                read(Table::Coil, 19, 19),
                vec![0, 0, 0, 6, 17, 1, 0, 19, 0, 19],
                vec![1, 3, 0xcd, 0x6b, 5],
                Answer::Data(&[0xcd, 0x6b, 5]),
            ),
            (
                read(Table::Discrete, 196, 22),
                vec![0, 0, 0, 6, 17, 2, 0, 196, 0, 22],
                vec![2, 3, 1, 2, 3],
                Answer::Data(&[1, 2, 3]),
            ),
            (
                read(Table::Holding, 107, 2),
                vec![0, 0, 0, 6, 17, 3, 0, 107, 0, 2],
                vec![3, 4, 2, 0x2b, 0, 0x64],
                Answer::Data(&[2, 0x2b, 0, 0x64]),
            ),
            (
                read(Table::Input, 8, 1),
                vec![0, 0, 0, 6, 17, 4, 0, 8, 0, 1],
                vec![4, 2, 0, 10],
                Answer::Data(&[0, 10]),
            ),
            (
                Ask::WriteCoil {
                    start: 172,
                    on: true,
                },
                vec![0, 0, 0, 6, 17, 5, 0, 172, 0xff, 0],
                vec![5, 0, 172, 0xff, 0],
                Answer::Written,
            ),
            (
                Ask::WriteCoil {
                    start: 172,
                    on: false,
                },
                vec![0, 0, 0, 6, 17, 5, 0, 172, 0, 0],
                vec![5, 0, 172, 0, 0],
                Answer::Written,
            ),
            (
                Ask::WriteRegister {
                    start: 1,
                    register: [0, 3],
                },
                vec![0, 0, 0, 6, 17, 6, 0, 1, 0, 3],
                vec![6, 0, 1, 0, 3],
                Answer::Written,
            ),
            (
                Ask::WriteCoils {
                    start: 19,
                    bits: vec![
                        true, false, true, true, false, false, true, true, true, false,
                    ],
                },
                vec![0, 0, 0, 9, 17, 15, 0, 19, 0, 10, 2, 0xcd, 1],
                vec![15, 0, 19, 0, 10],
                Answer::Written,
            ),
            (
                Ask::WriteRegisters {
                    start: 1,
                    bytes: vec![0, 10, 1, 2],
                },
                vec![0, 0, 0, 11, 17, 16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
                vec![16, 0, 1, 0, 2],
                Answer::Written,
            ),
            (
                // The example of section 6.16.
                Ask::MaskRegister {
                    start: 4,
                    and: 0x00f2,
                    or: 0x0025,
                },
                vec![0, 0, 0, 8, 17, 22, 0, 4, 0, 0xf2, 0, 0x25],
                vec![22, 0, 4, 0, 0xf2, 0, 0x25],
                Answer::Written,
            ),
            (
                // After the request of section 6.17, of which this driver sends the case of the same registers twice.
                Ask::WriteAndRead {
                    start: 14,
                    bytes: vec![0, 0xff, 0, 0xff, 0, 0xff],
                },
                vec![
                    0, 0, 0, 17, 17, 23, 0, 14, 0, 3, 0, 14, 0, 3, 6, 0, 0xff, 0, 0xff, 0, 0xff,
                ],
                vec![23, 6, 0, 0xfe, 0x0a, 0xcd, 0, 1],
                Answer::Data(&[0, 0xfe, 0x0a, 0xcd, 0, 1]),
            ),
        ]
    }

    #[test]
    fn requests_and_answers_are_those_of_the_specification() {
        for (ask, request, reply, answer) in table() {
            let frame = mbap::frame(0x1234, 17, &ask);
            assert_eq!(frame[..2], [0x12, 0x34]);
            assert_eq!(frame[2..], request, "{ask:?}");
            assert_eq!(ask.answer(&reply), Ok(answer), "{ask:?}");
            assert_eq!(
                ask.answer(&[ask.function() | 0x80, 2]),
                Ok(Answer::Exception(2))
            );
        }
    }

    #[test]
    fn nothing_but_the_answer_is_taken() {
        for (ask, _, reply, _) in table() {
            for end in 0..reply.len() {
                assert!(ask.answer(&reply[..end]).is_err(), "{ask:?} cut to {end}");
            }
            let mut longer = reply.clone();
            longer.push(0);
            assert!(ask.answer(&longer).is_err(), "{ask:?} with a byte too many");
            let places = if matches!(ask, Ask::Read { .. } | Ask::WriteAndRead { .. }) {
                2
            } else {
                reply.len()
            };
            for place in 0..places {
                let mut other = reply.clone();
                other[place] ^= 1;
                assert!(
                    ask.answer(&other).is_err(),
                    "{ask:?} with byte {place} changed"
                );
            }
            assert!(
                ask.answer(&[ask.function() | 0x80]).is_err(),
                "an exception without a code"
            );
            assert!(
                ask.answer(&[ask.function() | 0x80, 2, 0]).is_err(),
                "an exception with two codes"
            );
        }
        let off_by_one = read(Table::Holding, 0, 2).answer(&[3, 5, 0, 1, 0, 2, 0]);
        assert_eq!(off_by_one, Err(Malformed::ByteCount { got: 5, right: 4 }));
    }

    pub(crate) fn any_ask() -> impl Strategy<Value = Ask> {
        let tables = prop_oneof![
            Just(Table::Coil),
            Just(Table::Discrete),
            Just(Table::Input),
            Just(Table::Holding)
        ];
        prop_oneof![
            (tables, any::<u16>(), 1u16..=125).prop_map(|(table, start, count)| Ask::Read {
                table,
                start,
                count
            }),
            (any::<u16>(), any::<bool>()).prop_map(|(start, on)| Ask::WriteCoil { start, on }),
            (any::<u16>(), any::<[u8; 2]>())
                .prop_map(|(start, register)| Ask::WriteRegister { start, register }),
            (any::<u16>(), prop::collection::vec(any::<bool>(), 1..=1968))
                .prop_map(|(start, bits)| Ask::WriteCoils { start, bits }),
            (
                any::<u16>(),
                prop::collection::vec(any::<[u8; 2]>(), 1..=123)
            )
                .prop_map(|(start, registers)| Ask::WriteRegisters {
                    start,
                    bytes: registers.concat()
                }),
            (any::<u16>(), any::<u16>(), any::<u16>())
                .prop_map(|(start, and, or)| Ask::MaskRegister { start, and, or }),
            (
                any::<u16>(),
                prop::collection::vec(any::<[u8; 2]>(), 1..=121)
            )
                .prop_map(|(start, registers)| Ask::WriteAndRead {
                    start,
                    bytes: registers.concat()
                }),
        ]
    }

    /// The only answers that `ask` allows, built from the specification rather than from the decoder.
    fn right_answer(ask: &Ask, pdu: &[u8]) -> bool {
        let request = encoded(ask);
        match ask {
            _ if pdu.len() == 2 && pdu[0] == ask.function() | 0x80 => true,
            Ask::Read { table, count, .. } => {
                let bytes = if table.is_bits() {
                    count.div_ceil(8)
                } else {
                    count * 2
                };
                pdu.len() == usize::from(bytes) + 2
                    && pdu[0] == ask.function()
                    && u16::from(pdu[1]) == bytes
            }
            Ask::WriteAndRead { bytes, .. } => {
                pdu.len() == bytes.len() + 2 && pdu[0] == 23 && usize::from(pdu[1]) == bytes.len()
            }
            Ask::MaskRegister { .. } => pdu == request,
            _ => pdu == &request[..5],
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_the_answer_only_if_they_are(ask in any_ask(), pdu in prop::collection::vec(any::<u8>(), 0..260)) {
            prop_assert_eq!(ask.answer(&pdu).is_ok(), right_answer(&ask, &pdu));
        }

        /// Random bytes seldom begin well, so begin well and change one byte, or cut.
        #[test]
        fn nearly_right_bytes_are_the_answer_only_if_they_are(
            ask in any_ask(), place in 0usize..8, to: u8, cut in 0usize..3, more in 0usize..3,
        ) {
            let mut pdu = match &ask {
                Ask::Read { table, count, .. } => {
                    let bytes = if table.is_bits() { count.div_ceil(8) } else { count * 2 };
                    let mut pdu = vec![ask.function(), bytes as u8];
                    pdu.resize(usize::from(bytes) + 2, 7);
                    pdu
                }
                Ask::WriteAndRead { bytes, .. } => {
                    [&[23, bytes.len() as u8][..], bytes].concat()
                }
                Ask::MaskRegister { .. } => encoded(&ask),
                _ => encoded(&ask)[..5].to_vec(),
            };
            prop_assert!(ask.answer(&pdu).is_ok());
            if let Some(byte) = pdu.get_mut(place) {
                *byte = to;
            }
            pdu.truncate(pdu.len() - cut);
            pdu.resize(pdu.len() + more, to);
            prop_assert_eq!(ask.answer(&pdu).is_ok(), right_answer(&ask, &pdu));
        }
    }
}
