//! A file of tags: CSV (RFC 4180), a header of columns and a row for each tag.
//!
//! A row becomes cells with places in the file, which [`Section`](super::section::Section) reads as it reads a table of TOML: so every
//! rule of a tag stands once. What is particular to a file of rows is found here: its header, its quotes, how many cells a row has.
//!
//! ```text
//! name;address;type;scale;limits;settings
//! temp;40001;int16;0.1;0..100;{ order = 'cdab' }
//! ```
//!
//! An empty cell is a key that is absent. A cell is text, but for the columns of numbers, which are written as in TOML, of ranges
//! (`0..100`), and of `settings` (a table as TOML writes it).

use std::borrow::Cow;
use std::ops::Range;

use csv_core::{ReadFieldResult, ReaderBuilder};
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::document::{Findings, Node};
use super::fault::{plain, quoted};
use super::resolve::MAX_TAGS;
use super::section::{json, unknown};
use super::tag::TAG;

/// The most cells of a row that are looked at.
const MAX_COLUMNS: usize = 256;
/// The columns without which there is no tag.
pub(super) const REQUIRED: [&str; 3] = ["name", "address", "type"];

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A number, or a text where it is none: `0.5` and `2%`.
    Number,
    /// `0..100`
    Range,
    /// `{ order = 'cdab' }`
    Settings,
}

/// What the cells of a column are; `None` for one that a tag does not have.
pub(super) fn kind(column: &str) -> Option<Kind> {
    Some(match column {
        "name" | "address" | "type" | "device" | "access" | "mask" | "report" | "interval"
        | "max_silence" | "write_interval" | "unit" | "description" => Kind::Text,
        "scale" | "offset" | "bit" | "deadband" => Kind::Number,
        "clamp" | "limits" => Kind::Range,
        "settings" => Kind::Settings,
        _ => return None,
    })
}

/// A file of tags as it was read.
pub(super) struct Rows<'t> {
    /// Its faults go here.
    pub(super) findings: Findings<'t>,
    /// Those that can be looked at; faulty ones have been reported.
    pub(super) rows: Vec<Row<'t>>,
    /// Whether the file has a good header, and nothing below it.
    pub(super) is_empty: bool,
}

impl<'t> Rows<'t> {
    /// Of a file that is no text.
    pub(super) fn none(findings: Findings<'t>) -> Self {
        Self {
            findings,
            rows: Vec::new(),
            is_empty: false,
        }
    }
}

/// One row: the cells that are not empty.
pub(super) struct Row<'t> {
    span: Range<usize>,
    cells: Box<[(&'static str, Spanned<Node<'t>>)]>,
    settings: Option<Spanned<Json>>,
}

impl<'t> Row<'t> {
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The cell of a column, but for `settings`.
    pub(super) fn get(&self, column: &str) -> Option<&Spanned<Node<'t>>> {
        let mut cells = self.cells.iter();
        cells.find(|(at, _)| *at == column).map(|(_, node)| node)
    }

    pub(super) fn settings(&self) -> Option<&Json> {
        self.settings.as_ref().map(Spanned::get_ref)
    }

    /// The byte where a part such as `.scale` or `.settings.order` begins; the row where there is no such cell.
    pub(super) fn start_of(&self, path: &str) -> usize {
        let mut steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
        let span = match steps.next() {
            Some("settings") => self.settings.as_ref().map(Spanned::span),
            Some(column) => self.get(column).map(Spanned::span),
            None => None,
        };
        span.unwrap_or_else(|| self.span()).start
    }
}

/// Reads a file. `rows_left` is how many more rows may be kept: the first beyond is reported, and ends the reading.
pub(super) fn read<'t>(text: &'t str, findings: Findings<'t>, rows_left: &mut usize) -> Rows<'t> {
    let mut records = Records::new(text);
    let mut rows = Vec::new();
    let mut is_empty = false;
    let first = records.next();
    let is_whole = first.is_some_and(|first| first.cells.iter().all(|cell| cell.wrong.is_none()));
    if let Some(columns) = header(first, &findings) {
        is_empty = is_whole;
        while let Some(record) = records.next() {
            let is_narrow = record.count <= MAX_COLUMNS;
            if is_narrow && record.cells.iter().all(|cell| cell.text.is_empty()) {
                continue;
            }
            is_empty = false;
            if *rows_left == 0 {
                let message = format!("more than {MAX_TAGS} tags; move the rest to another host");
                findings.fault(record.span.clone(), "", message);
                break;
            }
            if let Some(row) = row(record, &columns, &findings) {
                *rows_left -= 1;
                rows.push(row);
            }
        }
    }
    Rows {
        findings,
        rows,
        is_empty,
    }
}

/// What stands in the header over a cell.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    Key(&'static str),
    /// Unknown or doubled, which has been reported.
    Ignored,
    /// Nothing: its cells must be empty.
    Nameless,
}

/// The columns in their order. `None` where the rows cannot be read, which has been reported.
fn header(first: Option<&Record<'_>>, findings: &Findings<'_>) -> Option<Vec<Column>> {
    let remedy = "begin it with a row that names the columns, such as `name,address,type`";
    let Some(record) = first else {
        findings.fault(0..0, "", format!("the file is empty; {remedy}"));
        return None;
    };
    let known = |name: &str| TAG.known.iter().find(|key| **key == name).copied();
    if !record
        .cells
        .iter()
        .any(|cell| known(cell.text.trim()).is_some())
    {
        let message = format!("the first row of the file names no column of a tag; {remedy}");
        findings.fault(record.span.clone(), "", message);
        return None;
    }
    if record.count > MAX_COLUMNS {
        let message = format!("more than {MAX_COLUMNS} columns; remove those without a name");
        findings.fault(record.span.clone(), "header", message);
        return None;
    }
    let mut columns = Vec::with_capacity(record.cells.len());
    for cell in &record.cells {
        let name = cell.text.trim();
        let wrong = match known(name) {
            _ if name.is_empty() && cell.wrong.is_none() => {
                columns.push(Column::Nameless);
                continue;
            }
            Some(key) if !columns.contains(&Column::Key(key)) => {
                columns.push(Column::Key(key));
                continue;
            }
            _ if cell.wrong.is_some() => cell.wrong.unwrap_or_default().to_owned(),
            Some(key) => format!("the column `{key}` stands twice; remove one"),
            None => unknown("column", name, &TAG),
        };
        columns.push(Column::Ignored);
        findings.fault(cell.span.clone(), "header", wrong);
    }
    let is_there = |key: &'static str| columns.contains(&Column::Key(key));
    for missing in REQUIRED.into_iter().filter(|key| !is_there(key)) {
        let message = format!("there is no column `{missing}`; add it");
        findings.fault(record.span.clone(), "header", message);
    }
    REQUIRED.into_iter().all(is_there).then_some(columns)
}

/// The cells of a row by their columns; `None` where it is unclear which cell is which, which has been reported.
fn row<'t>(record: &Record<'t>, columns: &[Column], findings: &Findings<'_>) -> Option<Row<'t>> {
    let column = |index: usize| columns.get(index).copied().unwrap_or(Column::Nameless);
    let mut is_clear = true;
    for (index, cell) in record.cells.iter().enumerate() {
        let at = match column(index) {
            Column::Key(key) => format!("column {key}"),
            Column::Ignored | Column::Nameless => String::new(),
        };
        let wrong = match cell.wrong {
            Some(wrong) => wrong,
            None if column(index) == Column::Nameless && !cell.text.is_empty() => {
                "the cell has no column; name one in the header, or put the separators of the row right"
            }
            None => continue,
        };
        findings.fault(cell.span.clone(), &at, wrong);
        is_clear = false;
    }
    let named = columns
        .iter()
        .rposition(|column| *column != Column::Nameless);
    let width = named.map_or(0, |last| last + 1);
    if is_clear && !(width..=MAX_COLUMNS).contains(&record.count) {
        let message = format!(
            "the row has {} cells, and the header has {width} columns; write a cell for each, also where it is empty",
            record.count
        );
        findings.fault(record.span.clone(), "", message);
        is_clear = false;
    }
    if !is_clear {
        return None;
    }
    let mut row = Row {
        span: record.span.clone(),
        cells: Box::default(),
        settings: None,
    };
    let mut cells = Vec::new();
    for (index, cell) in record.cells.iter().enumerate() {
        let Column::Key(key) = column(index) else {
            continue;
        };
        if cell.text.is_empty() {
            continue;
        }
        let node = match kind(key) {
            Some(Kind::Settings) => {
                let at = format!("{}, column settings", called(record, columns));
                row.settings = Some(settings(cell, &at, findings));
                continue;
            }
            Some(Kind::Number) => number(&cell.text),
            Some(Kind::Range) => range(cell),
            Some(Kind::Text) | None => None,
        };
        let node = node.unwrap_or_else(|| Node::String(cell.text.clone()));
        cells.push((key, Spanned::new(cell.span.clone(), node)));
    }
    row.cells = cells.into();
    Some(row)
}

/// A number as TOML writes it.
fn number<'t>(text: &Cow<'t, str>) -> Option<Node<'t>> {
    // What had to be unquoted is no number.
    let Cow::Borrowed(text) = text else {
        return None;
    };
    let text = text.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    if !text.bytes().all(is_plain) {
        return None;
    }
    let node = DeValue::parse(text).ok()?.into_inner();
    matches!(node, Node::Integer(_) | Node::Float(_)).then_some(node)
}

/// `0..100` as TOML's `[0, 100]`.
fn range<'t>(cell: &Cell<'t>) -> Option<Node<'t>> {
    let Cow::Borrowed(text) = cell.text else {
        return None;
    };
    let (low, high) = text.split_once("..")?;
    let ends = [number(&Cow::Borrowed(low))?, number(&Cow::Borrowed(high))?];
    let ends = ends.map(|end| Spanned::new(cell.span.clone(), end));
    Some(Node::Array(ends.into_iter().collect::<DeArray<'t>>()))
}

/// What a row is called in messages: by the name of its tag, if it has one.
fn called(record: &Record<'_>, columns: &[Column]) -> String {
    let mut cells = record.cells.iter().zip(columns);
    let name = cells.find(|(_, column)| **column == Column::Key("name"));
    match name {
        Some((name, _)) if !name.text.is_empty() => format!("tag {}", plain(&name.text)),
        _ => "tag without a name".to_owned(),
    }
}

/// The settings of a tag: a table as TOML writes it. What is wrong is reported, and void.
fn settings(cell: &Cell<'_>, at: &str, findings: &Findings<'_>) -> Spanned<Json> {
    let span = || cell.span.clone();
    let fault = |message: String| findings.fault(span(), at, message);
    let no_table = |why: &str| {
        fault(format!(
            "`settings` is {}, which is no table{why}; write one such as `{{ order = 'cdab' }}`",
            quoted(&cell.text)
        ));
        Json::Null
    };
    let found = match DeValue::parse(cell.text.trim()) {
        Ok(node) if node.get_ref().is_table() => json(&node, &mut |_, message| fault(message)),
        Ok(_) => no_table(""),
        Err(error) => no_table(&format!(" of TOML ({})", error.message())),
    };
    Spanned::new(span(), found)
}

/// How a cell says what TOML writes like this, for a message.
pub(super) fn example(toml: &str) -> String {
    let list = toml
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match list {
        Some(list) => list.replace(", ", ".."),
        None => toml.trim_matches('"').to_owned(),
    }
}

/// How a value of TOML is written in a cell.
pub(super) fn cell(node: &Node<'_>) -> String {
    match node {
        Node::String(text) => text.to_string(),
        Node::Integer(number) => number.to_string(),
        Node::Float(number) => number.as_str().to_owned(),
        Node::Array(list) => {
            let ends: Vec<String> = list.iter().map(|end| cell(end.get_ref())).collect();
            ends.join("..")
        }
        Node::Boolean(truth) => truth.to_string(),
        Node::Datetime(moment) => moment.to_string(),
        Node::Table(_) => String::new(),
    }
}

/// One cell.
struct Cell<'t> {
    /// With its quotes.
    span: Range<usize>,
    /// Without them.
    text: Cow<'t, str>,
    wrong: Option<&'static str>,
}

/// The cells of one row, line breaks within quotes included.
struct Record<'t> {
    span: Range<usize>,
    /// At most [`MAX_COLUMNS`].
    cells: Vec<Cell<'t>>,
    /// How many there are.
    count: usize,
}

/// Cuts a text into rows and cells.
struct Records<'t> {
    text: &'t str,
    at: usize,
    separator: char,
    parser: csv_core::Reader,
    record: Record<'t>,
}

impl<'t> Records<'t> {
    fn new(text: &'t str) -> Self {
        let separator = separator(text);
        let delimiter = u8::try_from(separator).unwrap_or(b',');
        Self {
            text,
            at: 0,
            separator,
            parser: ReaderBuilder::new().delimiter(delimiter).build(),
            record: Record {
                span: 0..0,
                cells: Vec::new(),
                count: 0,
            },
        }
    }

    /// The next row; empty lines are none.
    fn next(&mut self) -> Option<&Record<'t>> {
        self.record.cells.clear();
        self.record.count = 0;
        loop {
            let (cell, ends) = self.cell()?;
            if self.record.count == 0 {
                self.record.span = cell.span.clone();
            }
            self.record.span.end = cell.span.end;
            self.record.count += 1;
            if self.record.cells.len() < MAX_COLUMNS {
                self.record.cells.push(cell);
            }
            if ends {
                return Some(&self.record);
            }
        }
    }

    /// The next cell, and whether it is the last one of its row.
    fn cell(&mut self) -> Option<(Cell<'t>, bool)> {
        // The parser finds where cells end; what they say is read from the text, which can be borrowed.
        let mut unquoted = [0; 1_024];
        let mut start = self.at;
        let ends = loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let (found, read, _) = self.parser.read_field(rest, &mut unquoted);
            self.at += read;
            match found {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { record_end } => break record_end,
                ReadFieldResult::End => return None,
            }
        };
        let mut raw = self.text.get(start..self.at).unwrap_or_default();
        if self.record.count == 0 {
            // What is left of the line before, and empty lines.
            let trimmed = raw.trim_start_matches(['\r', '\n']);
            start += raw.len() - trimmed.len();
            raw = trimmed;
        }
        let end: &[char] = match ends {
            true => &['\r', '\n'],
            false => &[self.separator],
        };
        let raw = raw.strip_suffix(end).unwrap_or(raw);
        let (text, wrong) = unquote(raw);
        let span = start..start + raw.len();
        Some((Cell { span, text, wrong }, ends))
    }
}

/// What the header is cut at: `,` or, as spreadsheets of many countries write it, `;`.
fn separator(text: &str) -> char {
    let header = text.trim_start().lines().next().unwrap_or_default();
    let count = |separator| header.matches(separator).count();
    if count(';') > count(',') { ';' } else { ',' }
}

/// What a cell says, and what is wrong with its quotes.
fn unquote(raw: &str) -> (Cow<'_, str>, Option<&'static str>) {
    let Some(rest) = raw.strip_prefix('"') else {
        return (raw.into(), None);
    };
    let inner = rest.strip_suffix('"');
    let is_odd = |inner: &str| inner.split("\"\"").any(|part| part.contains('"'));
    match inner {
        Some(inner) if !inner.contains('"') => (inner.into(), None),
        Some(inner) if !is_odd(inner) => (inner.replace("\"\"", "\"").into(), None),
        _ => (
            raw.into(),
            Some(
                "the cell begins with a quote and does not end with one; close it, and write each quote within the cell twice",
            ),
        ),
    }
}
