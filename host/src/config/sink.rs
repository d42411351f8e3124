//! Where samples go.

use std::collections::HashMap;
use std::path::Path;

use super::checked::{Sink, SinkKind};
use super::fault::quoted;
use super::names::{Names, called, check_name};
use super::resolve::required_path;
use super::section::{Keys, Section, listed};

/// The most sinks in one file.
const MAX_SINKS: usize = 64;

const KNOWN: [&str; 2] = ["stdout", "file"];
const LATER: [&str; 5] = ["mqtt", "sparkplug", "nats", "http", "postgres"];

pub(super) const STDOUT: Keys = Keys {
    known: &["kind", "name", "queue"],
    later: &[],
};
pub(super) const FILE: Keys = Keys {
    known: &["kind", "name", "queue", "path"],
    later: &[],
};

/// Reads the sinks of a file.
pub(super) fn sinks(root: &Section<'_>, folder: &Path) -> Vec<Sink> {
    let mut names = Names::new("sink");
    let mut paths = HashMap::new();
    let mut sinks = Vec::new();
    for (index, section) in root.tables("sink").into_iter().enumerate() {
        if index == MAX_SINKS {
            section.fault(format!("more than {MAX_SINKS} sinks; remove some"));
            break;
        }
        let key = if section.has("name") { "name" } else { "kind" };
        let at = called("sink", &section, key, index);
        let section = section.named(at);
        let Some(kind) = section.required("kind", "stdout") else {
            continue;
        };
        let name = section.string("name", "archive").unwrap_or(kind);
        if section.has("name") {
            check_name(&section, name);
        }
        let Some(kind) = sink_kind(&section, kind, folder) else {
            continue;
        };
        names.claim(&section, key, name);
        if let SinkKind::File { path } = &kind
            && let Some(line) = paths.insert(path.clone(), section.findings().line(&section.span()))
        {
            section.fault_at(
                "path",
                format!("the sink on line {line} writes this file already; use another path"),
            );
        }
        sinks.push(Sink {
            name: name.to_owned(),
            kind,
            queue: section.integer("queue", 1_024, 1..=65_536) as usize,
        });
    }
    sinks
}

fn sink_kind(section: &Section<'_>, kind: &str, folder: &Path) -> Option<SinkKind> {
    match kind {
        "stdout" => {
            section.refuse_unknown_keys(&STDOUT);
            Some(SinkKind::Stdout)
        }
        "file" => {
            section.refuse_unknown_keys(&FILE);
            Some(SinkKind::File {
                path: folder.join(required_path(section, "path", "samples.jsonl")?),
            })
        }
        later if LATER.contains(&later) => {
            let known = listed(&KNOWN);
            section.fault_at(
                "kind",
                format!("the kind `{later}` is not supported yet by this version; use {known}"),
            );
            None
        }
        unknown => {
            let message = format!(
                "there is no kind of sink {}; use {}",
                quoted(unknown),
                listed(&KNOWN)
            );
            section.fault_at("kind", message);
            None
        }
    }
}
