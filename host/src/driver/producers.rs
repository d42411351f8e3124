//! What a component was made with: its languages and tools, from the `producers` sections of all that is in it.
//!
//! Tools write these sections by themselves (<https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md>). They are
//! hearsay: nothing is decided by them.

use wasmparser::{KnownCustom, Parser, Payload};

use crate::text::shown;

/// Entries of each kind that are kept.
const MOST: usize = 32;

/// The longest name or version, in bytes.
const MAX_TEXT: usize = 64;

/// What a component was made with. Each is a name, with a version where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    /// Source languages, such as `Rust`.
    pub languages: Vec<String>,
    /// Compilers and what came after them, such as `rustc 1.95.0`.
    pub tools: Vec<String>,
}

impl Producers {
    /// Reads them from a component. What cannot be read is left out.
    ///
    /// Where the component itself names a language, those of the modules in it are not its author's, but those of what runs it: an
    /// interpreter of Python is written in C.
    pub fn of(component: &[u8]) -> Self {
        let (mut own, mut inner, mut tools) = (Vec::new(), Vec::new(), Vec::new());
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
            let section = match payload {
                Payload::Version { .. } => {
                    depth += 1;
                    continue;
                }
                Payload::End(_) => {
                    depth = depth.saturating_sub(1);
                    continue;
                }
                Payload::CustomSection(section) => section,
                _ => continue,
            };
            let KnownCustom::Producers(fields) = section.as_known() else {
                continue;
            };
            for field in fields.into_iter().map_while(Result::ok) {
                let found = match field.name {
                    "language" if depth == 1 => &mut own,
                    "language" => &mut inner,
                    "processed-by" | "sdk" => &mut tools,
                    _ => continue,
                };
                for value in field.values.into_iter().map_while(Result::ok) {
                    let entry = entry(value.name, value.version);
                    if found.len() < MOST && !found.contains(&entry) {
                        found.push(entry);
                    }
                }
            }
        }
        Self {
            languages: if own.is_empty() { inner } else { own },
            tools,
        }
    }
}

fn entry(name: &str, version: &str) -> String {
    // `1.95.0 (59807616e 2026-04-14)`: the rest names a commit.
    let version = version.split(" (").next().unwrap_or_default();
    let entry = match version {
        "" => name.to_owned(),
        version => format!("{name} {version}"),
    };
    shown(&entry, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_modules_are_gathered() {
        // A section `producers` with one field of one value, by hand.
        let section = |field: &str, name: &str, version: &str| {
            let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
            let value = [vec![1], text(name), text(version)].concat();
            let body = [text("producers"), vec![1], text(field), value].concat();
            [vec![0, body.len() as u8], body].concat()
        };
        let module = |sections: &[Vec<u8>]| {
            let body = [&b"\0asm\x01\0\0\0"[..], &sections.concat()].concat();
            [vec![1, body.len() as u8], body].concat()
        };
        let rust = module(&[
            section("language", "Rust", ""),
            section("processed-by", "rustc", "1.95.0 (59807616e 2026-04-14)"),
        ]);
        let c = module(&[
            section("language", "C11", ""),
            section("other", "ignored", ""),
        ]);
        let own = section("processed-by", "wit-component", "0.2\x1b[31m");
        let component = [&b"\0asm\x0d\0\x01\0"[..], &rust, &c, &own].concat();
        let found = Producers::of(&component);
        assert_eq!(found.languages, ["Rust", "C11"]);
        assert_eq!(found.tools.len(), 2);
        assert_eq!(found.tools[0], "rustc 1.95.0");
        assert!(!found.tools[1].contains('\x1b'), "{:?}", found.tools);
        let named = [component, section("language", "Python", "")].concat();
        assert_eq!(Producers::of(&named).languages, ["Python"]);
        assert_eq!(Producers::of(b"nonsense"), Producers::default());
    }
}
