//! `bulkhead:channel@0.1.0` does not change any more, and what was built for it goes on running.
//!
//! The driver in `tests/fixtures/abi-0.1.0` was built when the ABI was frozen, and is never built again; its script is of that day too.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bulkhead_tests::{Bulkhead, Folder, LineDevice, paths, run};
use sha2::{Digest as _, Sha256};

/// Of all that the files of `wit/` say to a machine: comments may be made better.
const DIGEST: &str = "4fadadb5ef993858b1a7dab8f1c455417a8dfa96f08e147cb120b68a97776e7a";

fn fixture() -> PathBuf {
    paths::root().join("tests/fixtures/abi-0.1.0")
}

/// The words of a WIT file, without comments, with one blank between them.
fn words(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)?;
    ensure!(
        !text.contains("/*"),
        "{}: write comments by lines, so that this test knows them",
        file.display()
    );
    let code = text.lines().map(|line| line.split("//").next());
    let words: Vec<&str> = code.flatten().flat_map(str::split_whitespace).collect();
    Ok(words.join(" "))
}

#[test]
fn the_abi_is_as_it_was_frozen() -> Result<()> {
    let files = std::fs::read_dir(paths::root().join("wit"))?;
    let mut files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    let mut digest = Sha256::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        digest.update(name.as_encoded_bytes());
        digest.update(words(file)?);
    }
    let found: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ensure!(
        found == DIGEST,
        "wit/ is another ABI than 0.1.0 (its digest is {found}): drivers that were built for that would not run. What is new goes into \
         another version beside it; docs/TURNS.md says how"
    );
    Ok(())
}

#[test]
fn a_driver_of_the_frozen_abi_conforms() -> Result<()> {
    let folder = fixture().display().to_string();
    let driver = fixture().join("line.wasm").display().to_string();
    let ended = run(&["conform", &driver, "--scripts", &folder])?;
    let said = ended.out.join("\n");
    ensure!(
        ended.code() == Some(0) && said.contains(" 0 failed"),
        "{said}"
    );
    ensure!(said.contains("script/line/writes-and-reads-back"), "{said}");
    Ok(())
}

#[test]
fn a_driver_of_the_frozen_abi_runs() -> Result<()> {
    let device = LineDevice::start(&[("temp", "21.5"), ("limit", "30")])?;
    let folder = Folder::new()?;
    std::fs::copy(fixture().join("line.wasm"), folder.path().join("line.wasm"))?;
    let address = device.address;
    let host = Bulkhead::start_in(
        folder,
        &format!(
            r#"
            [[channel]]
            id = "sensor"
            driver = "$DIR/line.wasm"
            links.line = {{ connect = "tcp://{address}" }}
            [[channel.group]]
            name = "all"
            period = "50ms"
            tags = [
                {{ name = "temp", address = "temp", type = "float64" }},
                {{ name = "limit", address = "limit", type = "float64", access = "rw" }},
            ]
            "#
        ),
        &[],
    )?;
    let written = host.client(&["tag", "write", "sensor/limit", "42.5", "--read-back"])?;
    ensure!(written.code() == Some(0), "{written:?}");
    for (tag, value) in [("temp", 21.5), ("limit", 42.5)] {
        host.get_until(&format!("/api/v1/tags/sensor/{tag}"), |tag| {
            (tag["value"] == value && tag["quality"] == "good").then_some(())
        })?;
    }
    ensure!(host.stop()?.code() == Some(0), "it ended badly");
    Ok(())
}
