//! What others say, as people may be shown it: cut, on one line, and unable to steer a terminal or to forge a line.
//!
//! Drivers, their files and their authors' tools are not trusted with anything, so none of their words reaches a log, a
//! fault or an answer in another way. Values of tags are data, not words, and are not touched here.

use std::fmt::Write as _;

/// On one line of at most `most` bytes: what could move a cursor or begin a line is shown escaped, and a cut as `…`.
pub fn shown(text: &str, most: usize) -> String {
    let mut line = String::new();
    write(&mut line, text.trim_end_matches('\n'), most);
    line
}

/// The same line by line, in at most `most` bytes altogether. For what is made of lines: help, traces.
pub fn shown_lines(text: &str, most: usize) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        if !lines.is_empty() {
            lines.push('\n');
        }
        if !write(&mut lines, line, most) {
            break;
        }
    }
    lines
}

/// Appends as far as there is room. Gives whether all of it was appended.
fn write(line: &mut String, text: &str, most: usize) -> bool {
    /// The longest escape (`\u{10ffff}`), and the mark of a cut.
    const ROOM: usize = 10 + '…'.len_utf8();

    line.reserve(text.len().min(most.saturating_sub(line.len())));
    for character in text.chars() {
        if line.len() + ROOM > most {
            // What is left may fit just so.
            line.push('…');
            return false;
        }
        if is_safe(character) {
            line.push(character);
        } else if write!(line, "{}", character.escape_default()).is_err() {
            return false; // writing to a string does not fail
        }
    }
    true
}

/// Whether a character stands for itself and moves nothing: no control character, no change of direction, no line or
/// paragraph of Unicode's own.
fn is_safe(character: char) -> bool {
    let moves = matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character == '\t' || !character.is_control() && !moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_and_forged_lines_are_shown_not_done() {
        assert_eq!(
            shown("a\u{1b}[2Jb\nERROR c\r\u{202e}d\n", 100),
            "a\\u{1b}[2Jb\\nERROR c\\r\\u{202e}d"
        );
        assert_eq!(
            shown("press 3: 41 °C – „gut“", 100),
            "press 3: 41 °C – „gut“"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for (most, character) in [(13, 'ä'), (100, 'ä'), (4096, '\u{1b}'), (50, '\u{10ffff}')] {
            let text = shown(&character.to_string().repeat(10_000), most);
            assert!(
                text.len() <= most && text.ends_with('…'),
                "{most}: {}",
                text.len()
            );
        }
        assert_eq!(shown("short", 20), "short");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(shown_lines("a\nb\u{1b}c\n", 100), "a\nb\\u{1b}c");
        let cut = shown_lines(&"line\n".repeat(1_000), 64);
        assert!(cut.len() <= 64 && cut.ends_with('…'), "{cut}");
    }
}
