//! The frame of Modbus RTU: a unit, the PDU, a checksum (*MODBUS over Serial Line* V1.02, 2.5.1), carried over TCP.
//!
//! On a line a frame ends with silence. A stream has none, so the length of a request is taken from its function, and
//! where the checksum does not agree all that has been received is thrown away: a client that waits in vain and asks again
//! finds the device in step.

use super::frame::{Frame, HEADER, PDU_MAX};

/// The last two bytes.
const CHECKSUM: usize = 2;

/// To every unit; none answers (2.1).
pub(super) const BROADCAST: u8 = 0;

/// Received bytes that begin with no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// The first request of what has been received so far, or `None` while it is not complete.
pub(super) fn next(bytes: &[u8]) -> Result<Option<Frame<'_>>, Garbage> {
    let count_at = |at: usize| bytes.get(at).map(|count| at + 1 + usize::from(*count));
    let body = match bytes.get(1) {
        None => return Ok(None),
        Some(1..=6) => Some(6),
        Some(15 | 16) => count_at(6),
        Some(22) => Some(8),
        Some(23) => count_at(10),
        Some(43) => Some(5),
        Some(_) => return Err(Garbage),
    };
    let Some(body) = body else {
        return Ok(None);
    };
    if body > 1 + PDU_MAX {
        return Err(Garbage);
    }
    let Some((frame, _)) = bytes.split_at_checked(body + CHECKSUM) else {
        return Ok(None);
    };
    let (body, sum) = frame.split_at(body);
    if sum != checksum(body) {
        return Err(Garbage);
    }
    Ok(Some(Frame {
        transaction: 0,
        unit: body[0],
        pdu: &body[1..],
    }))
}

/// How many bytes of the stream a request took.
pub(super) const fn length(frame: &Frame<'_>) -> usize {
    1 + frame.pdu.len() + CHECKSUM
}

/// Makes a frame of Modbus TCP, from `start` to the end, one of RTU.
pub(super) fn convert(out: &mut Vec<u8>, start: usize) {
    out.drain(start..start + HEADER - 1);
    let sum = checksum(&out[start..]);
    out.extend_from_slice(&sum);
}

/// The checksum, as it travels (6.2.2).
pub(super) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut register = 0xffff_u16;
    for byte in bytes {
        register ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = register & 1 == 1;
            register >>= 1;
            if carry {
                register ^= 0xa001;
            }
        }
    }
    register.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_checksum(body: &[u8]) -> Vec<u8> {
        [body, &checksum(body)].concat()
    }

    #[test]
    fn the_checksum_of_the_specification() {
        // MODBUS over Serial Line V1.02, 6.2.2.
        assert_eq!(checksum(&[0x02, 0x07]), [0x41, 0x12]);
        assert_eq!(checksum(&[0x11, 3, 0, 0x6b, 0, 3]), [0x76, 0x87]);
    }

    #[test]
    fn requests_are_cut_from_a_stream() {
        for pdu in [
            &[1, 0, 19, 0, 19][..],
            &[6, 0, 1, 0, 3],
            &[15, 0, 19, 0, 10, 2, 0xcd, 1],
            &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
            &[22, 0, 4, 0, 0xf2, 0, 0x25],
            &[23, 0, 3, 0, 6, 0, 14, 0, 1, 2, 0, 0xff],
            &[43, 14, 1, 0],
        ] {
            let request = with_checksum(&[&[9], pdu].concat());
            for length in 0..request.len() {
                assert_eq!(
                    next(&request[..length]),
                    Ok(None),
                    "{length} of {request:?}"
                );
            }
            let twice = [request.clone(), request.clone()].concat();
            let frame = next(&twice).unwrap().unwrap();
            assert_eq!((frame.unit, frame.pdu), (9, pdu));
            assert_eq!(length(&frame), request.len());
            let mut wrong = request;
            wrong[3] ^= 1;
            assert_eq!(next(&wrong), Err(Garbage));
        }
        assert_eq!(next(&[1, 99]), Err(Garbage));
        assert_eq!(next(&[1, 16, 0, 0, 0, 0, 248]), Err(Garbage), "too long");
    }

    #[test]
    fn answers_are_converted() {
        let mut out = vec![7, 7, 0, 1, 0, 0, 0, 5, 17, 3, 2, 0, 1];
        convert(&mut out, 2);
        assert_eq!(
            out,
            [&[7, 7][..], &with_checksum(&[17, 3, 2, 0, 1])].concat()
        );
    }
}
