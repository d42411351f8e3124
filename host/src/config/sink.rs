//! Where samples go.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::checked::{OutboxLimits, Overflow, Rotation, Sink, SinkKind};
use super::document::Node;
use super::fault::quoted;
use super::names::{Names, called, check_name};
use super::resolve::required_path;
use super::section::{Keys, Section, listed};
use super::sink_mqtt::{MQTT_KEYS, mqtt};
use super::sink_nats::{NATS_KEYS, nats};
use super::sink_postgres::{POSTGRES_KEYS, postgres};
use crate::event::TagFilter;

/// The most sinks in one file.
const MAX_SINKS: usize = 64;
/// The most patterns of one kind in one sink.
const MAX_PATTERNS: usize = 1_000;

const KNOWN: [&str; 5] = ["stdout", "file", "mqtt", "postgres", "nats"];
const LATER: [&str; 3] = ["sparkplug", "influx", "http"];

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What every sink may have.
const COMMON: [&str; 9] = [
    "kind", "name", "queue", "channels", "groups", "tags", "batch", "linger", "outbox",
];

const FILE_KEYS: [&str; 4] = ["path", "rotate_bytes", "rotate_after", "keep"];

/// The keys of a kind: what every sink may have, and its own.
macro_rules! keys {
    ($own:expr) => {{
        const ALL: [&str; COMMON.len() + $own.len()] = joined($own);
        Keys {
            known: &ALL,
            later: &[],
        }
    }};
}

const fn joined<const OWN: usize, const ALL: usize>(
    own: [&'static str; OWN],
) -> [&'static str; ALL] {
    let mut all = [""; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < COMMON.len() {
            COMMON[at]
        } else {
            own[at - COMMON.len()]
        };
        at += 1;
    }
    all
}

pub(super) const STDOUT: Keys = keys!([""; 0]);
pub(super) const FILE: Keys = keys!(FILE_KEYS);
pub(super) const MQTT: Keys = keys!(MQTT_KEYS);
pub(super) const POSTGRES: Keys = keys!(POSTGRES_KEYS);
pub(super) const NATS: Keys = keys!(NATS_KEYS);
pub(super) const OUTBOX: Keys = Keys {
    known: &["max_bytes", "max_age", "overflow", "commit"],
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
        if let SinkKind::File { path, .. } = &kind
            && let Some(line) = paths.insert(path.clone(), section.findings().line(&section.span()))
        {
            section.fault_at(
                "path",
                format!("the sink on line {line} writes this file already; use another path"),
            );
        }
        let outbox = outbox(&section, kind.is_remote());
        sinks.push(Sink {
            name: name.to_owned(),
            queue: section.integer("queue", 1_024, 1..=65_536) as usize,
            filter: filter(&section),
            batch: section.integer("batch", 5_000, 1..=100_000),
            linger: section.duration(
                "linger",
                Duration::ZERO,
                Duration::ZERO..=Duration::from_secs(60),
            ),
            outbox,
            kind,
        });
    }
    sinks
}

fn filter(section: &Section<'_>) -> TagFilter {
    let patterns = |key, example| {
        let found = section.strings(key, example);
        if found.len() > MAX_PATTERNS {
            section.fault_at(
                key,
                format!("`{key}` has more than {MAX_PATTERNS} patterns; write fewer, with `*`"),
            );
        }
        found.into_iter().map(|(pattern, _)| pattern)
    };
    TagFilter::new(
        patterns("channels", "press-*"),
        patterns("groups", "fast"),
        patterns("tags", "press-*/temp*"),
    )
}

/// The outbox of a sink: `true`, `false` or a table. Sinks whose peer is another process have one where nothing is said.
fn outbox(section: &Section<'_>, default: bool) -> Option<OutboxLimits> {
    let none = OutboxLimits {
        bytes: 1024 * MIB,
        age: 30 * DAY,
        overflow: Overflow::DropOldest,
        commit: Duration::from_millis(5),
    };
    let is_table = section
        .get("outbox")
        .is_some_and(|node| matches!(node.get_ref(), Node::Table(_)));
    if !is_table {
        return section.boolean("outbox", default).then_some(none);
    }
    let table = section.part("outbox", &OUTBOX);
    let words = [
        ("block", Overflow::Block),
        ("drop-oldest", Overflow::DropOldest),
        ("drop-newest", Overflow::DropNewest),
    ];
    let overflow = table.choice("overflow", none.overflow, &words);
    Some(OutboxLimits {
        bytes: table.size("max_bytes", none.bytes, MIB..=1024 * 1024 * MIB),
        age: table.duration("max_age", none.age, Duration::from_secs(1)..=366 * DAY),
        overflow,
        commit: table.duration(
            "commit",
            none.commit,
            Duration::ZERO..=Duration::from_secs(1),
        ),
    })
}

impl SinkKind {
    /// Whether its peer is another process, which may be away.
    fn is_remote(&self) -> bool {
        match self {
            SinkKind::Stdout | SinkKind::File { .. } => false,
            SinkKind::Mqtt(_) | SinkKind::Postgres(_) | SinkKind::Nats(_) => true,
        }
    }
}

fn sink_kind(section: &Section<'_>, kind: &str, folder: &Path) -> Option<SinkKind> {
    match kind {
        "stdout" => {
            section.refuse_unknown_keys(&STDOUT);
            Some(SinkKind::Stdout)
        }
        "file" => {
            section.refuse_unknown_keys(&FILE);
            let path = required_path(section, "path", "samples.jsonl");
            let rotation = rotation(section);
            Some(SinkKind::File {
                path: folder.join(path?),
                rotation,
            })
        }
        "mqtt" => {
            section.refuse_unknown_keys(&MQTT);
            mqtt(section, folder).map(|sink| SinkKind::Mqtt(Box::new(sink)))
        }
        "postgres" => {
            section.refuse_unknown_keys(&POSTGRES);
            postgres(section, folder).map(|sink| SinkKind::Postgres(Box::new(sink)))
        }
        "nats" => {
            section.refuse_unknown_keys(&NATS);
            nats(section, folder).map(|sink| SinkKind::Nats(Box::new(sink)))
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

fn rotation(section: &Section<'_>) -> Rotation {
    let bytes = section.size("rotate_bytes", 64 * MIB, 4_096..=1024 * 1024 * MIB);
    let age = section.duration("rotate_after", DAY, Duration::from_secs(1)..=366 * DAY);
    Rotation {
        bytes: section.has("rotate_bytes").then_some(bytes),
        age: section.has("rotate_after").then_some(age),
        keep: section.integer("keep", 10, 1..=10_000) as usize,
    }
}
