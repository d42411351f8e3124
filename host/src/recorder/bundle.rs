//! A crash as one file.
//!
//! ```text
//! file    = "BULKHEAD-CRASH\n" version section* end
//! section = kind:u8 plain:u32 packed:u32 bytes              1: the header, JSON    2: a block of the tape
//! block   = sequence:u64 turns-before:u64 entry:u32 bytes   entry 2^32-1: no turn begins in it
//! end     = 0:u8 sha256 of all before
//! ```
//!
//! Numbers are little-endian, `bytes` are packed with LZ4. The header comes first.
//!
//! A bundle may come from anywhere. The checksum tells damage, not intent: whatever the bytes are, reading them ends with
//! a bundle or with an error that names what is wrong, and takes no more memory than the bounds below.

use std::path::{Path, PathBuf};

use super::header::Header;
use super::tape::{Block, MAX_BLOCK, Tape};

const MAGIC: &[u8] = b"BULKHEAD-CRASH\n";
const VERSION: u16 = 2;
const END: u8 = 0;
const HEADER: u8 = 1;
const BLOCK: u8 = 2;
const NO_ENTRY: u32 = u32::MAX;
const CHECKSUM: usize = 32;
/// The largest file.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// The largest header, before packing: a channel may have 100,000 tags.
const MAX_HEADER: usize = 64 * 1024 * 1024;
/// The most bytes of all blocks, before packing.
const MAX_PLAIN: usize = 512 * 1024 * 1024;
/// The most blocks.
const MAX_BLOCKS: usize = 65_536;

/// A crash that can be replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Everything but the tape.
    pub header: Header,
    /// What the driver was given.
    pub tape: Tape,
}

/// Why a bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {reason}; name a file of data_dir/crashes, or a copy of one")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is larger than any bundle.
    #[error("{path} has more than {MAX_FILE} bytes, which no crash bundle has; name another file")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{path} is no crash bundle; name a file of data_dir/crashes, or a copy of one")]
    NoBundle {
        /// The file.
        path: PathBuf,
    },
    /// A later host wrote it.
    #[error(
        "{path} is a crash bundle of version {version}, and this host reads version {VERSION}; replay it with the host that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u16,
    },
    /// Some of it is not what it was.
    #[error("{path} is damaged: {what}; copy it again from the host that wrote it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Bundle {
    /// As a file's content.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        let header = serde_json::to_vec(&self.header)?;
        let packed = lz4_flex::block::compress(&header);
        put_section(&mut out, HEADER, length(header.len()), packed.len());
        out.extend_from_slice(&packed);
        for block in &self.tape.blocks {
            put_section(&mut out, BLOCK, block.plain, block.packed.len());
            out.extend_from_slice(&block.sequence.to_le_bytes());
            out.extend_from_slice(&block.turns_before.to_le_bytes());
            out.extend_from_slice(&block.entry.unwrap_or(NO_ENTRY).to_le_bytes());
            out.extend_from_slice(&block.packed);
        }
        out.push(END);
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        Ok(out)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        use std::io::Read as _;

        let fault = |error: std::io::Error| BundleError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = std::fs::File::open(path).map_err(fault)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(fault)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(BundleError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::from_bytes(&bytes, path)
    }

    /// Reads a file's content; `path` is for the message.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, BundleError> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(BundleError::NoBundle {
                path: path.to_owned(),
            });
        };
        let damaged = |what: String| BundleError::Damaged {
            path: path.to_owned(),
            what,
        };
        let Some((version, _)) = rest.split_first_chunk() else {
            return Err(damaged("it ends within its version".into()));
        };
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(BundleError::Version {
                path: path.to_owned(),
                version,
            });
        }
        let Some((body, expected)) = bytes.split_last_chunk::<CHECKSUM>() else {
            return Err(damaged("it ends before its checksum".into()));
        };
        if checksum(body) != *expected {
            return Err(damaged(
                "its checksum does not fit; it may be cut off".into(),
            ));
        }
        let Some(sections) = body.get(MAGIC.len() + 2..) else {
            return Err(damaged("it ends within its version".into()));
        };
        read_sections(sections).map_err(damaged)
    }
}

fn read_sections(mut rest: &[u8]) -> Result<Bundle, String> {
    let mut header: Option<Header> = None;
    let mut blocks: Vec<Block> = Vec::new();
    let mut sum = 0;
    loop {
        match take(&mut rest)? {
            [END] if rest.is_empty() => break,
            [END] => return Err("something follows its end".into()),
            [HEADER] if header.is_none() => {
                let (plain, packed) = lengths(&mut rest)?;
                header = Some(read_header(plain, split(&mut rest, packed)?)?);
            }
            [BLOCK] if header.is_some() && blocks.len() < MAX_BLOCKS => {
                let (plain, packed) = lengths(&mut rest)?;
                sum += plain;
                if plain > MAX_BLOCK || sum > MAX_PLAIN {
                    return Err(format!("block {} says it is too large", blocks.len()));
                }
                let sequence = u64::from_le_bytes(take(&mut rest)?);
                let turns_before = u64::from_le_bytes(take(&mut rest)?);
                let entry = u32::from_le_bytes(take(&mut rest)?);
                blocks.push(Block {
                    packed: split(&mut rest, packed)?.into(),
                    plain: length(plain),
                    sequence,
                    turns_before,
                    entry: (entry != NO_ENTRY).then_some(entry),
                });
            }
            [kind] => return Err(format!("a section of kind {kind} stands where none may")),
        }
    }
    match header {
        Some(header) => Ok(Bundle {
            header,
            tape: Tape { blocks },
        }),
        None => Err("it has no header".into()),
    }
}

fn read_header(plain: usize, packed: &[u8]) -> Result<Header, String> {
    // LZ4 makes at most 255 bytes of one.
    if plain > MAX_HEADER || plain > packed.len().saturating_mul(255) {
        return Err("its header says it is too large".into());
    }
    let mut bytes = vec![0; plain];
    match lz4_flex::block::decompress_into(packed, &mut bytes) {
        Ok(count) if count == plain => {}
        Ok(_) | Err(_) => return Err("its header cannot be unpacked".into()),
    }
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|error| format!("its header cannot be read: {error}"))?;
    Ok(header)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let Some((taken, left)) = rest.split_first_chunk::<N>() else {
        return Err("it ends within a section".into());
    };
    *rest = left;
    Ok(*taken)
}

fn split<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let Some((taken, left)) = rest.split_at_checked(count) else {
        return Err("it ends within a section".into());
    };
    *rest = left;
    Ok(taken)
}

fn lengths(rest: &mut &[u8]) -> Result<(usize, usize), String> {
    let mut one = || -> Result<usize, String> {
        let number = u32::from_le_bytes(take(rest)?);
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    };
    Ok((one()?, one()?))
}

fn put_section(out: &mut Vec<u8>, kind: u8, plain: u32, packed: usize) {
    out.push(kind);
    out.extend_from_slice(&plain.to_le_bytes());
    out.extend_from_slice(&length(packed).to_le_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    use sha2::Digest as _;

    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recorder::header::{
        Call, ConfigRecord, DriverRecord, ExitRecord, LimitsRecord, Written,
    };
    use crate::recorder::secrets::Secrets;
    use crate::recorder::tape::tests::tape;

    pub(in crate::recorder) fn bundle() -> Bundle {
        let config = crate::bindings::config::ChannelConfig {
            name: "channel".into(),
            settings: r#"{"a":1}"#.into(),
            links: Vec::new(),
            devices: Vec::new(),
            groups: Vec::new(),
            tags: Vec::new(),
        };
        Bundle {
            header: Header {
                written: Written {
                    by: "0.1.0".into(),
                    architecture: "x86_64".into(),
                    system: "linux".into(),
                    at_ns: 1,
                },
                channel: "a".into(),
                incarnation: 7,
                driver: DriverRecord {
                    path: "a.wasm".into(),
                    sha256: "00".into(),
                    bytes: 1,
                },
                limits: LimitsRecord {
                    memory: 1,
                    fuel_per_turn: 2,
                    turn_deadline_ns: 3,
                    start_fuel: 4,
                    start_deadline_ns: 5,
                    samples_per_second: 6,
                    stack: 7,
                },
                seed: 9,
                start: Call::default(),
                configure: Some(Call::default()),
                exit: ExitRecord {
                    kind: "trapped".into(),
                    during: "turn".into(),
                    message: "unreachable".into(),
                    fuel: Some(5),
                    backtrace: Vec::new(),
                },
                turns: 20,
                events: 100,
                secrets: 0,
                config: ConfigRecord::new(&config, &mut Secrets::default()),
            },
            tape: tape(20, 200),
        }
    }

    fn read(bytes: &[u8]) -> Result<Bundle, BundleError> {
        Bundle::from_bytes(bytes, Path::new("b.crash"))
    }

    /// With a checksum that fits, as somebody would who means harm.
    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&body);
        body.extend_from_slice(&sum);
        body
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        let bundle = bundle();
        assert_eq!(read(&bundle.to_bytes().unwrap()).unwrap(), bundle);
    }

    #[test]
    fn a_bundle_that_is_cut_off_is_damaged_at_every_byte() {
        let bytes = bundle().to_bytes().unwrap();
        for cut in 0..bytes.len() {
            let error = read(&bytes[..cut]).unwrap_err();
            let is_short = cut < MAGIC.len();
            assert_eq!(
                matches!(error, BundleError::NoBundle { .. }),
                is_short,
                "{cut}: {error}"
            );
            assert_eq!(
                matches!(error, BundleError::Damaged { .. }),
                !is_short,
                "{cut}: {error}"
            );
            assert!(error.to_string().contains("b.crash"));
            // Also where the checksum fits, unless nothing is missing then.
            let is_whole = cut == bytes.len() - CHECKSUM;
            assert_eq!(
                read(&sealed(bytes[..cut].to_vec())).is_ok(),
                is_whole,
                "{cut}"
            );
        }
    }

    #[test]
    fn every_single_changed_byte_is_noticed() {
        let bytes = bundle().to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut hurt = bytes.clone();
            hurt[at] ^= 0x41;
            assert!(read(&hurt).is_err(), "{at}");
        }
    }

    #[test]
    fn bytes_of_somebody_who_means_harm_end_in_an_error_or_in_a_bundle() {
        let bytes = bundle().to_bytes().unwrap();
        let body = &bytes[..bytes.len() - CHECKSUM];
        let (mut read_well, mut refused) = (0, 0);
        for seed in 0..3000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut hurt = body.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(MAGIC.len() + 2..hurt.len());
                hurt[at] = random.u8(..);
            }
            match read(&sealed(hurt)) {
                Ok(bundle) => {
                    read_well += 1;
                    bundle.tape.turns().for_each(drop);
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("; "), "{error}");
                }
            }
        }
        assert!(read_well > 100 && refused > 100, "{read_well} {refused}");
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut noise = MAGIC.to_vec();
            noise.extend_from_slice(&VERSION.to_le_bytes());
            noise.extend((0..random.usize(..400)).map(|_| random.u8(..)));
            assert!(read(&sealed(noise)).is_err());
        }
    }

    #[test]
    fn huge_lengths_allocate_nothing() {
        let start = |kind: u8, plain: u32, packed: u32| {
            let mut body = MAGIC.to_vec();
            body.extend_from_slice(&VERSION.to_le_bytes());
            body.push(kind);
            body.extend_from_slice(&plain.to_le_bytes());
            body.extend_from_slice(&packed.to_le_bytes());
            body
        };
        for (kind, plain, packed) in [
            (HEADER, u32::MAX, u32::MAX),
            (HEADER, u32::MAX, 0),
            (HEADER, 1 << 20, 2),
            (BLOCK, 1, 1),
            (3, 1, 1),
        ] {
            let mut body = start(kind, plain, packed);
            body.extend_from_slice(&[0; 8]);
            let error = read(&sealed(body)).unwrap_err();
            assert!(matches!(error, BundleError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = bundle().to_bytes().unwrap();
        bytes[MAGIC.len()] = 9;
        assert!(matches!(
            read(&bytes).unwrap_err(),
            BundleError::Version { version: 9, .. }
        ));
    }
}
