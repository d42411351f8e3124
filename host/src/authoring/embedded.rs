//! What this program carries for projects: the SDKs, the WIT, and the drivers that projects begin with.
//!
//! Each file is listed by hand, since a crate that embeds whole folders does not notice a file that is new; a test compares the lists
//! with the folders.

/// A file of this repository.
#[derive(Debug)]
pub(super) struct File {
    /// Within its folder.
    pub(super) path: &'static str,
    /// What stands in it.
    pub(super) text: &'static str,
}

macro_rules! files {
    ($folder:literal: $($path:literal,)*) => {
        &[$(File {
            path: $path,
            text: include_str!(concat!("../../../", $folder, "/", $path)),
        }),*]
    };
}

/// The Rust SDK, its manifest apart.
pub(super) const RUST_SDK: &[File] = files![
    "guest-sdk/src":
    "abi.rs",
    "browse.rs",
    "combine.rs",
    "config.rs",
    "context.rs",
    "data_type.rs",
    "driver.rs",
    "error.rs",
    "executor.rs",
    "lib.rs",
    "link/connection.rs",
    "link/mod.rs",
    "link/stream.rs",
    "link/table.rs",
    "lock.rs",
    "notice.rs",
    "random.rs",
    "runtime.rs",
    "shared.rs",
    "testing/host.rs",
    "testing/ledger.rs",
    "testing/mod.rs",
    "testing/setup.rs",
    "testing/world.rs",
    "time.rs",
    "wakers.rs",
];

/// The Python SDK.
pub(super) const PYTHON_SDK: &[File] = files![
    "guest-sdk/python/bulkhead_sdk":
    "__init__.py",
    "_ledger.py",
    "abi.py",
    "component.py",
    "config.py",
    "connections.py",
    "context.py",
    "driver.py",
    "errors.py",
    "executor.py",
    "link.py",
    "lock.py",
    "runtime.py",
    "settings.py",
    "shared.py",
    "testing.py",
    "values.py",
];

/// The types of the WIT in Python.
pub(super) const PYTHON_TYPES: &[File] = files![
    "guest-sdk/python/wit_world":
    "__init__.py",
    "imports/__init__.py",
    "imports/actions.py",
    "imports/config.py",
    "imports/events.py",
    "imports/log.py",
    "imports/types.py",
];

/// The WIT.
pub(super) const WIT: &[File] = files![
    "wit":
    "actions.wit",
    "config.wit",
    "driver.wit",
    "events.wit",
    "log.wit",
    "types.wit",
    "world.wit",
];

/// The driver that a project in Rust begins with.
pub(super) const RUST_DRIVER: &[File] = files![
    "channels/line":
    "src/driver.rs",
    "src/lib.rs",
    "src/point.rs",
    "src/protocol.rs",
    "tests/driver.rs",
];

/// The driver that a project in Python begins with.
pub(super) const PYTHON_DRIVER: &[File] = files![
    "channels/line-python":
    "line/__init__.py",
    "line/driver.py",
    "line/point.py",
    "line/protocol.py",
    "tests/test_driver.py",
];

/// What both of them are held to.
pub(super) const SCRIPT: &str = include_str!("../../../channels/line/conformance/line.script");

/// The manifest of the Rust SDK.
pub(super) const RUST_SDK_MANIFEST: &str = include_str!("../../../guest-sdk/Cargo.toml");

/// The manifest of this repository: the versions of libraries stand in it.
pub(super) const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// Exactly which libraries this repository is built and tested with.
pub(super) const LOCK: &str = include_str!("../../../Cargo.lock");

/// What generated modules of Python import.
pub(super) const PYTHON_GENERATED: &str =
    include_str!("../../../guest-sdk/python/componentize_py_types.py");

/// The tools that build and test a driver in Python, with their versions.
pub(super) const PYTHON_REQUIREMENTS: &str =
    include_str!("../../../guest-sdk/python/requirements.txt");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(folder: &Path, root: &Path, ending: &str, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, root, ending, found);
            } else if path.extension().is_some_and(|one| one == ending) {
                found.insert(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (folder, ending, files) in [
            ("guest-sdk/src", "rs", RUST_SDK),
            ("guest-sdk/python/bulkhead_sdk", "py", PYTHON_SDK),
            ("guest-sdk/python/wit_world", "py", PYTHON_TYPES),
            ("wit", "wit", WIT),
            ("channels/line", "rs", RUST_DRIVER),
            ("channels/line-python", "py", PYTHON_DRIVER),
        ] {
            let mut there = BTreeSet::new();
            let folder = root.join(folder);
            below(&folder, &folder, ending, &mut there);
            let listed: BTreeSet<PathBuf> =
                files.iter().map(|file| PathBuf::from(file.path)).collect();
            assert_eq!(there, listed, "{}", folder.display());
        }
    }
}
