//! `bulkhead check`: every fault of a configuration, without running anything.

use std::cell::RefCell;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Check;
use super::failure::{FAULT, Failure};
use super::output::{Output, say};
use super::progress::Progress;
use crate::config::{self, Checked, Faults, Origin, TagsFile};
use crate::engine::Compiler;
use crate::supervisor;

/// The stack of the thread that reads a configuration, in bytes: as much as a program's first thread commonly has.
const STACK: usize = 8 << 20;

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
    tell(arguments.json, &faults)
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

/// Says what is wrong with a configuration.
pub(super) fn tell(json: bool, faults: &Faults) -> Result<(), Failure> {
    if json {
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

/// Reads and checks a configuration with its files of tags, drivers apart.
///
/// In a thread of its own, out of which the tags are copied: whatever it has allocated besides goes back to the system as a whole.
pub(super) fn read(path: &Path) -> Result<Checked<config::Host>, Failure> {
    let reading = || {
        let (text, origin) = text(path)?;
        config::parse_with_files(&text, &origin, &tags_file).map_err(Failure::Config)
    };
    let read = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, reading);
        thread.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let refused = |error| {
        Failure::host(format!(
            "no thread can be started to read {} in: {error}; raise the limit of tasks or of memory",
            path.display()
        ))
    };
    let Checked { value, locations } = read.map_err(refused)??;
    Ok(Checked {
        value: value.gathered(),
        locations,
    })
}

/// The files that a configuration is made of: itself, then the files of tags that it names, as far as it can be read.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    let files = RefCell::new(vec![path.to_owned()]);
    if let Ok((text, origin)) = text(path) {
        // Its faults are told by whoever reads it for its content.
        drop(config::parse_with_files(&text, &origin, &|path| {
            files.borrow_mut().push(path.to_owned());
            tags_file(path)
        }));
    }
    files.into_inner()
}

/// The text of a configuration, and where it comes from.
pub(super) fn text(path: &Path) -> Result<(String, Origin), Failure> {
    let name = path.display();
    let bytes = bytes(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "let this user read it",
            io::ErrorKind::IsADirectory => {
                return Failure::fault(format!("{name} is a folder; give a TOML file"));
            }
            _ => "give a TOML file",
        };
        Failure::fault(format!("{name} cannot be read: {error}; {remedy}"))
    })?;
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
    let name = name.to_string();
    Ok((text, Origin { name, folder }))
}

/// Reads a file of tags.
pub(super) fn tags_file(path: &Path) -> io::Result<TagsFile> {
    // A pipe would be waited for, and what it said would be gone the next time.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(TagsFile {
        name: path.strip_prefix(".").unwrap_or(path).display().to_string(),
        bytes: bytes(path)?,
    })
}

/// What a file holds, up to one byte more than may be, so that it is seen to be too much.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    if path.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    io::Read::read_to_end(
        &mut io::Read::take(file, config::MAX_BYTES as u64 + 1),
        &mut bytes,
    )?;
    Ok(bytes)
}
