//! Source lines for backtraces.
//!
//! wasmtime can look them up itself, but does so for each frame of each trap anew, which takes longer than to start
//! the next instance. Here each place in a driver is looked up once, in the driver's own file, and remembered; so
//! the first trap at a place costs milliseconds, and the next thousand cost nothing.
//!
//! Not here: function names. The engine has them at hand.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use wasmparser::{Parser, Payload};

use super::verify;
use crate::exit::{Exit, Frame};
use crate::text::shown;

/// The most places that are remembered of one driver.
const MAX_PLACES: usize = 4096;

/// What is known of the places in one driver.
#[derive(Default)]
pub(super) struct Symbols {
    places: Mutex<HashMap<usize, Vec<Frame>>>,
}

impl Symbols {
    /// What is known already of these offsets in the file, one list for each; `None` if one of them is new.
    pub(super) fn known(&self, offsets: &[usize]) -> Option<Vec<Vec<Frame>>> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        offsets
            .iter()
            .map(|offset| places.get(offset).cloned())
            .collect()
    }

    /// The functions and lines at these offsets, innermost first, one list for each offset: several frames
    /// where functions were inlined, none where the file does not tell. `digest` is that of the file as it was loaded.
    /// Blocks while it reads the file.
    pub(super) fn look_up(
        &self,
        path: &Path,
        digest: &[u8; 32],
        offsets: &[usize],
    ) -> Vec<Vec<Frame>> {
        let mut found = read_symbols(path, digest, offsets).unwrap_or_default();
        found.resize(offsets.len(), Vec::new());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() + offsets.len() > MAX_PLACES {
            places.clear();
        }
        places.extend(offsets.iter().copied().zip(found.iter().cloned()));
        found
    }
}

/// `None` if the file is no longer what was loaded, or carries no lines.
fn read_symbols(path: &Path, digest: &[u8; 32], offsets: &[usize]) -> Option<Vec<Vec<Frame>>> {
    let file = verify::contents(path)
        .ok()
        .filter(|file| verify::digest(file) == *digest)?;
    let modules = modules(&file);
    let contexts: Vec<_> = modules
        .iter()
        .map(|module| {
            let section = |id: addr2line::gimli::SectionId| -> Result<_, addr2line::gimli::Error> {
                Ok(EndianSlice::new(
                    module.sections.get(id.name()).copied().unwrap_or(&[]),
                    LittleEndian,
                ))
            };
            let context = Dwarf::load(section).and_then(addr2line::Context::from_dwarf);
            (module.code.clone(), context.ok())
        })
        .collect();
    let look_up = |offset: &usize| {
        let offset = *offset as u64;
        let (code, context) = contexts.iter().find(|(code, _)| code.contains(&offset))?;
        let address = offset - code.start;
        let mut found = context
            .as_ref()?
            .find_frames(address)
            .skip_all_loads()
            .ok()?;
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = found.next() {
            let name = frame
                .function
                .as_ref()
                .and_then(|function| function.raw_name().ok());
            let source = frame.location.as_ref().and_then(|location| {
                let line = location.line.unwrap_or(0);
                let (file, column) = (location.file?, location.column.unwrap_or(0));
                Some(shown(
                    &format!("{file}:{line}:{column}"),
                    Exit::MAX_NAME_BYTES,
                ))
            });
            frames.push(Frame {
                function: name.map(|name| demangle(&name)).unwrap_or_default(),
                source,
            });
        }
        Some(frames)
    };
    Some(
        offsets
            .iter()
            .map(|offset| look_up(offset).unwrap_or_default())
            .collect(),
    )
}

/// A function's name as its author wrote it.
pub(super) fn demangle(name: &str) -> String {
    shown(
        &format!("{:#}", rustc_demangle::demangle(name)),
        Exit::MAX_NAME_BYTES,
    )
}

/// One core module of a component.
#[derive(Default)]
struct Module<'a> {
    /// Where its code section stands in the file.
    code: std::ops::Range<u64>,
    sections: HashMap<&'a str, &'a [u8]>,
}

fn modules(file: &[u8]) -> Vec<Module<'_>> {
    let mut done = Vec::new();
    let mut open: Vec<Module<'_>> = Vec::new();
    for payload in Parser::new(0).parse_all(file) {
        match payload {
            Ok(Payload::Version { .. }) => open.push(Module::default()),
            Ok(Payload::CodeSectionStart {
                unchecked_range, ..
            }) => {
                if let Some(module) = open.last_mut() {
                    module.code = unchecked_range;
                }
            }
            Ok(Payload::CustomSection(section)) if section.name().starts_with(".debug_") => {
                if let Some(module) = open.last_mut() {
                    module.sections.insert(section.name(), section.data());
                }
            }
            Ok(Payload::End(_)) => done.extend(open.pop()),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    done
}
