//! Modbus TCP on the wire: a header of seven bytes (MBAP), then the function and its data.
//!
//! After Modbus Messaging on TCP/IP Implementation Guide 1.0b, section 3.1. There is no guessing where a frame may
//! begin: whoever reads a malformed header must drop the stream.

use crate::pdu::{Ask, MOST_PDU, Malformed};

/// The length of the header.
pub const HEADER: usize = 7;

/// The fields of a header that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Pairs an answer with its request.
    pub transaction: u16,
    /// The unit asked.
    pub unit: u8,
    /// How many bytes of function and data follow: 1 to 253.
    pub length: usize,
}

impl Header {
    /// Read a header.
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Malformed> {
        let [t0, t1, p0, p1, l0, l1, unit] = bytes;
        let protocol = u16::from_be_bytes([p0, p1]);
        if protocol != 0 {
            return Err(Malformed::Protocol(protocol));
        }
        let following = u16::from_be_bytes([l0, l1]);
        let length = usize::from(following).saturating_sub(1);
        if length == 0 || length > MOST_PDU {
            return Err(Malformed::Length(following));
        }
        Ok(Self {
            transaction: u16::from_be_bytes([t0, t1]),
            unit,
            length,
        })
    }
}

/// The whole frame of a request.
pub fn frame(transaction: u16, unit: u8, ask: &Ask) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + 5);
    frame.extend(transaction.to_be_bytes());
    frame.extend([0, 0, 0, 0, unit]);
    ask.encode(&mut frame);
    let following = (frame.len() - HEADER + 1) as u16;
    frame[4..6].copy_from_slice(&following.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers() {
        let header = |bytes| Header::decode(bytes);
        assert_eq!(
            header([1, 2, 0, 0, 0, 6, 9]),
            Ok(Header {
                transaction: 0x0102,
                unit: 9,
                length: 5
            })
        );
        assert_eq!(
            header([1, 2, 0, 0, 0, 254, 9]).map(|header| header.length),
            Ok(253)
        );
        assert_eq!(header([1, 2, 0, 1, 0, 6, 9]), Err(Malformed::Protocol(1)));
        for length in [0, 1, 255, 0xffff_u16] {
            let [high, low] = length.to_be_bytes();
            assert_eq!(
                header([1, 2, 0, 0, high, low, 9]),
                Err(Malformed::Length(length))
            );
        }
    }

    proptest! {
        #[test]
        fn any_header_is_answered(bytes: [u8; 7]) {
            if let Ok(header) = Header::decode(bytes) {
                prop_assert!((1..=253).contains(&header.length));
                prop_assert_eq!(&bytes[2..4], &[0, 0]);
            }
        }
    }
}
