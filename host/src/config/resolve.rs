//! From the tree to a [`Host`]: what stands at the top of the file.

use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeTable;

use super::checked::{Channel, CompileLimits, Host, Http, Rate};
use super::document::Findings;
use super::fault::quoted;
use super::names::{Names, called};
use super::section::{Keys, Section};
use super::tag::Tags;
use super::tags_files::TagsFiles;
use super::{Origin, channel, recorder, sink};

/// The most channels in one file.
pub(super) const MAX_CHANNELS: usize = 10_000;
/// The most tags of one host.
pub(super) const MAX_TAGS: usize = 100_000;

pub(super) const ROOT: Keys = Keys {
    known: &["host", "http", "channel", "sink"],
    later: &[],
};
pub(super) const HOST: Keys = Keys {
    known: &[
        "data_dir",
        "compile",
        "restarts_per_second",
        "restart_burst",
        "dials_per_second",
        "dial_burst",
        "recorder",
    ],
    later: &[],
};
pub(super) const COMPILE: Keys = Keys {
    known: &["memory", "processor_time", "time"],
    later: &[],
};
pub(super) const HTTP: Keys = Keys {
    known: &["listen"],
    later: &[
        ("tls", "remove it and listen on a loopback address"),
        ("tokens", "remove it and listen on a loopback address"),
    ],
};

/// Reads a whole file. What is wrong is in the findings afterwards, and if there is anything, the result is void.
pub(super) fn host<'r>(
    tree: &'r DeTable<'r>,
    origin: &Origin,
    findings: &'r Findings<'r>,
    files: &'r TagsFiles<'r>,
) -> Host {
    let root = Section::new(tree, 0..0, "", findings);
    root.refuse_unknown_keys(&ROOT);
    let section = root.part("host", &HOST);
    let data_dir = path(&section, "data_dir", "data").unwrap_or("data");
    Host {
        data_dir: origin.folder.join(data_dir),
        restarts: Rate {
            per_second: section.integer("restarts_per_second", 100, 1..=10_000) as u32,
            burst: section.integer("restart_burst", 200, 1..=10_000) as u32,
        },
        dials: Rate {
            per_second: section.integer("dials_per_second", 200, 1..=10_000) as u32,
            burst: section.integer("dial_burst", 50, 1..=10_000) as u32,
        },
        compile: compile(&section),
        recorder: recorder::host_recorder(&section),
        http: http(&root),
        channels: channels(&root, &origin.folder, files),
        sinks: sink::sinks(&root, &origin.folder),
    }
}

fn compile(host: &Section<'_>) -> CompileLimits {
    use crate::limits::{COMPILE_MEMORY, COMPILE_PROCESSOR_TIME, COMPILE_TIME};

    let section = host.part("compile", &COMPILE);
    let (memory, processor, time) = (COMPILE_MEMORY, COMPILE_PROCESSOR_TIME, COMPILE_TIME);
    CompileLimits {
        memory: section.size("memory", memory.default, memory.range()),
        processor_time: section.duration("processor_time", processor.default, processor.range()),
        time: section.duration("time", time.default, time.range()),
    }
}

fn http(root: &Section<'_>) -> Option<Http> {
    const DEFAULT: &str = "127.0.0.1:7070";
    let section = root.part("http", &HTTP);
    let listen = section.string("listen", DEFAULT).unwrap_or(DEFAULT);
    if listen == "off" {
        return None;
    }
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(Http { listen: address }),
        Ok(_) => {
            section.fault_at(
                "listen",
                format!(
                    "{} can be reached from other machines, and this version has neither TLS nor tokens; \
                     use a loopback address such as \"127.0.0.1:7070\" and a tunnel",
                    quoted(listen)
                ),
            );
            None
        }
        Err(_) => {
            section.fault_at(
                "listen",
                format!(
                    "{} is no address with a port; use one such as \"127.0.0.1:7070\", or \"off\"",
                    quoted(listen)
                ),
            );
            None
        }
    }
}

fn channels<'r>(root: &Section<'r>, folder: &Path, files: &'r TagsFiles<'r>) -> Vec<Channel> {
    let sections = root.tables("channel");
    if !root.has("channel") || root.is_empty_list("channel") {
        root.fault(
            "there is no channel, so nothing would run; add one that begins with `[[channel]]`",
        );
    }
    if let Some(section) = sections.get(MAX_CHANNELS) {
        section.fault(format!(
            "more than {MAX_CHANNELS} channels; move the rest to another host, with a file of its own"
        ));
        return Vec::new();
    }
    let mut ids = Names::new("channel");
    let mut reading = Tags {
        files,
        left: MAX_TAGS,
    };
    let mut channels = Vec::with_capacity(sections.len());
    for (index, section) in sections.into_iter().enumerate() {
        let at = called("channel", &section, "id", index);
        channels.push(channel::channel(
            &section.named(at),
            folder,
            &mut ids,
            &mut reading,
        ));
    }
    channels
}

/// Reads a path that is not empty and must be there.
pub(super) fn required_path<'r>(
    section: &Section<'r>,
    key: &str,
    example: &str,
) -> Option<&'r str> {
    check_path(section, key, section.required(key, example)?, example)
}

/// Reads a path that is not empty.
pub(super) fn path<'r>(section: &Section<'r>, key: &str, example: &str) -> Option<&'r str> {
    check_path(section, key, section.string(key, example)?, example)
}

fn check_path<'r>(
    section: &Section<'r>,
    key: &str,
    path: &'r str,
    example: &str,
) -> Option<&'r str> {
    if path.is_empty() || path.contains('\0') {
        section.fault_at(
            key,
            format!("`{key}` is no path; write one such as \"{example}\""),
        );
        return None;
    }
    Some(path)
}
