//! A folder of its own for a host: its configuration, its data, and what a test puts beside them.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result};

use crate::paths;
use crate::process::{Ended, Running};

/// A folder that goes with its value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// What its configuration is called.
    pub const CONFIG: &str = "bulkhead.toml";

    /// A folder with nothing in it but the data folder, whose compile cache all tests share: a driver is compiled once
    /// for all of them, as it is for a user who starts a second time. Another `data_dir` has a cache of its own.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folders = paths::target().join("test-folders");
        let folder = Self(folders.join(name));
        // Left over from a process that had the same id and was killed.
        fs::remove_dir_all(&folder.0).ok();
        let make = || {
            let cache = folders.join("cache");
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&cache)?;
            fs::create_dir_all(folder.0.join("data"))?;
            symlink(cache, folder.0.join("data/cache"))
        };
        make().with_context(|| format!("cannot make {}", folder.0.display()))?;
        Ok(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Writes the configuration.
    ///
    /// In the text, `$DRIVERS` stands for `target/drivers`, `$GUESTS` for `target/drivers/guests` and `$DIR` for the
    /// folder. Where the text has no `[host]`, data goes to `$DIR/data`; where it has no `[http]`, the API takes a free
    /// port. What is added stands at the end, so that lines keep their numbers.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn write_config(&self, toml: &str) -> Result<PathBuf> {
        self.write(Self::CONFIG, self.complete(toml))
    }

    /// Runs `bulkhead` with such arguments, to its end, with this folder as its current directory.
    ///
    /// # Errors
    ///
    /// Where it is not built or does not end.
    pub fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.start(arguments)?.wait()
    }

    /// Starts `bulkhead` with such arguments, with this folder as its current directory.
    ///
    /// # Errors
    ///
    /// Where it is not built.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = Command::new(paths::bulkhead()?);
        Running::start(command.current_dir(&self.0).args(arguments))
    }

    fn complete(&self, toml: &str) -> String {
        let has = |table: &str| {
            let (header, dotted) = (format!("[{table}]"), format!("{table}."));
            toml.lines()
                .any(|line| line.trim() == header || line.starts_with(&dotted))
        };
        let mut text = toml.to_owned();
        if !has("host") {
            text.push_str("\n[host]\ndata_dir = \"$DIR/data\"\n");
        }
        if !has("http") {
            text.push_str("\n[http]\nlisten = \"127.0.0.1:0\"\n");
        }
        let drivers = paths::target().join("drivers");
        text.replace("$DRIVERS", &drivers.display().to_string())
            .replace("$GUESTS", &drivers.join("guests").display().to_string())
            .replace("$DIR", &self.0.display().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_completed() {
        let folder = Folder::new().unwrap();
        let text = folder.complete("[[channel]]\ndriver = \"$DRIVERS/modbus.wasm\"\n");
        assert!(
            text.contains("[host]")
                && text.contains("listen = \"127.0.0.1:0\"")
                && !text.contains('$'),
            "{text}"
        );
        assert_eq!(folder.complete("[host]\n[http]\n"), "[host]\n[http]\n");
        let dotted = "http.listen = \"127.0.0.1:0\"\nhost.data_dir = \"data\"\n";
        assert_eq!(folder.complete(dotted), dotted);
    }

    #[test]
    fn a_folder_goes_and_the_shared_cache_stays() {
        let folder = Folder::new().unwrap();
        let (path, cache) = (
            folder.0.clone(),
            folder.0.join("data/cache").canonicalize().unwrap(),
        );
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists() && cache.is_dir());
    }
}
