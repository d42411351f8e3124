//! The frame of Modbus TCP: an MBAP header of seven bytes, then the PDU (*Messaging on TCP/IP*, 3.1.3).

/// Transaction id, protocol id, length, unit id.
pub(super) const HEADER: usize = 7;

/// The longest PDU (*Application Protocol* V1.1b3, 4.1).
pub(super) const PDU_MAX: usize = 253;

/// The longest frame.
pub(super) const FRAME_MAX: usize = HEADER + PDU_MAX;

/// One complete request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) transaction: u16,
    pub(super) unit: u8,
    /// The function code and its data; never empty.
    pub(super) pdu: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes of the stream it took.
    pub(super) const fn length(&self) -> usize {
        HEADER + self.pdu.len()
    }
}

/// Why a stream cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("protocol id {0} instead of 0")]
    Protocol(u16),
    #[error("length {0} in the header, outside 2 to 254")]
    Length(u16),
}

/// The first frame of what has been received so far, or `None` while it is not complete.
pub(super) fn next(bytes: &[u8]) -> Result<Option<Frame<'_>>, FramingError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (protocol, length) = (word(2), word(4));
    if protocol != 0 {
        return Err(FramingError::Protocol(protocol));
    }
    // The length counts the unit id, which stands in the header.
    if !(2..=1 + PDU_MAX).contains(&usize::from(length)) {
        return Err(FramingError::Length(length));
    }
    Ok(rest.get(..usize::from(length) - 1).map(|pdu| Frame {
        transaction: word(0),
        unit: header[6],
        pdu,
    }))
}

/// Starts an answer: a header whose length [`finish`] fills in.
pub(super) fn begin(out: &mut Vec<u8>, transaction: u16, unit: u8) {
    let [high, low] = transaction.to_be_bytes();
    out.extend_from_slice(&[high, low, 0, 0, 0, 0, unit]);
}

/// Fills in the length of the answer that starts at `start`.
pub(super) fn finish(out: &mut [u8], start: usize) {
    let length =
        u16::try_from(out.len() - start - (HEADER - 1)).expect("a PDU has at most 253 bytes");
    out[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_from_a_stream() {
        let read = [0x12, 0x34, 0, 0, 0, 6, 9, 3, 0, 1, 0, 2];
        for length in 0..read.len() {
            assert_eq!(
                next(&read[..length]),
                Ok(None),
                "{length} bytes are no frame yet"
            );
        }
        let frame = next(&read).unwrap().unwrap();
        assert_eq!(
            frame,
            Frame {
                transaction: 0x1234,
                unit: 9,
                pdu: &[3, 0, 1, 0, 2]
            }
        );
        assert_eq!(frame.length(), read.len());

        let pipelined = [read, read].concat();
        assert_eq!(next(&pipelined).unwrap().unwrap().length(), read.len());
    }

    #[test]
    fn a_stream_that_lost_its_framing_is_refused() {
        assert_eq!(
            next(&[0, 0, 0, 1, 0, 2, 1, 3]),
            Err(FramingError::Protocol(1))
        );
        for length in [0, 1, 255, 0xffff] {
            let [high, low] = u16::to_be_bytes(length);
            assert_eq!(
                next(&[0, 0, 0, 0, high, low, 1]),
                Err(FramingError::Length(length))
            );
        }
    }
}
