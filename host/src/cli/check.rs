//! `bulkhead check`: every fault of a configuration, without running anything.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Check;
use super::failure::{FAULT, Failure};
use super::output::{Output, say};
use super::progress::Progress;
use crate::config::{self, Checked, Faults, Origin};
use crate::engine::Compiler;
use crate::supervisor;

/// The largest configuration, in bytes. The parser knows the same bound.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    file: &'a str,
    channels: usize,
    tags: usize,
    faults: &'a [config::Fault],
    more: usize,
}

pub(super) async fn check(arguments: Check) -> Result<(), Failure> {
    let file = arguments.config.display().to_string();
    let faults = match read(&arguments.config) {
        Ok(config) => {
            let progress = Progress::new();
            let found = supervisor::preflight(&config, Compiler::this_program(), &|now| {
                progress.report(now);
            })
            .await;
            let found = found.map_err(|error| Failure::host(error.to_string()))?;
            drop(progress);
            let (channels, tags) = count(&config.value);
            if found.is_none() {
                return fine(&arguments, &file, channels, tags);
            }
            found
        }
        Err(Failure::Config(faults)) => Some(faults),
        Err(other) => return Err(other),
    };
    let Some(faults) = faults else { return Ok(()) };
    tell(&arguments, &faults)
}

fn fine(arguments: &Check, file: &str, channels: usize, tags: usize) -> Result<(), Failure> {
    let mut out = Output::new();
    if arguments.json {
        out.json(&Report {
            ok: true,
            file,
            channels,
            tags,
            faults: &[],
            more: 0,
        })?;
    } else {
        out.line(&format!("{file}: fine; {channels} channels, {tags} tags"))?;
    }
    Ok(())
}

fn tell(arguments: &Check, faults: &Faults) -> Result<(), Failure> {
    if arguments.json {
        let Faults { file, faults, more } = faults;
        Output::new().json(&Report {
            ok: false,
            file,
            channels: 0,
            tags: 0,
            faults,
            more: *more,
        })?;
    } else {
        say(&faults.to_string());
        let count = faults.faults.len() + faults.more;
        say(&format!(
            "{count} {}",
            if count == 1 { "fault" } else { "faults" }
        ));
    }
    Err(Failure::Said(FAULT))
}

fn count(host: &config::Host) -> (usize, usize) {
    (
        host.channels.len(),
        host.channels.iter().map(|channel| channel.tags.len()).sum(),
    )
}

/// Reads and checks a file, drivers apart.
pub(super) fn read(path: &Path) -> Result<Checked<config::Host>, Failure> {
    let name = path.display();
    let fault = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "let this user read it",
            _ => "give a TOML file",
        };
        Failure::fault(format!("{name} cannot be read: {error}; {remedy}"))
    };
    let metadata = path.metadata().map_err(fault)?;
    if metadata.is_dir() {
        return Err(Failure::fault(format!(
            "{name} is a folder; give a TOML file"
        )));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    // One byte more than may be, so that the parser sees that it is too much.
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut bytes)
        .map_err(fault)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::fault(format!(
            "{name} is no text in UTF-8 (byte {at}); save it as UTF-8"
        ))
    })?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    config::parse(
        &text,
        &Origin {
            name: name.to_string(),
            folder,
        },
    )
    .map_err(Failure::Config)
}
