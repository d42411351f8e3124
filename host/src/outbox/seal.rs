//! How chunks and layouts stand on the disk, so that a damaged one is known.
//!
//! ```text
//! 1 byte   version of what follows the checksum
//! 4 bytes  CRC-32 (IEEE 802.3) over kind, number, version and payload
//! n bytes  payload
//! ```
//!
//! The database has checksums of its own, which it reads after a crash. These here are read each time, and notice a record that
//! stands under a number that is not its own. There is nobody to guard against but the disk, so a cryptographic one, which the host's
//! store has, would only cost time: a fifth of all that an accepted sample took.

use crc32fast::Hasher;

const VERSION: u8 = 1;
/// Bytes that stand before the payload.
const HEAD: usize = 5;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chunk,
    Layout,
}

/// A payload as it goes to the disk.
pub(super) fn seal(kind: Kind, number: u64, payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEAD + payload.len());
    sealed.push(VERSION);
    sealed.extend(checksum(kind, number, VERSION, payload));
    sealed.extend_from_slice(payload);
    sealed
}

/// The payload of a record that is whole, or what is wrong with it.
pub(super) fn unseal(kind: Kind, number: u64, sealed: &[u8]) -> Result<&[u8], &'static str> {
    let Some((&[version, ref stated @ ..], payload)) = sealed.split_first_chunk::<HEAD>() else {
        return Err("it is shorter than a record can be");
    };
    if checksum(kind, number, version, payload) != *stated {
        return Err("its checksum does not fit its contents");
    }
    match version {
        VERSION => Ok(payload),
        _ => Err("another version of the host wrote it"),
    }
}

fn checksum(kind: Kind, number: u64, version: u8, payload: &[u8]) -> [u8; 4] {
    let mut hasher = Hasher::new();
    hasher.update(&[kind as u8, version]);
    hasher.update(&number.to_le_bytes());
    hasher.update(payload);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_wrong_place_is_noticed() {
        let sealed = seal(Kind::Chunk, 7, b"some payload");
        assert_eq!(
            unseal(Kind::Chunk, 7, &sealed),
            Ok(b"some payload".as_slice())
        );
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Kind::Chunk, 7, &damaged).is_err(), "{bit}");
        }
        assert!(unseal(Kind::Layout, 7, &sealed).is_err());
        assert!(unseal(Kind::Chunk, 8, &sealed).is_err());
        assert!(unseal(Kind::Chunk, 7, &sealed[..4]).is_err());
    }
}
