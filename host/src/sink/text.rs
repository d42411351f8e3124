//! A sample as a line for people.

use std::fmt::Write as _;

use super::record::Time;
use crate::event::{Batch, Gap, GapReason, Quality, Sample, Value, WallNs};

/// How lines for people look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextStyle {
    /// Whether the terminal shows colours.
    pub colours: bool,
    /// How wide the column of names is, in characters; longer names push the rest to the right.
    pub width: usize,
}

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const OFF: &str = "\x1b[0m";

impl TextStyle {
    /// Appends the line of one sample:
    ///
    /// ```text
    /// 13:00:00.125  press-1/pressure        4.8213 bar
    /// 13:00:03.126  press-1/pressure        4.8213 bar   bad-timeout
    /// ```
    pub(super) fn sample(self, out: &mut Vec<u8>, batch: &Batch, sample: &Sample) {
        let Some(tag) = batch.layout.tag(sample.tag) else {
            return;
        };
        let mut line = String::with_capacity(96);
        self.time(&mut line, batch.server_time);
        let channel = batch.instance.channel.as_str();
        let name = format!("{channel}/{}", plain(tag.name));
        let value = sample.value.as_ref().map_or_else(|| "-".to_owned(), short);
        let trusted = if sample.quality.is_good() { BOLD } else { DIM };
        let name = format!("{name:<width$}", width = self.width);
        line.push_str(&name);
        line.push_str("  ");
        self.paint(&mut line, trusted, &format!("{value:>14}"));
        if !tag.unit.is_empty() {
            line.push(' ');
            line.push_str(&plain(tag.unit));
        }
        if sample.quality != Quality::Good {
            let colour = if sample.quality.is_bad() { RED } else { YELLOW };
            line.push_str("   ");
            self.paint(&mut line, colour, sample.quality.as_str());
        }
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }

    /// Appends the line that stands where messages were dropped.
    pub(super) fn gap(self, out: &mut Vec<u8>, gap: &Gap) {
        let mut line = String::new();
        self.time(&mut line, gap.at);
        let why = match gap.reason {
            GapReason::Slow => "the output is too slow",
            other => other.as_str(),
        };
        self.paint(
            &mut line,
            RED,
            &format!(
                "{} messages with {} samples were dropped here: {why}",
                gap.messages, gap.samples
            ),
        );
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }

    fn time(self, line: &mut String, at: WallNs) {
        // 2026-07-18T13:00:00.125000000Z
        let time = Time(at).to_string();
        self.paint(line, DIM, time.get(11..23).unwrap_or(&time));
        line.push_str("  ");
    }

    fn paint(self, line: &mut String, colour: &str, text: &str) {
        if self.colours {
            line.push_str(colour);
        }
        line.push_str(text);
        if self.colours {
            line.push_str(OFF);
        }
    }
}

/// A value in a few characters.
fn short(value: &Value) -> String {
    match value {
        Value::Boolean(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => number(*v),
        Value::Text(v) => plain(v),
        Value::Bytes(v) => {
            let mut out = String::from("0x");
            for byte in v.iter().take(SHOWN) {
                write!(out, "{byte:02x}").expect("a string takes everything");
            }
            out + if v.len() > SHOWN { "…" } else { "" }
        }
        Value::Booleans(all) => list(all, bool::to_string),
        Value::Ints(all) => list(all, i64::to_string),
        Value::Uints(all) => list(all, u64::to_string),
        Value::Floats(all) => list(all, |v| number(*v)),
        Value::Texts(all) => plain(&list(all, |v| format!("\"{v}\""))),
    }
}

/// How many elements of a list are shown.
const SHOWN: usize = 16;

fn list<T>(all: &[T], one: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<String> = all.iter().take(SHOWN).map(one).collect();
    if all.len() > SHOWN {
        shown.push(format!("… {} in all", all.len()));
    }
    format!("[{}]", shown.join(", "))
}

/// A number for people: what a 32-bit register held in the digits of its own precision, anything else in at most twelve.
pub fn number(v: f64) -> String {
    let narrow = v as f32;
    if !v.is_finite() {
        return v.to_string();
    }
    if v != 0.0 && !(1e-5..1e15).contains(&v.abs()) {
        return match f64::from(narrow) == v {
            true => format!("{narrow:e}"),
            false => format!("{:e}", rounded(v)),
        };
    }
    match f64::from(narrow) == v {
        true => narrow.to_string(),
        false => rounded(v).to_string(),
    }
}

fn rounded(v: f64) -> f64 {
    format!("{v:.11e}").parse().unwrap_or(v)
}

/// Text from outside, in one short line that cannot steer the terminal.
fn plain(text: &str) -> String {
    const MAX_CHARS: usize = 160;
    let mut out = String::with_capacity(text.len().min(MAX_CHARS));
    for c in text.chars().take(MAX_CHARS) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_true() {
        let check = |v: f64, expected: &str| assert_eq!(number(v), expected);
        check(21.0, "21");
        check(0.1 * 3.0, "0.3");
        check(215.0f64.mul_add(0.1, 0.0), "21.5");
        check(f64::from(0.1f32), "0.1");
        check(f64::from(4.821_3f32), "4.8213");
        check(1e300, "1e300");
        check(-2.5e-9, "-2.5e-9");
        check(0.0, "0");
        check(f64::NAN, "NaN");
        check(123_456_789_012.5, "123456789012");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(
            short(&Value::Text("\x1b[2J\r\n".into())),
            "\\u{1b}[2J\\r\\n"
        );
        assert!(short(&Value::Ints(vec![1; 1000].into())).len() < 100);
        assert_eq!(short(&Value::Bytes([0xde, 0xad].into())), "0xdead");
        assert_eq!(
            short(&Value::Texts(["a, b".into(), "\x1b[2J".into()].into())),
            "[\"a, b\", \"\\u{1b}[2J\"]"
        );
        let many = vec!["x".repeat(1_000).into_boxed_str(); 1_000];
        assert!(short(&Value::Texts(many.into())).chars().count() < 200);
    }
}
