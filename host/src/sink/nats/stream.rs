//! JetStream: what a stream is asked, and what it answers (NATS documentation, "JetStream wire API").
//!
//! A stream that is there is used as it is; only a missing one is made, without limits. Where somebody limits it later, it refuses what
//! is new rather than dropping what was acknowledged, and the sink waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::fault::Fault;
use super::protocol::Message;
use crate::config::NatsSink;
use crate::text::shown;

/// Nobody listens on the subject.
const NO_RESPONDERS: u16 = 503;
/// `JSStreamNotFoundErr`
const NOT_FOUND: u64 = 10_059;
/// `JSStreamNameExistErr`: another has made it meanwhile, in another way.
const NAME_IN_USE: u64 = 10_058;
/// `JSStreamMessageExceedsMaximumErr`
const TOO_LARGE: u64 = 10_054;
/// `JSStreamNotMatchErr`: another stream takes the subject.
const OTHER_STREAM: u64 = 10_060;

/// What JetStream says to a publish.
#[derive(Debug)]
pub(super) enum Ack {
    Stored,
    /// It had the message already.
    Duplicate,
    /// It will never take this message.
    TooLarge(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    stream: String,
    duplicate: bool,
    config: Config,
    error: Option<Error>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {
    err_code: u64,
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    max_msg_size: i64,
}

#[derive(Serialize)]
struct Create<'a> {
    name: &'a str,
    subjects: [&'a str; 1],
    retention: &'static str,
    storage: &'static str,
    discard: &'static str,
    max_consumers: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_age: u64,
    max_msg_size: i64,
    num_replicas: u32,
    duplicate_window: u64,
}

/// Finds the stream, or makes it. Gives the longest message that it takes, if it says so.
pub(super) async fn ensure(client: &mut Client, sink: &NatsSink) -> Result<Option<usize>, Fault> {
    let stream = &sink.stream;
    let info = format!("$JS.API.STREAM.INFO.{stream}");
    let mut made = false;
    loop {
        let answer = read(&client.ask(&info, b"").await?)?;
        match answer.error {
            None => return Ok(usize::try_from(answer.config.max_msg_size).ok()),
            Some(error) if error.err_code == NOT_FOUND && sink.create && !made => made = true,
            Some(error) if error.err_code == NOT_FOUND => {
                return Err(Fault::NoStream {
                    stream: stream.clone(),
                });
            }
            Some(error) => return Err(refused(error)),
        }
        let create = Create {
            name: stream,
            subjects: [&sink.subject.pattern()],
            retention: "limits",
            storage: "file",
            discard: "new",
            max_consumers: -1,
            max_msgs: -1,
            max_bytes: -1,
            max_age: 0,
            max_msg_size: -1,
            num_replicas: 1,
            duplicate_window: nanos(sink.duplicate_window),
        };
        let create = serde_json::to_vec(&create).expect("numbers and texts are JSON");
        let subject = format!("$JS.API.STREAM.CREATE.{stream}");
        match read(&client.ask(&subject, &create).await?)?.error {
            Some(error) if error.err_code != NAME_IN_USE => return Err(refused(error)),
            _ => {}
        }
    }
}

/// Reads what a publish to `subject` was answered.
pub(super) fn ack(message: &Message, stream: &str, subject: &str) -> Result<Ack, Fault> {
    let not_taken = || Fault::NotTaken {
        stream: stream.to_owned(),
        subject: subject.to_owned(),
    };
    if message.status == Some(NO_RESPONDERS) {
        return Err(not_taken());
    }
    let answer = read(message)?;
    match answer.error {
        Some(error) if error.err_code == OTHER_STREAM => Err(not_taken()),
        Some(error) if error.err_code == TOO_LARGE => Ok(Ack::TooLarge(refused(error).to_string())),
        Some(error) => Err(refused(error)),
        None if answer.stream != stream => Err(not_taken()),
        None if answer.duplicate => Ok(Ack::Duplicate),
        None => Ok(Ack::Stored),
    }
}

fn read(message: &Message) -> Result<Answer, Fault> {
    if message.status == Some(NO_RESPONDERS) {
        return Err(Fault::NoJetStream);
    }
    serde_json::from_slice(&message.payload).map_err(|wrong| Fault::NotNats {
        cause: format!("an answer of JetStream is none: {wrong}"),
    })
}

fn refused(error: Error) -> Fault {
    let Error {
        err_code,
        description,
    } = error;
    let full = description.contains("exceeded");
    Fault::JetStream {
        code: err_code,
        remedy: match err_code {
            10_076 | 10_039 => "switch JetStream on, for the server and for this account",
            10_054 => "raise the longest message of the stream (`max_msg_size`)",
            10_023 | 10_047 | 10_002 | 10_028 => {
                "make room on its disk, or raise what JetStream and this account may store"
            }
            10_077 if full => "raise the limits of the stream, or let it discard old messages",
            10_077 => "see to the disk of the server",
            10_065 => {
                "another stream takes these subjects; write its name as `stream`, or another `subject`"
            }
            _ => "see the server's log",
        },
        said: shown(&description, 400),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answered(payload: &str, status: Option<u16>) -> Result<Ack, Fault> {
        let message = Message {
            subject: String::new(),
            status,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        };
        ack(&message, "S", "plant.a")
    }

    #[test]
    fn acknowledgements_are_told_apart() {
        let stored = r#"{"stream":"S","seq":7}"#;
        assert!(matches!(answered(stored, None), Ok(Ack::Stored)));
        let again = r#"{"stream":"S","seq":7,"duplicate":true}"#;
        assert!(matches!(answered(again, None), Ok(Ack::Duplicate)));
        let large = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
        assert!(
            matches!(answered(large, None), Ok(Ack::TooLarge(why)) if why.contains("max_msg_size"))
        );
        for (payload, status, part) in [
            ("", Some(503), "plant.a"),
            (r#"{"stream":"T","seq":7}"#, None, "plant.a"),
            (
                r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}"#,
                None,
                "plant.a",
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#,
                None,
                "raise the limits of the stream",
            ),
            ("x", None, "is none"),
        ] {
            let fault = answered(payload, status).unwrap_err().to_string();
            assert!(fault.contains(part), "{fault}");
        }
    }
}
