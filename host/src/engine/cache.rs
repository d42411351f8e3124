//! The folder with compiled code: wasmtime's own cache, filled by the compile child alone.
//!
//! ```text
//! data_dir/cache/compiled/     what wasmtime reads and keeps tidy
//! data_dir/cache/compiling/N/  the cache of one child, until it is done
//! ```
//!
//! wasmtime files compiled code under a hash of the component and of the engine. An engine without a compiler has
//! another hash than the one that compiled, so the child moves its result from its own name to the one under which
//! the host will look ([`name`]). A child that dies leaves nothing in `compiled`.
//!
//! What can go wrong: another version of wasmtime hashes otherwise. Then the host does not find what was compiled, and
//! says so; the tests of `compiler` notice first.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use wasmtime::{Cache, CacheConfig};

use super::EngineError;

/// Where wasmtime's cache lies in the cache folder.
const COMPILED: &str = "compiled";
/// Where children work.
const COMPILING: &str = "compiling";
/// Compiled code that nobody used for long is deleted from this size on, in bytes.
const SOFT_LIMIT: u64 = 1 << 30;

/// Opens the cache in this folder, making both where they are missing.
pub(super) fn open(folder: &Path) -> Result<Cache, EngineError> {
    private_folder(folder)?;
    clear(&folder.join(COMPILING));
    open_at(&folder.join(COMPILED))
}

/// Opens a cache right here.
pub(super) fn open_at(path: &Path) -> Result<Cache, EngineError> {
    let path = private_folder(path)?;
    let mut config = CacheConfig::new();
    config
        .with_directory(path.clone())
        .with_files_total_size_soft_limit(SOFT_LIMIT);
    Cache::new(config).map_err(|error| EngineError::Cache {
        path,
        reason: format!("{error:#}"),
    })
}

/// A folder of its own for one child. The name begins with the number of this process, see [`clear`].
pub(super) fn workshop(folder: &Path) -> Result<Workshop, EngineError> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder
        .join(COMPILING)
        .join(format!("{}-{number}", std::process::id()));
    private_folder(&path).map(Workshop)
}

/// The folder of one child; removed when it is dropped.
pub(super) struct Workshop(PathBuf);

impl Workshop {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "a child's folder stays until the next start");
        }
    }
}

/// Removes what children of processes that have gone left behind.
fn clear(compiling: &Path) {
    let Ok(entries) = std::fs::read_dir(compiling) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        let lives = owner.is_some_and(|owner| Path::new("/proc").join(owner).exists());
        if !lives && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "a folder of an earlier child cannot be removed");
        }
    }
}

/// Moves what a child compiled in its own cache into the folder's, under the name under which an engine without a
/// compiler looks for it.
pub(super) fn hand_over(workshop: &Path, folder: &Path, name: &str) -> std::io::Result<()> {
    // wasmtime keeps code of each of its versions apart: `modules/wasmtime-48.0.8/HASH`.
    for version in std::fs::read_dir(workshop.join("modules"))? {
        let version = version?;
        for file in std::fs::read_dir(version.path())? {
            let file = file?;
            if file.path().extension().is_some() {
                continue; // its statistics
            }
            let to = folder
                .join(COMPILED)
                .join("modules")
                .join(version.file_name());
            std::fs::create_dir_all(&to)?;
            return std::fs::rename(file.path(), to.join(name));
        }
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::NotFound,
        "wasmtime has written nothing",
    ))
}

/// The name under which wasmtime's cache files a component for this engine.
pub(super) fn name(engine: &wasmtime::Engine, component: &[u8]) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0 // never asked: the digest is taken instead
        }
    }
    // As `wasmtime::CodeBuilder` does it: the engine, the component, no debugging package, no intrinsics.
    let state = (
        engine.precompile_compatibility_hash(),
        component,
        None::<&[u8]>,
        None::<&str>,
    );
    let mut sha = Sha(Sha256::new());
    state.hash(&mut sha);
    URL_SAFE_NO_PAD.encode(sha.0.finalize())
}

/// Makes a folder that nobody else may enter.
fn private_folder(path: &Path) -> Result<PathBuf, EngineError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    let fault = |error: std::io::Error| EngineError::Cache {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fault)?;
    // It may have been there before, open to others: whoever may write there may run code in this process.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fault)?;
    path.canonicalize().map_err(fault)
}
