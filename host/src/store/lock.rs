//! The exclusive lock on `data_dir`.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StoreError;

/// Held for as long as it lives. The kernel takes it back when the process ends, however that happens.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(data_dir: &Path) -> Result<Self, StoreError> {
        let fault = |error: std::io::Error| StoreError::Folder {
            path: data_dir.to_owned(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(data_dir).map_err(fault)?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(data_dir.join("lock"))
            .map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let known = (&file).take(32).read_to_string(&mut holder).is_ok()
                    && !holder.trim().is_empty();
                return Err(StoreError::Locked {
                    path: data_dir.to_owned(),
                    holder: if known {
                        holder.trim().to_owned()
                    } else {
                        "unknown".to_owned()
                    },
                });
            }
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        file.set_len(0).map_err(fault)?;
        file.rewind().map_err(fault)?;
        writeln!(file, "{}", std::process::id()).map_err(fault)?;
        Ok(Self { _file: file })
    }
}
