//! A driver for a command that looks at one: compiled as the host compiles it, and forgotten afterwards.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::output::say;
use super::progress::Progress;
use crate::config::CompileLimits;
use crate::driver::{Driver, LoadError};
use crate::engine::{Compiler, Engine, EngineOptions, Pool};

/// Loads the driver in this file, for one instance of at most `memory` bytes.
pub(super) async fn load_driver(path: &Path, memory: u64) -> Result<Driver, Failure> {
    let folder = Scratch::new()?;
    let options = EngineOptions {
        pool: Pool::even(1, memory),
        cache_dir: folder.0.clone(),
        compiler: Compiler::this_program(),
        compile: CompileLimits::default(),
    };
    let engine = Engine::new(&options).map_err(|error| Failure::host(error.to_string()))?;
    let progress = Progress::new();
    progress.begin(&format!("compiling {}", path.display()));
    let path = path.to_owned();
    let loaded = tokio::task::spawn_blocking(move || Driver::load(&engine, &path, None)).await;
    drop(progress);
    match loaded {
        Ok(loaded) => loaded.map_err(|error| match error {
            LoadError::Host { .. } => Failure::host(error.to_string()),
            _ => Failure::fault(error.to_string()),
        }),
        Err(error) => Err(Failure::host(format!(
            "loading failed: {error}; report it to Bulkhead's developers"
        ))),
    }
}

/// A folder for the compiler's cache, that nobody else may enter and that goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;

        let name = format!("bulkhead-cache-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        // Not if it is there already: somebody else's folder may hold somebody else's code.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let path = path.display();
            Failure::host(format!(
                "{path} cannot be made: {error}; point TMPDIR to a folder that this user may write to"
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say(&format!("{} stays behind: {error}", self.0.display()));
        }
    }
}
