//! What commands print: tables and words for people, JSON lines for programs.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

/// Standard output, whose end is an error and no panic.
pub(super) struct Output {
    out: io::Stdout,
    colours: bool,
}

/// What colours say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Dim,
    Good,
    Doubtful,
    Bad,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            out: io::stdout(),
            colours: colours(&io::stdout()),
        }
    }

    /// One JSON object on a line.
    pub(super) fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(object).map_err(io::Error::other)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }

    /// One line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A table with its heading; cells of the last column are as long as they like.
    pub(super) fn table(&mut self, heading: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
        let mut widths: Vec<usize> = heading.iter().map(|cell| width(cell)).collect();
        for row in rows {
            for (most, cell) in widths.iter_mut().zip(row) {
                *most = (*most).max(width(&cell.text)).min(MAX_COLUMN);
            }
        }
        let mut text = String::new();
        let heading: Vec<Cell> = heading
            .iter()
            .map(|text| Cell {
                text: (*text).to_owned(),
                tone: Tone::Dim,
            })
            .collect();
        for row in std::iter::once(&heading).chain(rows) {
            for (index, cell) in row.iter().enumerate() {
                text.push_str(&self.paint(cell.tone, &cell.text));
                if index + 1 < row.len() {
                    let gap = widths[index].saturating_sub(width(&cell.text)) + 2;
                    text.extend(std::iter::repeat_n(' ', gap));
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let colour = match tone {
            _ if !self.colours || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
        };
        format!("\x1b[{colour}m{text}\x1b[0m")
    }
}

/// The widest column of a table, in characters, the last one apart.
const MAX_COLUMN: usize = 60;

/// A cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: plain(&text.into()),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Whether this stream shows colours: a terminal does, unless the user says otherwise (<https://no-color.org>).
pub(super) fn colours(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says something on standard error, in the order of the log where there is one. Where standard error is gone nobody is left
/// to be told.
pub(super) fn say(text: &str) {
    if !super::logs::say(text) {
        drop(writeln!(io::stderr().lock(), "{text}"));
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text from outside, on one line that cannot steer the terminal.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A value from the API, for people.
pub(super) fn value(json: &serde_json::Value) -> String {
    use serde_json::Value;

    const SHOWN: usize = 16;
    match json {
        Value::Null => "-".to_owned(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map(crate::sink::number).unwrap_or_default()
        }
        Value::String(text) => plain(text),
        Value::Array(all) => {
            // Quoted, so that it shows where each begins and ends. Among numbers a text is one that JSON does not have.
            let texts = all.iter().all(Value::is_string);
            let element = |one: &Value| match one {
                Value::String(text) if texts => plain(&format!("{text:?}")),
                other => value(other),
            };
            let mut shown: Vec<String> = all.iter().take(SHOWN).map(element).collect();
            if all.len() > SHOWN {
                shown.push(format!("… {} in all", all.len()));
            }
            format!("[{}]", shown.join(", "))
        }
        other => other.to_string(),
    }
}

/// A value with its unit.
pub(super) fn with_unit(json: &serde_json::Value, unit: &str) -> String {
    match unit {
        "" => value(json),
        unit => format!("{} {}", value(json), plain(unit)),
    }
}

/// What a quality's colour is.
pub(super) fn quality_tone(quality: &str) -> Tone {
    match quality {
        good if good.starts_with("good") => Tone::Good,
        doubtful if doubtful.starts_with("uncertain") => Tone::Doubtful,
        _ => Tone::Bad,
    }
}

/// What a state's colour is.
pub(super) fn state_tone(state: &str) -> Tone {
    match state {
        "running" => Tone::Good,
        "stopped" => Tone::Dim,
        "broken" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

/// `2026-07-18T13:00:00.125000000Z` as `13:00:00.125`.
pub(super) fn time_of_day(time: &str) -> &str {
    time.get(11..23).unwrap_or(time)
}

/// `2026-07-18T13:00:00.125000000Z` as `2026-07-18 13:00:00Z`.
pub(super) fn short_time(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}Z"),
        _ => time.to_owned(),
    }
}
