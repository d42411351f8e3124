//! Where things are.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the repository")
}

/// Where everything lands that outlives a command: `target/drivers`, `target/venv`, `target/peers`.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where cargo puts what it builds: `target`, unless the caller moved it.
pub(crate) fn cargo_target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(target, |dir| root().join(dir))
}

/// The cargo that called us, in the root of the repository.
///
/// It does not hear which package we are, since build scripts ask for that by name: it would compile `ring` anew, and the host
/// with it, after somebody typed `cargo build`.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let ours = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if ours("CARGO_PKG_") || ours("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// A crate of this repository.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) name: String,
}

/// The crates whose folders lie directly in `folder`, sorted; none where the folder does not exist.
pub(crate) fn packages(folder: &str) -> Result<Vec<Package>> {
    let path = root().join(folder);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut packages = Vec::new();
    for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
        let manifest = entry?.path().join("Cargo.toml");
        if manifest.is_file() {
            let text = fs::read_to_string(&manifest)
                .with_context(|| format!("cannot read {}", manifest.display()))?;
            let name = package_name(&text)
                .with_context(|| format!("{} names no package", manifest.display()))?;
            packages.push(Package {
                name: name.to_owned(),
            });
        }
    }
    packages.sort();
    Ok(packages)
}

/// The name in `[package]`. A TOML parser would cost more build time than this one line is worth.
fn package_name(manifest: &str) -> Option<&str> {
    let package = manifest
        .lines()
        .skip_while(|line| line.trim() != "[package]")
        .skip(1);
    package
        .take_while(|line| !line.trim_start().starts_with('['))
        .find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == "name").then(|| value.trim().trim_matches('"'))
        })
}

/// Copies `from` to `to` only where the bytes differ, so that nobody recompiles what has not changed. The new file
/// appears whole or not at all. Returns whether it was copied.
pub(crate) fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let folder = to.parent().expect("a file has a folder");
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let new = to.with_extension("new");
    fs::write(&new, &bytes).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, to).with_context(|| format!("cannot replace {}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_package_is_read_from_its_table() {
        for (manifest, name) in [
            ("[package]\nname = \"modbus\"\n", Some("modbus")),
            (
                "[lib]\nname = \"other\"\n\n[package]\nversion = \"1\"\n  name=\"b\"\n",
                Some("b"),
            ),
            (
                "[package]\nversion = \"1\"\n[lib]\nname = \"other\"\n",
                None,
            ),
            ("[workspace]\n", None),
        ] {
            assert_eq!(package_name(manifest), name, "{manifest:?}");
        }
    }

    #[test]
    fn drivers_of_this_repository_are_found() {
        let names: Vec<String> = packages("channels")
            .unwrap()
            .into_iter()
            .map(|package| package.name)
            .collect();
        assert!(
            names.contains(&"modbus".to_owned()) && names.is_sorted(),
            "{names:?}"
        );
        assert_eq!(packages("no-such-folder").unwrap(), []);
    }

    #[test]
    fn files_are_copied_only_where_they_differ() {
        let folder = target().join("xtask-test");
        let (from, to) = (folder.join("from"), folder.join("deep/to.wasm"));
        fs::create_dir_all(&folder).unwrap();
        let round = |content: &str| {
            fs::write(&from, content).unwrap();
            let copied = copy_if_changed(&from, &to).unwrap();
            (copied, fs::read_to_string(&to).unwrap())
        };
        assert_eq!(round("one").1, "one");
        assert_eq!(round("one"), (false, "one".to_owned()));
        assert_eq!(round("two"), (true, "two".to_owned()));
        fs::remove_dir_all(&folder).unwrap();
        assert!(copy_if_changed(&from, &to).is_err());
    }
}
