//! Bytes as a script writes them: in hexadecimal, as text, with placeholders.
//!
//! ```text
//! 0001 00ff        bytes, in groups of any even length
//! "R 7\r\n"        text, with \r \n \t \" \\ \xNN
//! ??               any byte
//! 00*250           a byte or a text, so many times
//! {tid:2}          two bytes of any content, kept as `tid`
//! {seq:*}          bytes up to the one that follows in the pattern, kept as `seq`
//! {tid}            the bytes that were kept
//! {crc16}          the checksum of Modbus RTU over all that stands before it in the pattern
//! ```
//!
//! One that is compared may hold anything of this; one that is sent no `??` and nothing that was not kept before.

use std::collections::BTreeMap;

/// The most bytes that one pattern stands for.
const MAX_BYTES: usize = 1 << 20;
/// The most checksums in one pattern: each goes over all that stands before it.
const MAX_CHECKSUMS: usize = 16;

/// A pattern of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    Any,
    Keep(String, Length),
    Kept(String),
    Crc16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    UpToNext,
}

/// What was kept by name.
pub type Captures = BTreeMap<String, Vec<u8>>;

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

/// Where bytes leave a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// How many bytes agree.
    pub at: usize,
    /// What stands there in the pattern.
    pub expected: String,
    /// Whether more bytes could still make it agree.
    pub is_short: bool,
}

impl Pattern {
    /// These very bytes.
    pub fn exact(bytes: &[u8]) -> Self {
        Self {
            parts: bytes.iter().copied().map(Part::Byte).collect(),
        }
    }

    /// Whether it stands for nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many bytes and placeholders it has.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut parts = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let from = parts.len();
            rest = if let Some(inside) = rest.strip_prefix('"') {
                quoted(inside, &mut parts)?
            } else if let Some(inside) = rest.strip_prefix('{') {
                placeholder(inside, &mut parts)?
            } else {
                hexadecimal(rest, &mut parts)?
            };
            if let Some(count) = rest.strip_prefix('*') {
                let end = count.find(char::is_whitespace).unwrap_or(count.len());
                let times: usize = count[..end].parse().map_err(|_| {
                    BadPattern(format!("*{} is no count; write 00*250", &count[..end]))
                })?;
                rest = &count[end..];
                repeat(&mut parts, from, times)?;
            }
            if parts.len() > MAX_BYTES {
                return Err(BadPattern(format!("it is longer than {MAX_BYTES} bytes")));
            }
            rest = rest.trim_start();
        }
        let checksums = parts.iter().filter(|part| matches!(part, Part::Crc16));
        if checksums.count() > MAX_CHECKSUMS {
            return Err(BadPattern(format!(
                "it has more than {MAX_CHECKSUMS} checksums"
            )));
        }
        Ok(Self { parts })
    }

    /// How many of these bytes it takes from the front; what it keeps goes into `captures`.
    pub fn take(&self, bytes: &[u8], captures: &mut Captures) -> Result<usize, Mismatch> {
        let mut at = 0;
        for (index, part) in self.parts.iter().enumerate() {
            let rest = &bytes[at..];
            at += match part {
                Part::Byte(byte) => exact(&[*byte], rest, at)?,
                Part::Any if rest.is_empty() => return Err(short(at, "any byte")),
                Part::Any => 1,
                Part::Keep(name, Length::Bytes(count)) => {
                    let Some(kept) = rest.get(..*count) else {
                        return Err(short(bytes.len(), &format!("{count} bytes, {name}")));
                    };
                    captures.insert(name.clone(), kept.to_vec());
                    *count
                }
                Part::Keep(name, Length::UpToNext) => {
                    let end = match self.parts.get(index + 1) {
                        Some(Part::Byte(next)) => rest.iter().position(|byte| byte == next),
                        _ => Some(rest.len()),
                    };
                    let Some(end) = end else {
                        return Err(short(bytes.len(), &format!("the end of {name}")));
                    };
                    captures.insert(name.clone(), rest[..end].to_vec());
                    end
                }
                Part::Kept(name) => match captures.get(name) {
                    Some(kept) => exact(kept, rest, at)?,
                    None => {
                        let expected = format!("{{{name}}}, which was never kept");
                        return Err(Mismatch {
                            at,
                            expected,
                            is_short: false,
                        });
                    }
                },
                Part::Crc16 => exact(&crc16(&bytes[..at]), rest, at)?,
            };
        }
        Ok(at)
    }

    /// The bytes that it stands for; what was kept counts too.
    pub fn render(&self, captures: &Captures) -> Result<Vec<u8>, BadPattern> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Byte(byte) => bytes.push(*byte),
                Part::Any => {
                    return Err(BadPattern(
                        "?? stands for any byte, and one must be sent; write it out".to_owned(),
                    ));
                }
                Part::Keep(name, _) | Part::Kept(name) => match captures.get(name) {
                    Some(kept) => bytes.extend_from_slice(kept),
                    None => return Err(BadPattern(format!("{{{name}}} was not kept before"))),
                },
                Part::Crc16 => bytes.extend(crc16(&bytes)),
            }
            if bytes.len() > MAX_BYTES {
                return Err(BadPattern(format!(
                    "with what was kept it is longer than {MAX_BYTES} bytes"
                )));
            }
        }
        Ok(bytes)
    }

    /// The whole pattern, for people: as it would be written, with what was kept filled in.
    pub fn shown(&self, captures: &Captures) -> String {
        let mut cells = Vec::new();
        for part in &self.parts {
            match part {
                Part::Byte(byte) => cells.push(format!("{byte:02x}")),
                Part::Any => cells.push("??".to_owned()),
                Part::Keep(name, Length::Bytes(count)) => cells.push(format!("{{{name}:{count}}}")),
                Part::Keep(name, Length::UpToNext) => cells.push(format!("{{{name}:*}}")),
                Part::Kept(name) => match captures.get(name) {
                    Some(kept) => cells.extend(kept.iter().map(|byte| format!("{byte:02x}"))),
                    None => cells.push(format!("{{{name}}}")),
                },
                Part::Crc16 => cells.push("{crc16}".to_owned()),
            }
        }
        cells.join(" ")
    }
}

fn short(at: usize, expected: &str) -> Mismatch {
    Mismatch {
        at,
        expected: expected.to_owned(),
        is_short: true,
    }
}

fn exact(wanted: &[u8], rest: &[u8], at: usize) -> Result<usize, Mismatch> {
    for (offset, byte) in wanted.iter().enumerate() {
        match rest.get(offset) {
            Some(found) if found == byte => {}
            Some(_) => {
                return Err(Mismatch {
                    at: at + offset,
                    expected: format!("{byte:02x}"),
                    is_short: false,
                });
            }
            None => return Err(short(at + offset, &format!("{byte:02x}"))),
        }
    }
    Ok(wanted.len())
}

fn quoted<'a>(inside: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, BadPattern> {
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok(&inside[at + 1..]),
            '\\' => {
                let byte = match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => b'\n',
                    Some('r') => b'\r',
                    Some('t') => b'\t',
                    Some('0') => 0,
                    Some('"') => b'"',
                    Some('\\') => b'\\',
                    Some('x') => {
                        let digits: String = characters
                            .by_ref()
                            .take(2)
                            .map(|(_, digit)| digit)
                            .collect();
                        byte(&digits)?
                    }
                    other => {
                        return Err(BadPattern(format!(
                            "\\{} is no escape; write \\n \\r \\t \\0 \\\" \\\\ or \\x7f",
                            other.map(String::from).unwrap_or_default()
                        )));
                    }
                };
                parts.push(Part::Byte(byte));
            }
            other => {
                let mut buffer = [0; 4];
                parts.extend(other.encode_utf8(&mut buffer).bytes().map(Part::Byte));
            }
        }
    }
    Err(BadPattern("a text has no end; close it with \"".to_owned()))
}

fn placeholder<'a>(inside: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, BadPattern> {
    let Some((name, rest)) = inside.split_once('}') else {
        return Err(BadPattern(
            "a placeholder has no end; close it with }".to_owned(),
        ));
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let part = match name.split_once(':') {
        None if name == "crc16" => Part::Crc16,
        None if is_name(name) => Part::Kept(name.to_owned()),
        Some((name, "*")) if is_name(name) => Part::Keep(name.to_owned(), Length::UpToNext),
        Some((name, count)) if is_name(name) => match count.parse() {
            Ok(count) if (1..=MAX_BYTES).contains(&count) => {
                Part::Keep(name.to_owned(), Length::Bytes(count))
            }
            _ => {
                return Err(BadPattern(format!(
                    "{{{name}:{count}}} has no length; write {{{name}:2}}"
                )));
            }
        },
        _ => {
            return Err(BadPattern(format!(
                "{{{name}}} is no placeholder; write {{name}}, {{name:2}}, {{name:*}} or {{crc16}}"
            )));
        }
    };
    parts.push(part);
    Ok(rest)
}

fn hexadecimal<'a>(text: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, BadPattern> {
    let end = text
        .find(|character: char| character.is_whitespace() || "*\"{".contains(character))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() || !word.is_ascii() || word.len() % 2 == 1 {
        return Err(BadPattern(format!(
            "{word:?} are no bytes; write pairs of hexadecimal digits, \"text\" or {{placeholder}}"
        )));
    }
    for at in (0..word.len()).step_by(2) {
        let pair = &word[at..at + 2];
        parts.push(if pair == "??" {
            Part::Any
        } else {
            Part::Byte(byte(pair)?)
        });
    }
    Ok(rest)
}

fn byte(pair: &str) -> Result<u8, BadPattern> {
    let is_hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(pair, 16)
        .ok()
        .filter(|_| is_hex)
        .ok_or_else(|| BadPattern(format!("{pair:?} are no two hexadecimal digits")))
}

fn repeat(parts: &mut Vec<Part>, from: usize, times: usize) -> Result<(), BadPattern> {
    let piece = parts.split_off(from);
    if !piece
        .iter()
        .all(|part| matches!(part, Part::Byte(_) | Part::Any))
    {
        return Err(BadPattern(
            "a placeholder stands for itself only; repeat bytes or a text".to_owned(),
        ));
    }
    if piece.len().saturating_mul(times) > MAX_BYTES {
        return Err(BadPattern(format!("it is longer than {MAX_BYTES} bytes")));
    }
    for _ in 0..times {
        parts.extend_from_slice(&piece);
    }
    Ok(())
}

/// Modbus over Serial Line 1.02, 6.2.2: the low byte goes first.
fn crc16(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1 == 1;
            crc >>= 1;
            if carry {
                crc ^= 0xa001;
            }
        }
    }
    crc.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_kept_comes_back() {
        let mut captures = Captures::default();
        let taken = pattern(r#"{tid:2} 0000 ?? "R" {seq:*} "\n""#)
            .take(b"\x12\x34\0\0\x07R987\nmore", &mut captures);
        assert_eq!(taken, Ok(10));
        assert_eq!(captures["tid"], [0x12, 0x34]);
        let answer = pattern(r#"{tid} {seq} "=\x7f" 00*3"#).render(&captures);
        assert_eq!(answer.unwrap(), b"\x12\x34987=\x7f\0\0\0");
    }

    #[test]
    fn a_checksum_is_that_of_the_specification() {
        // Modbus over Serial Line 1.02, appendix B: 02 07 gives 41 12.
        assert_eq!(
            pattern("0207 {crc16}")
                .render(&Captures::default())
                .unwrap(),
            [2, 7, 0x41, 0x12]
        );
    }

    #[test]
    fn a_mismatch_says_where() {
        let at = |text: &str, bytes: &[u8]| {
            let wrong = pattern(text)
                .take(bytes, &mut Captures::default())
                .unwrap_err();
            (wrong.at, wrong.expected, wrong.is_short)
        };
        assert_eq!(at("01 02 03", &[1, 2, 4]), (2, "03".to_owned(), false));
        assert_eq!(at("01 02 03", &[1, 2]), (2, "03".to_owned(), true));
        assert_eq!(at("{a:4}", &[1, 2]), (2, "4 bytes, a".to_owned(), true));
        assert!(at("{a}", &[1]).1.contains("never kept"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "0",
            "0g",
            "\"open",
            "{",
            "{}",
            "{a:0}",
            "{a:x}",
            "00*",
            "00*9999999",
            "{a}*2",
            &"{crc16}".repeat(17),
            "\"\\q\"",
            "é0",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(pattern("??").render(&Captures::default()).is_err());
        // What was kept is no way around the bound.
        let kept = Captures::from([("a".to_owned(), vec![0; MAX_BYTES / 2])]);
        assert!(pattern("{a} {a}").render(&kept).is_ok());
        assert!(pattern("{a} {a} 00").render(&kept).is_err());
    }
}
