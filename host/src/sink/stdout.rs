//! Standard output.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

/// Standard output without a buffer in between, so that after a failure it is known what was written.
pub(super) struct Stdout {
    file: File,
}

impl Stdout {
    pub(super) fn open() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file })
    }

    /// Writes and removes as much of `bytes` as can be written; all of it if there is no error.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        let end = loop {
            match self.file.write(&bytes[written..]) {
                Ok(0) if written < bytes.len() => break Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == bytes.len() {
                break Ok(());
            }
        };
        bytes.drain(..written);
        end
    }
}
