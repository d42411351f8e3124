//! Whether a file may be a driver at all: its size, its digest, its kind. Nothing is compiled here.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::census::{self, Census};
use crate::limits::{COMPONENT_BYTES, INSTANCES};
use crate::text::shown;

/// The longest text of a validator or compiler that is handed on, in bytes: it quotes the file.
pub(super) const MAX_REASON: usize = 1_000;

/// Why a file is no driver.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("{path} cannot be read: {reason}; check the path, or build the driver")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It holds nothing.
    #[error("{path} is empty; build the driver again")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than any driver may be.
    #[error(
        "{path} has more than {COMPONENT_BYTES} bytes; strip it, or leave out what it does not need"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not the file that the configuration pins.
    #[error(
        "{path} has the SHA-256 {actual}, but the configuration pins {expected}; install the pinned file, or change sha256 \
         after you have checked the new one"
    )]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What it has.
        actual: String,
        /// What it should have.
        expected: String,
    },
    /// It is something else.
    #[error("{path} is {what}; {remedy}")]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// It is made of more instances than any driver needs.
    #[error(
        "{path} is made of {count} instances, and a driver may have {INSTANCES}; build it of fewer components and modules"
    )]
    TooManyInstances {
        /// The file.
        path: PathBuf,
        /// Of components and of core modules together.
        count: u64,
    },
    /// It is a component, but a broken one.
    #[error("{path} is not a valid component: {reason}; build the driver again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What the validator says, with the offset.
        reason: String,
    },
}

/// The SHA-256 of a file's bytes.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A digest in hexadecimal.
pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that may be a driver: its bytes, as they were when they were checked. What is compiled later is exactly these.
pub struct Verified {
    path: PathBuf,
    bytes: Vec<u8>,
    digest: [u8; 32],
    census: Census,
}

impl Verified {
    /// Reads a file once, and checks what was read.
    pub fn read(path: &Path, pinned: Option<&[u8; 32]>) -> Result<Self, VerifyError> {
        let bytes = contents(path)?;
        let (digest, census) = check(path, &bytes, pinned)?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            digest,
            census,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it held.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The SHA-256 of that.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What one instance of it is made of.
    pub fn census(&self) -> Census {
        self.census
    }
}

/// What a file holds, cut one byte after [`COMPONENT_BYTES`]. Waits for nobody.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, VerifyError> {
    let unreadable = |error: std::io::Error| VerifyError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    // Opening a pipe would wait for its writer, and there need be none.
    let no_waiting = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(no_waiting)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(VerifyError::WrongKind {
            path: path.to_owned(),
            what: "not a file",
            remedy: "name the .wasm file itself",
        });
    }
    let too_large = || VerifyError::TooLarge {
        path: path.to_owned(),
    };
    let expected = metadata.len();
    if expected > COMPONENT_BYTES {
        return Err(too_large());
    }
    // One more than it says, so that the end is seen without growing.
    let room = usize::try_from(expected + 1).map_err(|_| too_large())?;
    let mut bytes = Vec::with_capacity(room);
    file.take(COMPONENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

fn check(
    path: &Path,
    bytes: &[u8],
    pinned: Option<&[u8; 32]>,
) -> Result<([u8; 32], Census), VerifyError> {
    if bytes.len() as u64 > COMPONENT_BYTES {
        return Err(VerifyError::TooLarge {
            path: path.to_owned(),
        });
    }
    if bytes.is_empty() {
        return Err(VerifyError::Empty {
            path: path.to_owned(),
        });
    }
    let actual = digest(bytes);
    if let Some(expected) = pinned
        && actual != *expected
    {
        return Err(VerifyError::WrongDigest {
            path: path.to_owned(),
            actual: hex(&actual),
            expected: hex(expected),
        });
    }
    if let Some((what, remedy)) = other_kind(bytes) {
        return Err(VerifyError::WrongKind {
            path: path.to_owned(),
            what,
            remedy,
        });
    }
    let invalid = |reason: String| VerifyError::Invalid {
        path: path.to_owned(),
        reason: shown(&reason, MAX_REASON),
    };
    let mut validator =
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::default());
    validator
        .validate_all(bytes)
        .map_err(|error| invalid(error.to_string()))?;
    let census = census::count(bytes).map_err(|error| invalid(error.to_string()))?;
    if census.instances > INSTANCES {
        return Err(VerifyError::TooManyInstances {
            path: path.to_owned(),
            count: census.instances,
        });
    }
    Ok((actual, census))
}

/// What the file is, where it is not a component (`\0asm`, version 0x0d, layer 1).
fn other_kind(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const BUILD: &str = "build the driver for the target wasm32-wasip2, which makes components";
    if bytes.starts_with(b"\0asm\x0d\0\x01\0") {
        None
    } else if bytes.starts_with(b"\0asm\x01\0\0\0") {
        Some(("a core WebAssembly module, not a component", BUILD))
    } else if bytes.starts_with(b"\0asm") {
        Some(("a WebAssembly file of an unknown version", BUILD))
    } else if bytes.starts_with(b"\x7fELF") {
        Some((
            "precompiled code (.cwasm) or another ELF file, which this host never runs",
            "name the .wasm component that it was made from",
        ))
    } else if bytes.trim_ascii_start().starts_with(b"(") {
        Some((
            "WebAssembly text",
            "turn it into a component with `wasm-tools parse` and `wasm-tools component new`",
        ))
    } else {
        Some(("not WebAssembly", BUILD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_kind(bytes: &[u8], expected: &str) {
        let error = check(Path::new("x.wasm"), bytes, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("x.wasm "), "{error}");
    }

    #[test]
    fn what_is_no_component_is_refused_by_name() {
        check_kind(b"", "is empty");
        check_kind(b"\0asm\x01\0\0\0", "core WebAssembly module");
        check_kind(b"\0asm\x09\0\0\0", "unknown version");
        check_kind(b"\x7fELF\x02\x01", "precompiled code");
        check_kind(b" \n(component)", "WebAssembly text");
        check_kind(b"MZ\x90", "not WebAssembly");
        check_kind(b"\0asm\x0d\0\x01\0\x01\xff", "not a valid component");
    }

    #[test]
    fn an_empty_component_passes_so_far() {
        check(Path::new("x.wasm"), b"\0asm\x0d\0\x01\0", None).unwrap();
    }

    #[test]
    fn a_pinned_digest_must_match() {
        let bytes = b"\0asm\x0d\0\x01\0";
        check(Path::new("x.wasm"), bytes, Some(&digest(bytes))).unwrap();
        let error = check(Path::new("x.wasm"), bytes, Some(&[0; 32]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("the configuration pins 0000"), "{error}");
    }
}
