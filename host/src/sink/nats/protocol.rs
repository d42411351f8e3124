//! The words of the NATS client protocol, as far as a publisher needs them (NATS documentation, "Client Protocol").
//!
//! Pure: bytes in, words out, and the other way round. What a server says is bounded before it is kept, and read without trust.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::Deserialize;

/// The longest line of a server: its `INFO` names every server of a cluster.
const LONGEST_LINE: usize = 64 * 1024;
/// The longest message of a server. Answers of JetStream are a few hundred bytes.
const LONGEST_MESSAGE: usize = 1024 * 1024;

/// What a server says.
#[derive(Debug, PartialEq)]
pub(super) enum Word {
    /// Who it is and what it takes.
    Info(Box<Info>),
    /// An answer.
    Message(Message),
    /// It asks whether we are there.
    Ping,
    /// It is there.
    Pong,
    /// Something is wrong; it may hang up.
    Error(String),
    /// It has understood.
    Ok,
}

/// An answer to a request or a publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Where it was sent to: the inbox of what it answers.
    pub(super) subject: String,
    /// Such as 503, that nobody is there to answer.
    pub(super) status: Option<u16>,
    pub(super) payload: Bytes,
}

/// What a server says of itself first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    /// The most bytes of a message, with its headers.
    pub(super) max_payload: usize,
    /// Whether messages may have headers.
    pub(super) headers: bool,
    /// Whether it asks who we are.
    pub(super) auth_required: bool,
    pub(super) tls_required: bool,
    pub(super) tls_available: bool,
    /// To be signed by whoever logs in with a key.
    pub(super) nonce: String,
}

/// What no server of NATS says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Garbled {
    #[error("a line of more than 64 KiB")]
    LongLine,
    #[error("a message of more than 1 MiB")]
    LongMessage,
    #[error("a line that is not of its protocol")]
    Line,
}

/// Takes the next word off the front; `None` if it is not all there yet.
pub(super) fn next(bytes: &mut BytesMut) -> Result<Option<Word>, Garbled> {
    let window = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|two| two == b"\r\n") else {
        return match bytes.len() > LONGEST_LINE {
            true => Err(Garbled::LongLine),
            false => Ok(None),
        };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Garbled::Line)?;
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let word = match verb.to_ascii_uppercase().as_str() {
        "MSG" | "HMSG" => {
            let with_headers = verb.len() == 4;
            let Some(head) = Head::parse(rest, with_headers) else {
                return Err(Garbled::Line);
            };
            return message(bytes, end + 2, head);
        }
        "PING" => Word::Ping,
        "PONG" => Word::Pong,
        "+OK" => Word::Ok,
        "-ERR" => Word::Error(rest.trim().trim_matches('\'').to_owned()),
        "INFO" => {
            let info = serde_json::from_str(rest).map_err(|_| Garbled::Line)?;
            Word::Info(Box::new(info))
        }
        _ => return Err(Garbled::Line),
    };
    bytes.advance(end + 2);
    Ok(Some(word))
}

/// The line before a message.
struct Head {
    subject: String,
    headers: usize,
    /// Headers and payload together.
    total: usize,
}

impl Head {
    /// `subject sid [reply] [header-length] length`
    fn parse(rest: &str, with_headers: bool) -> Option<Self> {
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let length = |from_end: usize| {
            let word = words.get(words.len().checked_sub(from_end)?)?;
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| word.parse().ok()).flatten()
        };
        let lengths = if with_headers { 2 } else { 1 };
        if !(2..=3).contains(&words.len().checked_sub(lengths)?) {
            return None;
        }
        let total: usize = length(1)?;
        let headers = if with_headers { length(2)? } else { 0 };
        (headers <= total).then_some(Self {
            subject: (*words.first()?).to_owned(),
            headers,
            total,
        })
    }
}

fn message(bytes: &mut BytesMut, at: usize, head: Head) -> Result<Option<Word>, Garbled> {
    if head.total > LONGEST_MESSAGE {
        return Err(Garbled::LongMessage);
    }
    if bytes.len() < at + head.total + 2 {
        return Ok(None);
    }
    bytes.advance(at);
    let mut whole = bytes.split_to(head.total);
    if !bytes.starts_with(b"\r\n") {
        return Err(Garbled::Line);
    }
    bytes.advance(2);
    let headers = whole.split_to(head.headers);
    Ok(Some(Word::Message(Message {
        subject: head.subject,
        status: status(&headers),
        payload: whole.freeze(),
    })))
}

/// `NATS/1.0 503`
fn status(headers: &[u8]) -> Option<u16> {
    let line = headers.split(|byte| *byte == b'\r').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("NATS/1.0")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What a publisher says of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publish<'a> {
    pub(super) subject: &'a str,
    /// Where the answer is to be sent.
    pub(super) reply: &'a str,
    /// By which the stream knows a message that it has already.
    pub(super) id: &'a str,
    /// The stream that must take it.
    pub(super) stream: &'a str,
    pub(super) payload: &'a [u8],
}

/// The bytes of the headers of such a message.
pub(super) fn headers_of(id: &str, stream: &str) -> usize {
    "NATS/1.0\r\nNats-Msg-Id: \r\nNats-Expected-Stream: \r\n\r\n".len() + id.len() + stream.len()
}

/// Appends a publish with headers. None of its parts may hold a space or a line's end but the payload; names are escaped before.
pub(super) fn publish(to: &mut Vec<u8>, message: Publish<'_>) {
    let Publish {
        subject,
        reply,
        id,
        stream,
        payload,
    } = message;
    let headers = headers_of(id, stream);
    let total = headers + payload.len();
    to.extend_from_slice(format!("HPUB {subject} {reply} {headers} {total}\r\n").as_bytes());
    to.extend_from_slice(
        format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\nNats-Expected-Stream: {stream}\r\n\r\n")
            .as_bytes(),
    );
    to.extend_from_slice(payload);
    to.extend_from_slice(b"\r\n");
}

/// Appends a request without headers.
pub(super) fn request(to: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    to.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
    to.extend_from_slice(payload);
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Word>, Garbled> {
        let mut bytes = BytesMut::from(bytes);
        let mut words = Vec::new();
        while let Some(word) = next(&mut bytes)? {
            words.push(word);
        }
        Ok(words)
    }

    fn answer(subject: &str, status: Option<u16>, payload: &'static [u8]) -> Word {
        Word::Message(Message {
            subject: subject.to_owned(),
            status,
            payload: Bytes::from_static(payload),
        })
    }

    #[test]
    fn words_are_read_wherever_they_are_cut() {
        let said: &[u8] = b"INFO {\"max_payload\":1048576,\"headers\":true,\"unknown\":[1]} \r\nPING\r\n+OK\r\n\
            MSG _INBOX.a.1 1 5\r\nhi\r\nx\r\nHMSG _INBOX.a.2 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n\
            HMSG _INBOX.a.3 1 reply 12 14\r\nNATS/1.0\r\n\r\n{}\r\n-ERR 'Authorization Violation'\r\nPONG\r\n";
        let expected = [
            Word::Info(Box::new(Info {
                max_payload: 1_048_576,
                headers: true,
                ..Info::default()
            })),
            Word::Ping,
            Word::Ok,
            answer("_INBOX.a.1", None, b"hi\r\nx"),
            answer("_INBOX.a.2", Some(503), b""),
            answer("_INBOX.a.3", None, b"{}"),
            Word::Error("Authorization Violation".to_owned()),
            Word::Pong,
        ];
        assert_eq!(read(said).unwrap(), expected);
        let mut bytes = BytesMut::new();
        let mut words = Vec::new();
        for byte in said {
            bytes.extend_from_slice(&[*byte]);
            words.extend(next(&mut bytes).unwrap());
        }
        assert_eq!(words, expected);
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_is_garbled_is_refused_and_nothing_grows_without_bound() {
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b"INFO {\r\n",
            b"MSG a 1\r\n",
            b"MSG a 1 b c 1\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 x\r\n",
            b"HMSG a 1 5 4\r\n",
            b"MSG a 1 1\r\nabc",
            b"MSG \xff 1 1\r\n",
        ] {
            assert_eq!(read(bad), Err(Garbled::Line), "{}", bad.escape_ascii());
        }
        assert_eq!(read(b"MSG a 1 99999999\r\n"), Err(Garbled::LongMessage));
        assert_eq!(
            read(b"MSG a 1 99999999999999999999999\r\n"),
            Err(Garbled::Line)
        );
        assert_eq!(read(&vec![b'a'; LONGEST_LINE + 1]), Err(Garbled::LongLine));
    }

    #[test]
    fn what_is_published_says_how_long_it_is() {
        let mut bytes = Vec::new();
        publish(
            &mut bytes,
            Publish {
                subject: "plant.a",
                reply: "_INBOX.b.1",
                id: "a:1:1-2:2",
                stream: "S",
                payload: b"{}",
            },
        );
        let text = String::from_utf8(bytes).unwrap();
        let (line, rest) = text.split_once("\r\n").unwrap();
        let headers = headers_of("a:1:1-2:2", "S");
        assert_eq!(
            line,
            format!("HPUB plant.a _INBOX.b.1 {headers} {}", headers + 2)
        );
        assert_eq!(
            rest,
            "NATS/1.0\r\nNats-Msg-Id: a:1:1-2:2\r\nNats-Expected-Stream: S\r\n\r\n{}\r\n"
        );
        assert_eq!(rest.find("{}"), Some(headers));
    }
}
