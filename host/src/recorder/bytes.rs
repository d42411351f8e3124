//! Numbers and strings in few bytes: LEB128, signed numbers folded (zigzag), lengths before contents.
//!
//! What is read may come from anywhere: every length is checked against what is there before anything is allocated.

/// Something that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(super) struct Malformed {
    /// What is wrong.
    pub(super) what: &'static str,
    /// Where.
    pub(super) at: usize,
}

/// Appends a number.
pub(super) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    put_u64(out, u64::from(value));
}

/// Appends how far `value` is from `base`, either way.
pub(super) fn put_from(out: &mut Vec<u8>, value: u64, base: u64) {
    let difference = value.wrapping_sub(base).cast_signed();
    put_u64(
        out,
        ((difference << 1) ^ (difference >> 63)).cast_unsigned(),
    );
}

pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_from(out, value.cast_unsigned(), 0);
}

pub(super) fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(super) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    put_bool(out, value.is_some());
    if let Some(value) = value {
        put(out, value);
    }
}

/// Reads from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(super) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((taken, _)) = rest.split_at_checked(count) else {
            return Err(self.malformed("the end, where more should be"));
        };
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| self.malformed("the end, where more should be"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(self.malformed("a number beyond 64 bits"));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number beyond 64 bits"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let value = self.u64()?;
        u32::try_from(value).map_err(|_| self.malformed("a number beyond 32 bits"))
    }

    /// See [`put_from`].
    pub(super) fn from(&mut self, base: u64) -> Result<u64, Malformed> {
        let folded = self.u64()?;
        let difference = (folded >> 1) ^ (folded & 1).wrapping_neg();
        Ok(base.wrapping_add(difference))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.from(0).map(u64::cast_signed)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a truth value that is neither")),
        }
    }

    pub(super) fn f64(&mut self) -> Result<f64, Malformed> {
        self.array()
            .map(|bytes| f64::from_bits(u64::from_le_bytes(bytes)))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u64()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.malformed("text that is not UTF-8")),
        }
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A list whose elements take at least `least` bytes each, so that a length alone allocates nothing.
    pub(super) fn list<T>(
        &mut self,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u64()?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > self.left() / least.max(1) {
            return Err(self.malformed("a list that is longer than what is there"));
        }
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_read(value: u64, base: u64, signed: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            put_from(&mut out, value, base);
            put_i64(&mut out, signed);
            put_bytes(&mut out, &bytes);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64(), Ok(value));
            prop_assert_eq!(reader.from(base), Ok(value));
            prop_assert_eq!(reader.i64(), Ok(signed));
            prop_assert_eq!(reader.bytes(), Ok(bytes.as_slice()));
            prop_assert_eq!(reader.left(), 0);
        }
    }

    #[test]
    fn a_length_alone_allocates_nothing() {
        let mut huge = Vec::new();
        put_u64(&mut huge, u64::MAX);
        assert!(Reader::new(&huge).bytes().is_err());
        assert!(Reader::new(&huge).list(1, Reader::byte).is_err());
        assert!(Reader::new(&[0xff; 11]).u64().is_err());
        assert!(Reader::new(&[0x80]).u64().is_err());
        assert!(Reader::new(&[2]).bool().is_err());
        assert!(Reader::new(&[2, 0xc3, 0x28]).text().is_err());
    }
}
