//! How a record stands on the disk, so that a damaged one is known.
//!
//! ```text
//! 1 byte   version of the payload's shape, by the record's kind
//! 8 bytes  checksum: the first of SHA-256 over kind, owner, number, version and payload
//! n bytes  payload
//! ```
//!
//! The database has checksums of its own, which it reads after a crash and when it is opened. These here are read each time, name
//! the one record that is damaged, and notice one that stands under a key that is not its own.

use sha2::{Digest, Sha256};

const CHECKSUM: usize = 8;
/// Bytes that stand before the payload.
pub(super) const HEAD: usize = 1 + CHECKSUM;

/// Where a record belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) kind: &'a str,
    pub(super) owner: &'a str,
    /// 0 where there is one record per owner.
    pub(super) number: u64,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("it is {0} bytes long, less than a record can be")]
    Short(usize),
    #[error("its checksum does not fit its contents")]
    Checksum,
    #[error("it has version {found}, and this host reads version {known}")]
    Version { found: u8, known: u8 },
}

/// A payload as it goes to the disk.
pub(super) fn seal(place: Place<'_>, version: u8, payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEAD + payload.len());
    sealed.push(version);
    sealed.extend(checksum(place, version, payload));
    sealed.extend(payload);
    sealed
}

/// The payload of a record that is whole.
pub(super) fn unseal<'a>(
    place: Place<'_>,
    known: u8,
    sealed: &'a [u8],
) -> Result<&'a [u8], Damage> {
    let Some((&[version, ref stated @ ..], payload)) = sealed.split_first_chunk::<HEAD>() else {
        return Err(Damage::Short(sealed.len()));
    };
    if checksum(place, version, payload) != *stated {
        return Err(Damage::Checksum);
    }
    if version == known {
        Ok(payload)
    } else {
        Err(Damage::Version {
            found: version,
            known,
        })
    }
}

fn checksum(place: Place<'_>, version: u8, payload: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Sha256::new();
    for text in [place.kind, place.owner] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(place.number.to_le_bytes());
    hash.update([version]);
    hash.update(payload);
    let whole = hash.finalize();
    std::array::from_fn(|at| whole[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        kind: "history",
        owner: "press-3",
        number: 7,
    };

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = seal(PLACE, 1, b"some payload");
        assert_eq!(unseal(PLACE, 1, &sealed), Ok(b"some payload".as_slice()));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(PLACE, 1, &damaged), Err(Damage::Checksum), "{bit}");
        }
    }

    #[test]
    fn a_record_is_whole_only_in_its_own_place_and_version() {
        let sealed = seal(PLACE, 1, b"");
        let elsewhere = [
            Place { number: 8, ..PLACE },
            Place {
                owner: "press-4",
                ..PLACE
            },
            Place {
                kind: "historyp",
                owner: "ress-3",
                ..PLACE
            },
        ];
        for place in elsewhere {
            assert_eq!(unseal(place, 1, &sealed), Err(Damage::Checksum));
        }
        assert_eq!(
            unseal(PLACE, 2, &sealed),
            Err(Damage::Version { found: 1, known: 2 })
        );
        for length in 0..sealed.len() {
            let cut = unseal(PLACE, 1, &sealed[..length]);
            assert_eq!(cut, Err(Damage::Short(length)));
        }
    }
}
