//! Drivers in Python: components in `target/drivers/<name>.wasm`, made by componentize-py in `target/venv`.
//!
//! A folder of `channels/` with a `pyproject.toml` and no `Cargo.toml` is one. Its module is named in that file:
//!
//! ```toml
//! [tool.bulkhead]
//! module = "line"
//! ```
//!
//! A component takes 20 s to make, so it is made only where one of the files that go into it has changed since.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::{peers, process, workspace};

/// The SDK, and what stands in it.
const SDK: &str = "guest-sdk/python";

/// Under which name a driver's module offers its component.
const EXPORT: &str = "bulkhead:channel/driver@0.1.0=component";

/// Builds all that have changed, and brings the SDK's copy of the WIT's types up to date.
pub(crate) fn build() -> Result<()> {
    let projects = projects()?;
    if projects.is_empty() {
        return Ok(());
    }
    let python = peers::virtual_environment()?;
    let componentize = python.with_file_name("componentize-py");
    bindings(&componentize)?;
    let mut made = 0;
    for project in &projects {
        made += usize::from(component(&componentize, project)?);
    }
    process::note(&format!(
        "{} drivers in Python in target/drivers, {made} of them new",
        projects.len()
    ));
    Ok(())
}

/// A driver in Python.
struct Project {
    /// Of its folder.
    name: String,
    folder: PathBuf,
    module: String,
}

fn projects() -> Result<Vec<Project>> {
    let channels = workspace::root().join("channels");
    let mut projects = Vec::new();
    for entry in fs::read_dir(&channels).context("cannot list channels")? {
        let folder = entry?.path();
        let manifest = folder.join("pyproject.toml");
        let (Some(name), true) = (folder.file_name(), manifest.is_file()) else {
            continue;
        };
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let module = module(&text).with_context(|| {
            format!(
                "{} names no module; write `module = \"NAME\"` under [tool.bulkhead]",
                manifest.display()
            )
        })?;
        projects.push(Project {
            name: name.to_string_lossy().into_owned(),
            module: module.to_owned(),
            folder,
        });
    }
    projects.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(projects)
}

/// The module in `[tool.bulkhead]`. A TOML parser would cost more build time than this one line is worth.
fn module(manifest: &str) -> Option<&str> {
    let table = manifest
        .lines()
        .skip_while(|line| line.trim() != "[tool.bulkhead]")
        .skip(1);
    table
        .take_while(|line| !line.trim_start().starts_with('['))
        .find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == "module").then(|| value.trim().trim_matches('"'))
        })
}

/// Generates the types of `wit/` again, so that they never lag behind: the SDK keeps a copy, for tests without a component.
fn bindings(componentize: &Path) -> Result<()> {
    let folder = workspace::target().join("python-bindings");
    let sdk = workspace::root().join(SDK);
    let from = newest(&workspace::root().join("wit"))?;
    if newest(&sdk.join("wit_world"))? > from {
        return Ok(());
    }
    fs::remove_dir_all(&folder).ok();
    let mut generate = Command::new(componentize);
    generate
        .current_dir(workspace::root())
        .args(["--quiet", "--wit-path", "wit", "--world", "channel"])
        .arg("bindings")
        .arg(&folder);
    process::run(&mut generate)?;
    let mut changed = 0;
    let imports = folder.join("wit_world/imports");
    for entry in fs::read_dir(&imports).context("componentize-py has generated nothing")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let to = sdk.join("wit_world/imports").join(entry.file_name());
            changed += usize::from(workspace::copy_if_changed(&entry.path(), &to)?);
        }
    }
    let types = "componentize_py_types.py";
    changed += usize::from(workspace::copy_if_changed(
        &folder.join(types),
        &sdk.join(types),
    )?);
    if changed > 0 {
        process::note(&format!(
            "{changed} files of {SDK}/wit_world follow wit/ now; commit them with it"
        ));
    }
    Ok(())
}

/// Makes one component. Returns whether it had to.
fn component(componentize: &Path, project: &Project) -> Result<bool> {
    let root = workspace::root();
    let to = workspace::target()
        .join("drivers")
        .join(&project.name)
        .with_extension("wasm");
    let sources = [
        newest(&project.folder.join(&project.module))?,
        newest(&root.join(SDK))?,
        newest(&root.join("wit"))?,
        newest(&root.join("componentize/src"))?,
    ];
    let made = fs::metadata(&to).and_then(|file| file.modified()).ok();
    if made.is_some_and(|made| sources.iter().all(|source| *source < made)) {
        return Ok(false);
    }
    let folder = to.parent().expect("a file has a folder");
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let new = to.with_extension("new");
    let mut make = Command::new(componentize);
    make.current_dir(root)
        .args(["--quiet", "--wit-path", "wit", "--world", "channel"])
        .args(["--export-interface-name", EXPORT])
        .args(["componentize", &project.module, "--python-path"])
        .arg(&project.folder)
        .args(["--python-path", SDK, "--output"])
        .arg(&new);
    process::run(&mut make)?;
    let component = fs::read(&new).with_context(|| format!("cannot read {}", new.display()))?;
    let component = bulkhead_componentize::finish(&component, &version(root)?)?;
    fs::write(&new, component).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, &to).with_context(|| format!("cannot replace {}", to.display()))?;
    Ok(true)
}

/// The version of componentize-py, as its requirements pin it.
fn version(root: &Path) -> Result<String> {
    let requirements = fs::read_to_string(root.join(SDK).join("requirements.txt"))?;
    let version = requirements
        .lines()
        .find_map(|line| line.strip_prefix("componentize-py=="));
    Ok(version
        .context("requirements.txt pins componentize-py")?
        .to_owned())
}

/// When the newest file of a folder changed; what Python caches is none.
fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            newest = newest.max(metadata.modified()?);
        } else if metadata.is_dir() && entry.file_name() != "__pycache__" {
            newest = newest.max(self::newest(&entry.path())?);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_read_from_its_table() {
        for (manifest, found) in [
            ("[tool.bulkhead]\nmodule = \"line\"\n", Some("line")),
            ("[project]\nmodule = \"x\"\n\n[tool.bulkhead]\n", None),
            ("[tool.bulkhead]\n[other]\nmodule = \"x\"\n", None),
            ("", None),
        ] {
            assert_eq!(module(manifest), found, "{manifest:?}");
        }
    }

    #[test]
    fn drivers_in_python_are_found() {
        let names: Vec<String> = projects()
            .unwrap()
            .into_iter()
            .map(|project| project.name)
            .collect();
        assert!(names.contains(&"line-python".to_owned()), "{names:?}");
        assert!(!names.contains(&"line".to_owned()), "{names:?}");
    }
}
