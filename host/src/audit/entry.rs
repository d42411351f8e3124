//! An entry of the audit log: a line of JSON, whose last field is the hash of all before it, the hash of the previous entry included.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What parts the fields that are hashed from the hash.
const SEAL: &str = r#","hash":""#;
/// The longest line that is read back, in bytes: a value of 64 KiB as JSON, and the rest.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// A SHA-256 digest, as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of what is before the first entry.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// From 64 digits.
    pub fn parse(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| {
                (digit as char)
                    .to_digit(16)
                    .filter(|_| !digit.is_ascii_uppercase())
            };
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        Hash::parse(&digits)
            .ok_or_else(|| serde::de::Error::custom("a hash has 64 hexadecimal digits"))
    }
}

/// How a write was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// `done`, `timed-out`, `failed` and so on, as the API says it; `unheard` where whoever asked was gone before.
    pub code: &'a str,
    /// What was said, where it was not done.
    pub message: Option<String>,
}

/// A write, and how it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Write<'a> {
    /// When it was asked for.
    pub time: String,
    /// When it was answered.
    pub answered: String,
    /// By which door it came: `http`.
    pub via: &'static str,
    /// As they call themselves; nobody has checked that.
    pub by: Option<&'a str>,
    /// The channel.
    pub channel: &'a str,
    /// The tag.
    pub tag: &'a str,
    /// In the tag's units.
    pub value: serde_json::Value,
    /// How it was answered.
    pub answer: Answer<'a>,
}

/// What stands in a line before the hash.
#[derive(Serialize)]
struct Unsealed<'a> {
    number: u64,
    time: &'a str,
    answered: &'a str,
    via: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    channel: &'a str,
    tag: &'a str,
    value: &'a serde_json::Value,
    answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
    previous: Hash,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1 on, without gaps.
    pub number: u64,
    /// When the write was asked for, RFC 3339.
    pub time: String,
    /// When it was answered, RFC 3339.
    pub answered: String,
    /// By which door it came.
    pub via: String,
    /// As they call themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The channel.
    pub channel: String,
    /// The tag.
    pub tag: String,
    /// In the tag's units.
    pub value: serde_json::Value,
    /// `done`, or why not.
    pub answer: String,
    /// What was said, where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Writes before this one that could not be written down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The hash of the entry before.
    pub previous: Hash,
    /// Of the line up to this field.
    pub hash: Hash,
}

impl Entry {
    /// Reads a line, and checks its own hash.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        if line.len() > MAX_LINE_BYTES {
            return Err("the line is longer than any entry".to_owned());
        }
        let (sealed, _) = line.rsplit_once(SEAL).ok_or("there is no hash in it")?;
        let entry: Self = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if Hash::of(sealed) != entry.hash {
            return Err("its hash is not that of what it says: it was changed".to_owned());
        }
        Ok(entry)
    }
}

/// The line of an entry, and its hash.
pub(super) fn line(number: u64, previous: Hash, lost: u64, write: &Write<'_>) -> (String, Hash) {
    let unsealed = Unsealed {
        number,
        time: &write.time,
        answered: &write.answered,
        via: write.via,
        by: write.by,
        channel: write.channel,
        tag: write.tag,
        value: &write.value,
        answer: write.answer.code,
        message: write.answer.message.as_deref(),
        lost,
        previous,
    };
    // Strings, numbers and trees of them always become JSON.
    let mut line = serde_json::to_string(&unsealed).unwrap_or_default();
    line.pop();
    let hash = Hash::of(&line);
    line.push_str(SEAL);
    line.push_str(&hash.to_string());
    line.push_str("\"}\n");
    (line, hash)
}
