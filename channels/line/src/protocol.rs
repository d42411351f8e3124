//! One question, one answer: what goes over the line, as text.
//!
//! A peer may send anything. Whatever is no answer by the letter is [`Broken`]: then question and answer may be out of step, and
//! the only safe way on is a new stream.

/// The longest line, with its CR LF, in bytes.
pub const MAX_LINE: usize = 80;

/// The longest name of something that can be read or set.
pub const MAX_NAME: usize = 32;

/// Something to ask of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// For a value.
    Read(&'a str),
    /// To take a value, as text.
    Set(&'a str, &'a str),
}

impl Question<'_> {
    /// The line, CR LF included.
    ///
    /// # Errors
    ///
    /// [`TooLong`] where a line does not hold it.
    pub fn encode(self) -> Result<Vec<u8>, TooLong> {
        let line = match self {
            Self::Read(name) => format!("READ {name}\r\n"),
            Self::Set(name, value) => format!("SET {name} {value}\r\n"),
        };
        if line.len() > MAX_LINE {
            return Err(TooLong);
        }
        Ok(line.into_bytes())
    }
}

/// A value whose text does not fit into a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value does not fit into a line of {MAX_LINE} bytes; write a shorter one")]
pub struct TooLong;

/// What a sensor answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done; with what was read. Empty after `SET`.
    Ok(String),
    /// Refused.
    Err(Refusal),
}

/// Why a sensor refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sensor refused: {} ({code})", if .words.is_empty() { "no reason given" } else { .words.as_str() })]
pub struct Refusal {
    /// The protocol's code.
    pub code: u32,
    /// The sensor's own words.
    pub words: String,
}

impl Refusal {
    /// There is no such name.
    pub const NO_SUCH_NAME: u32 = 2;
    /// The sensor has failed.
    pub const FAILURE: u32 = 4;
    /// The value is out of range.
    pub const OUT_OF_RANGE: u32 = 5;
}

/// A line that is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line:?} is no answer of this protocol")]
pub struct Broken {
    /// The line, as far as it is text.
    pub line: String,
}

impl Answer {
    /// Takes a line apart, which ends in CR LF.
    ///
    /// # Errors
    ///
    /// [`Broken`] for anything but `OK`, `OK TEXT` and `ERR NUMBER TEXT` in printable ASCII.
    pub fn decode(line: &[u8]) -> Result<Self, Broken> {
        let broken = || Broken {
            line: String::from_utf8_lossy(line).trim_end().to_owned(),
        };
        let text = line.strip_suffix(b"\r\n").ok_or_else(broken)?;
        if !text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(broken());
        }
        let text = std::str::from_utf8(text).map_err(|_| broken())?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "OK" => Ok(Self::Ok(rest.to_owned())),
            "ERR" => {
                let (code, words) = rest.split_once(' ').unwrap_or((rest, ""));
                let code = code.parse().map_err(|_| broken())?;
                let words = words.to_owned();
                Ok(Self::Err(Refusal { code, words }))
            }
            _ => Err(broken()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_lines() {
        assert_eq!(Question::Read("temp").encode().unwrap(), b"READ temp\r\n");
        assert_eq!(
            Question::Set("limit", "30").encode().unwrap(),
            b"SET limit 30\r\n"
        );
        let fits = "x".repeat(MAX_LINE - "SET a \r\n".len());
        assert_eq!(Question::Set("a", &fits).encode().unwrap().len(), MAX_LINE);
        assert_eq!(
            Question::Set("a", &format!("{fits}x")).encode(),
            Err(TooLong)
        );
    }

    #[test]
    fn answers_come_apart() {
        let ok = |text: &str| Ok(Answer::Ok(text.to_owned()));
        let refused = |code, words: &str| {
            let words = words.to_owned();
            Ok(Answer::Err(Refusal { code, words }))
        };
        assert_eq!(Answer::decode(b"OK 21.5\r\n"), ok("21.5"));
        assert_eq!(Answer::decode(b"OK\r\n"), ok(""));
        assert_eq!(Answer::decode(b"OK a b \r\n"), ok("a b "));
        assert_eq!(
            Answer::decode(b"ERR 4 probe broken\r\n"),
            refused(4, "probe broken")
        );
        assert_eq!(Answer::decode(b"ERR 9\r\n"), refused(9, ""));
    }

    #[test]
    fn whatever_else_comes_is_no_answer() {
        let lines: [&[u8]; 10] = [
            b"",
            b"\r\n",
            b"OK 21.5\n",
            b"OK 21.5",
            b"OKAY\r\n",
            b"ok 21.5\r\n",
            b"ERR\r\n",
            b"ERR broken\r\n",
            b"ERR -1 x\r\n",
            b"OK 2\x001.5\r\n",
        ];
        for line in lines {
            assert!(Answer::decode(line).is_err(), "{line:?}");
        }
        let broken = Answer::decode(b"\xff\xfe\r\n").unwrap_err();
        assert!(broken.to_string().contains("is no answer"), "{broken}");
    }
}
