//! From a snapshot to text, a piece at a time: a metric of so many channels each.
//!
//! All rows of a metric stand together behind one `HELP` and one `TYPE` (text format 0.0.4, "Comments, help text, and type
//! information"), so the order is metric by metric, and only the first piece of each begins with the two lines.

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::family::{Family, families};
use super::snapshot::Snapshot;

/// Channels or sinks in one piece: about 64 KiB of the longest metric, with one group each.
const SOURCES: usize = 32;

/// The text of a snapshot, in pieces that follow each other.
#[derive(Debug)]
pub struct Pieces {
    snapshot: Snapshot,
    /// Metrics that are done.
    done: usize,
    /// Channels or sinks of the next one that are done.
    sources: usize,
    /// Whether its two lines are written.
    begun: bool,
}

impl Pieces {
    /// From the beginning.
    pub fn of(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            done: 0,
            sources: 0,
            begun: false,
        }
    }

    fn text(&mut self, family: &Family, sources: std::ops::Range<usize>) -> Option<String> {
        let rows = family.rows(&self.snapshot, sources);
        if rows.is_empty() {
            return None;
        }
        let mut part = MetricFamily::default();
        part.set_name(family.name.to_owned());
        part.set_field_type(family.kind.on_the_wire());
        // Without a help text, the encoder writes the line with the type alone.
        let again = std::mem::replace(&mut self.begun, true);
        if !again {
            part.set_help(family.meaning.to_owned());
        }
        part.set_metric(rows);
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&[part], &mut text)
            .expect("a metric with a name and rows has a text, and a string takes everything");
        match text.split_once('\n') {
            Some((_type, rest)) if again => Some(rest.to_owned()),
            _ => Some(text),
        }
    }
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let family = families().nth(self.done)?;
            let all = family.sources(&self.snapshot);
            if self.sources >= all {
                (self.done, self.sources, self.begun) = (self.done + 1, 0, false);
                continue;
            }
            let sources = self.sources..all.min(self.sources + SOURCES);
            self.sources = sources.end;
            if let Some(text) = self.text(family, sources) {
                return Some(text);
            }
        }
    }
}
