//! Writes that come over MQTT: read, bounded, handed on, and answered once each.
//!
//! - Who may write is the broker's business: its access list says who may publish to the topic of writes.
//! - A write is acknowledged to the broker as soon as it is handed on, so it is tried at most once. Were it acknowledged when it is
//!   done, a broker would repeat it after a crash, to a plant that is not the same any more.
//! - **Repeated deliveries** (the DUP flag) mean that the broker is not sure whether we have it. One with an id that was taken for this
//!   tag before (the last 256 are known, over reconnections too, but not over restarts of the host) is passed over: its first
//!   delivery was or will be answered. One without an id might be a repetition, and is refused. The same id again without the
//!   flag is another write.
//! - **Retained messages** are refused: a broker would give them again at each connection. An empty one, which only clears what is
//!   retained, is passed over. Brokers of version 3.1.1 do not show that a message is retained as it comes fresh: it is
//!   written then, and refused whenever it comes again.
//! - At most 64 writes wait to be taken up and 256 for their answers; beyond that they are refused as `busy`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::topic;
use super::wire::Message;
use crate::config::WriteLevel;

/// Writes that wait to be taken up.
pub(crate) const WAITING: usize = 64;
/// Writes that wait for their answers, and answers that wait to be sent.
const UNDER_WAY: usize = 256;
/// Answers that wait to be sent; further ones are dropped.
const ANSWERS: usize = 1_024;
/// Ids by which a repetition is known.
const KNOWN: usize = 256;
/// The longest id, written as JSON, in bytes.
const MAX_ID: usize = 128;
/// The longest data that an answer is matched by, in bytes.
const MAX_CORRELATION: usize = 1_024;
/// For how long a write may take, where it does not say, and what it may say.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// What whoever writes is given beyond that before the answer is made without it.
const GRACE: Duration = Duration::from_secs(5);

/// A tag that somebody wants to write over MQTT.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    /// As the topic has it; there may be no such channel.
    pub(crate) channel: String,
    /// As the topic has it; there may be no such tag.
    pub(crate) tag: String,
    /// As the message has it; it may not fit the tag.
    pub(crate) value: Json,
    /// 1 ms to 5 min.
    pub(crate) timeout: Duration,
    /// Where the answer goes. If it is dropped, `restarted` is answered.
    pub(crate) answer: oneshot::Sender<WriteAnswer>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteAnswer {
    pub(crate) outcome: WriteOutcome,
    /// In one word, where there is one for it.
    pub(crate) code: Option<String>,
    /// In one sentence.
    pub(crate) message: Option<String>,
}

/// What became of a write, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// The device has it.
    Done,
    /// The device or its driver said no.
    Failed,
    /// Nobody said anything; it may have been done.
    TimedOut,
    /// The channel ended meanwhile; it may have been done.
    Restarted,
    /// It was not tried.
    Refused,
}

impl WriteOutcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            WriteOutcome::Done => "done",
            WriteOutcome::Failed => "failed",
            WriteOutcome::TimedOut => "timed-out",
            WriteOutcome::Restarted => "restarted",
            WriteOutcome::Refused => "refused",
        }
    }
}

/// An answer, ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) topic: String,
    pub(super) correlation: Option<Bytes>,
    pub(super) payload: Vec<u8>,
    /// Whether it was sent before, on a connection that broke.
    pub(super) again: bool,
}

/// To whom an answer goes.
struct Return {
    topic: String,
    correlation: Option<Bytes>,
    id: Option<Json>,
}

type Waiting = Pin<Box<dyn Future<Output = (Return, WriteAnswer)> + Send>>;

/// Where writes come in and answers go out. Outlives connections.
pub(super) struct Desk {
    sink: String,
    levels: Vec<WriteLevel>,
    requests: mpsc::Sender<WriteRequest>,
    waiting: FuturesUnordered<Waiting>,
    answers: VecDeque<Answer>,
    known: VecDeque<(String, String, Json)>,
}

impl Desk {
    pub(super) fn new(
        sink: &str,
        levels: &[WriteLevel],
        requests: mpsc::Sender<WriteRequest>,
    ) -> Self {
        Self {
            sink: sink.to_owned(),
            levels: levels.to_vec(),
            requests,
            waiting: FuturesUnordered::new(),
            answers: VecDeque::new(),
            known: VecDeque::new(),
        }
    }

    /// What is to be subscribed to.
    pub(super) fn filter(&self) -> String {
        topic::filter(&self.levels, &self.sink)
    }

    /// Takes what came.
    pub(super) fn take(&mut self, message: Message) {
        let Some((channel, tag)) = topic::written_to(&self.levels, &self.sink, &message.topic)
        else {
            tracing::debug!(topic = %crate::text::shown(&message.topic, 200), "a message that nobody asked for");
            return;
        };
        if message.retained && message.payload.as_ref().is_some_and(Bytes::is_empty) {
            return;
        }
        let mut to = Return {
            topic: self.answer_topic(&message),
            correlation: message
                .correlation
                .clone()
                .filter(|data| data.len() <= MAX_CORRELATION),
            id: None,
        };
        if message.retained {
            let why = "it is retained, so it would be written at each connection; publish it without retain";
            return self.refuse(to, "retained", why);
        }
        let Some(payload) = &message.payload else {
            return self.refuse(
                to,
                "too-large",
                "it is longer than 1 MiB; write less at once",
            );
        };
        let written = match read(payload) {
            Ok(written) => written,
            Err(why) => return self.refuse(to, "malformed", &why),
        };
        to.id.clone_from(&written.id);
        if message.repeated {
            let Some(id) = written.id else {
                let why =
                    "it may be a repetition, and has no id by which that could be known; add `id`";
                return self.refuse(to, "repeated", why);
            };
            if self
                .known
                .iter()
                .any(|known| (&known.0, &known.1, &known.2) == (&channel, &tag, &id))
            {
                return;
            }
        }
        if self.waiting.len() + self.answers.len() >= UNDER_WAY {
            return self.refuse(to, "busy", "too many writes are under way; try again later");
        }
        let (answer, answered) = oneshot::channel();
        let request = WriteRequest {
            channel: channel.clone(),
            tag: tag.clone(),
            value: written.value,
            timeout: written.timeout,
            answer,
        };
        match self.requests.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return self.refuse(to, "busy", "too many writes wait; try again later");
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return self.refuse(to, "stopping", "the host is stopping; try again later");
            }
        }
        if let Some(id) = &to.id {
            self.known.truncate(KNOWN - 1);
            self.known.push_front((channel, tag, id.clone()));
        }
        let at_most = written.timeout + GRACE;
        self.waiting.push(Box::pin(async move {
            let answer = match timeout(at_most, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_dropped)) => WriteAnswer {
                    outcome: WriteOutcome::Restarted,
                    code: None,
                    message: Some("whoever wrote it ended; it may have been written".to_owned()),
                },
                Err(_elapsed) => WriteAnswer {
                    outcome: WriteOutcome::TimedOut,
                    code: None,
                    message: Some(
                        "there was no answer in time; it may have been written".to_owned(),
                    ),
                },
            };
            (to, answer)
        }));
    }

    /// Waits for the next write to come to its end. May be dropped at any time.
    pub(super) async fn settle(&mut self) {
        match self.waiting.next().await {
            Some((to, answer)) => self.answer(to, &answer),
            None => std::future::pending().await,
        }
    }

    /// The next answer to be sent.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// An answer could not be sent, as far as is known. It is tried once more: one over which a broker hangs up must not cut the sink
    /// off for ever.
    pub(super) fn give_back(&mut self, answer: Answer) {
        if answer.again {
            tracing::warn!(topic = %crate::text::shown(&answer.topic, 200), "an answer is dropped: the connection broke over it twice");
            return;
        }
        self.answers.push_front(Answer {
            again: true,
            ..answer
        });
    }

    /// The topic that was asked for; never one that would come back as a write.
    fn answer_topic(&self, message: &Message) -> String {
        let asked = message.response_topic.as_ref().filter(|topic| {
            topic::is_publishable(topic)
                && topic::written_to(&self.levels, &self.sink, topic).is_none()
        });
        asked
            .cloned()
            .unwrap_or_else(|| format!("{}/answer", message.topic))
    }

    fn refuse(&mut self, to: Return, code: &str, why: &str) {
        let refused = WriteAnswer {
            outcome: WriteOutcome::Refused,
            code: Some(code.to_owned()),
            message: Some(why.to_owned()),
        };
        self.answer(to, &refused);
    }

    fn answer(&mut self, to: Return, answer: &WriteAnswer) {
        if self.answers.len() >= ANSWERS {
            tracing::warn!(topic = %crate::text::shown(&to.topic, 200), "an answer is dropped: too many wait for the broker");
            return;
        }
        if !topic::is_publishable(&to.topic) {
            tracing::warn!(topic = %crate::text::shown(&to.topic, 200), "an answer is dropped: its topic is too long");
            return;
        }
        let mut payload = serde_json::Map::new();
        if let Some(id) = to.id {
            payload.insert("id".to_owned(), id);
        }
        payload.insert("outcome".to_owned(), answer.outcome.as_str().into());
        for (name, said) in [("code", &answer.code), ("message", &answer.message)] {
            if let Some(said) = said {
                payload.insert(name.to_owned(), said.as_str().into());
            }
        }
        self.answers.push_back(Answer {
            topic: to.topic,
            correlation: to.correlation,
            payload: Json::Object(payload).to_string().into_bytes(),
            again: false,
        });
    }
}

#[derive(Debug, PartialEq)]
struct Written {
    value: Json,
    id: Option<Json>,
    timeout: Duration,
}

/// A value, or an object with a value in it.
fn read(payload: &[u8]) -> Result<Written, String> {
    let whole: Json = serde_json::from_slice(payload).map_err(|error| {
        format!("it is no JSON ({error}); write a number, true, false, a text in quotes, or {{\"value\": ..}}")
    })?;
    let Json::Object(mut members) = whole else {
        return Ok(Written {
            value: whole,
            id: None,
            timeout: TIMEOUT,
        });
    };
    let value = members
        .remove("value")
        .ok_or("it has no `value`; write {\"value\": ..}")?;
    let id = members.remove("id");
    if let Some(id) = &id {
        let is_id = (id.is_string() || id.is_number()) && id.to_string().len() <= MAX_ID;
        if !is_id {
            return Err(format!(
                "`id` is no text or number of at most {MAX_ID} bytes; shorten it, or leave it out"
            ));
        }
    }
    let timeout = match members.remove("timeout_ms") {
        None => TIMEOUT,
        Some(written) => written
            .as_u64()
            .map(Duration::from_millis)
            .filter(|timeout| (Duration::from_millis(1)..=MAX_TIMEOUT).contains(timeout))
            .ok_or("`timeout_ms` is out of its bounds; use 1 to 300000")?,
    };
    match members.keys().next() {
        None => Ok(Written { value, id, timeout }),
        Some(unknown) => Err(format!(
            "`{}` is unknown; use `value`, `id` and `timeout_ms`",
            crate::text::shown(unknown, 60)
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn desk() -> (Desk, mpsc::Receiver<WriteRequest>) {
        let levels = [
            WriteLevel::Text("b".to_owned()),
            WriteLevel::Channel,
            WriteLevel::Text("write".to_owned()),
            WriteLevel::Tag,
        ];
        let (sender, receiver) = mpsc::channel(WAITING);
        (Desk::new("m", &levels, sender), receiver)
    }

    fn message(payload: &str) -> Message {
        Message {
            repeated: false,
            retained: false,
            topic: "b/press/write/speed".to_owned(),
            id: None,
            response_topic: None,
            correlation: None,
            payload: Some(Bytes::copy_from_slice(payload.as_bytes())),
        }
    }

    fn said(desk: &mut Desk) -> (String, Json) {
        let answer = desk.next_answer().expect("an answer");
        (
            answer.topic,
            serde_json::from_slice(&answer.payload).unwrap(),
        )
    }

    #[tokio::test]
    async fn a_write_is_handed_on_and_answered_once() {
        let (mut desk, mut requests) = desk();
        let asked = Message {
            response_topic: Some("me/answers".to_owned()),
            correlation: Some(Bytes::from_static(b"7")),
            ..message(r#"{"value":21.5,"id":"x1","timeout_ms":500}"#)
        };
        desk.take(asked.clone());
        let request = requests.try_recv().unwrap();
        assert_eq!(
            (
                request.channel.as_str(),
                request.tag.as_str(),
                request.value,
                request.timeout
            ),
            ("press", "speed", json!(21.5), Duration::from_millis(500))
        );
        // A repetition is known while it is under way and afterwards.
        let repeated = Message {
            repeated: true,
            ..asked.clone()
        };
        desk.take(repeated.clone());
        let done = WriteAnswer {
            outcome: WriteOutcome::Done,
            code: None,
            message: None,
        };
        request.answer.send(done).unwrap();
        desk.settle().await;
        let answer = desk.next_answer().unwrap();
        assert_eq!(
            (
                answer.topic.as_str(),
                answer.correlation.as_deref(),
                answer.payload.as_slice()
            ),
            (
                "me/answers",
                Some(&b"7"[..]),
                &br#"{"id":"x1","outcome":"done"}"#[..]
            )
        );
        desk.take(repeated);
        assert!(requests.try_recv().is_err() && desk.next_answer().is_none());
        desk.take(asked);
        assert!(
            requests.try_recv().is_ok(),
            "the same id without the flag is another write"
        );
    }

    #[tokio::test]
    async fn whatever_becomes_of_it_there_is_an_answer() {
        let (mut desk, mut requests) = desk();
        desk.take(message("1"));
        drop(requests.try_recv().unwrap());
        desk.settle().await;
        assert_eq!(said(&mut desk).1["outcome"], "restarted");
        desk.take(message(r#"{"value":1,"timeout_ms":1}"#));
        let kept = requests.try_recv().unwrap();
        desk.settle().await;
        assert_eq!(said(&mut desk).1["outcome"], "timed-out");
        drop(kept);
        drop(requests);
        desk.take(message("1"));
        assert_eq!(said(&mut desk).1["code"], "stopping");
    }

    #[test]
    fn what_is_not_written_is_refused_with_its_reason() {
        let (mut desk, mut requests) = desk();
        let mut check = |message: Message, code: &str| {
            desk.take(message);
            let (topic, answer) = said(&mut desk);
            assert_eq!(
                (&answer["outcome"], &answer["code"]),
                (&json!("refused"), &json!(code)),
                "{answer}"
            );
            assert!(
                answer["message"].as_str().unwrap().contains("; "),
                "{answer}"
            );
            assert_eq!(topic, "b/press/write/speed/answer");
        };
        for payload in [
            "",
            "open",
            "{}",
            r#"{"value":1,"id":null}"#,
            r#"{"value":1,"id":[1]}"#,
            r#"{"value":1,"timeout_ms":0}"#,
            r#"{"value":1,"timeout_ms":300001}"#,
            r#"{"value":1,"timeout_ms":"1"}"#,
            r#"{"value":1,"valeu":2}"#,
        ] {
            check(message(payload), "malformed");
        }
        check(
            message(&format!(r#"{{"value":1,"id":"{}"}}"#, "x".repeat(MAX_ID))),
            "malformed",
        );
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message = message("1");
            change(&mut message);
            message
        };
        check(changed(&|message| message.retained = true), "retained");
        check(changed(&|message| message.repeated = true), "repeated");
        check(changed(&|message| message.payload = None), "too-large");
        // An answer never goes where it would be taken for a write.
        let looped = |message: &mut Message| {
            message.retained = true;
            message.response_topic = Some("b/press/write/speed".to_owned());
        };
        check(changed(&looped), "retained");
        assert!(requests.try_recv().is_err());
        // What clears a retained message, and what nobody asked for.
        desk.take(changed(&|message| {
            message.retained = true;
            message.payload = Some(Bytes::new());
        }));
        desk.take(changed(&|message| {
            message.topic = "b/press/write/speed/answer".to_owned()
        }));
        assert!(desk.next_answer().is_none());
    }

    #[test]
    fn too_many_are_refused_at_once() {
        let (mut desk, _requests) = desk();
        for _ in 0..WAITING {
            desk.take(message("1"));
        }
        assert!(desk.next_answer().is_none());
        desk.take(message("1"));
        assert_eq!(said(&mut desk).1["code"], "busy");
    }

    #[test]
    fn values_come_as_they_are() {
        let check = |payload: &str, value: Json| {
            assert_eq!(read(payload.as_bytes()).unwrap().value, value, "{payload}")
        };
        check("18446744073709551615", json!(u64::MAX));
        check("-1", json!(-1));
        check("true", json!(true));
        check(r#""open""#, json!("open"));
        check("[1,2]", json!([1, 2]));
        check(r#"{"value":null}"#, json!(null));
        check(r#" {"value":"NaN", "id": 7} "#, json!("NaN"));
    }
}
