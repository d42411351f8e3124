//! Commands: what a driver offers besides tags.
//!
//! **The connection is the command.** Whoever gives one waits for its answer on the same connection, plainly or as a stream of
//! server-sent events; closing the connection takes the command back, and so does `DELETE`, from anywhere. There is nothing to
//! poll, and no answer that is kept for somebody who may never come: a command that nobody waits for does not exist.
//!
//! A stream is asked for with `accept: text/event-stream`. It begins with `accepted`, which names the request; then come
//! `progress` events, of which a slow reader sees the last ones only; it ends with one `done` or one `failed`.
//!
//! Payloads are bytes. `payload` in a request is any JSON, whose text is what the driver gets; `payload_base64` is any bytes. An answer that is
//! JSON comes as `payload`, any other as `payload_base64`.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream;

use super::stream::{HEARTBEAT, event};
use super::tags::{json, timeout};
use super::{ApiError, App, wire};
use crate::channel::{Progress, RequestError};
use crate::ids::RequestId;
use crate::sink::Time;
use crate::supervisor::{CommandStep, RunningCommand, UnderWay};

/// Where no time is given: longer than for a tag, since much of it may be work.
const DEFAULT_TIMEOUT: Duration = crate::limits::COMMAND_TIME.default;

/// `GET`: the commands that the driver lists, and those under way.
pub(super) async fn list(
    State(app): State<App>,
    Path(channel): Path<String>,
) -> Result<Json<wire::Commands>, ApiError> {
    let channel = app.channel(&channel)?;
    let offered = channel.commands().iter().map(|offered| wire::Command {
        name: offered.name.clone(),
        help: offered.help.clone(),
        payload_schema: serde_json::from_str(&offered.payload_schema).ok(),
        answer_schema: serde_json::from_str(&offered.answer_schema).ok(),
        changes: offered.changes,
    });
    Ok(Json(wire::Commands {
        channel: channel.id().to_string(),
        offered: offered.collect(),
        under_way: channel
            .commands_under_way()
            .into_iter()
            .map(under_way)
            .collect(),
    }))
}

fn under_way(command: UnderWay) -> wire::CommandUnderWay {
    wire::CommandUnderWay {
        request: command.request.0,
        command: command.name,
        since: Time(command.since).to_string(),
        since_ns: command.since.0,
        timeout_ms: u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX),
        progress: command.progress.map(progress),
    }
}

fn progress(progress: Progress) -> wire::CommandProgress {
    wire::CommandProgress {
        fraction: progress.fraction,
        message: progress.message,
    }
}

/// `POST`: gives a command, and waits for its answer.
pub(super) async fn give(
    State(app): State<App>,
    Path((channel, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let channel = app.channel(&channel)?;
    let request: wire::CommandRequest = if body.is_empty() {
        wire::CommandRequest::default()
    } else {
        json(&body)?
    };
    let within = match request.timeout_ms {
        None => DEFAULT_TIMEOUT,
        given => timeout(given)?,
    };
    let payload = payload(&request)?;
    let running = channel.run_command(&name, payload, within)?;
    tracing::info!(channel = %channel.id(), command = name, request = %running.request(), "a command was given through the API");
    let given = Given {
        channel: channel.id().to_string(),
        command: name,
        request: running.request(),
    };
    if wants_stream(&headers) {
        return Ok(streamed(given, running));
    }
    let answer = running.answer().await?;
    Ok(Json(given.done(&answer)).into_response())
}

/// `DELETE`: takes a command back.
pub(super) async fn cancel(
    State(app): State<App>,
    Path((channel, request)): Path<(String, String)>,
) -> Result<Json<wire::CommandCancelled>, ApiError> {
    let channel = app.channel(&channel)?;
    let known = request
        .parse::<u64>()
        .ok()
        .filter(|request| channel.cancel_command(RequestId(*request)));
    let Some(request) = known else {
        let shown: String = request.chars().take(40).collect();
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "no-such-request",
            format!("channel {} has no command {shown} under way", channel.id()),
            format!(
                "GET /api/v1/channels/{}/commands shows those there are; one that has ended needs no cancel",
                channel.id()
            ),
        ));
    };
    Ok(Json(wire::CommandCancelled {
        channel: channel.id().to_string(),
        request,
    }))
}

fn payload(request: &wire::CommandRequest) -> Result<Vec<u8>, ApiError> {
    match (&request.payload, &request.payload_base64) {
        (None, None) => Ok(Vec::new()),
        (Some(json), None) => Ok(json.to_string().into_bytes()),
        (None, Some(text)) => BASE64.decode(text).map_err(|error| {
            ApiError::bad_request(
                format!("`payload_base64` is no base64: {error}"),
                "encode the bytes as RFC 4648 says, with padding",
            )
        }),
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "`payload` and `payload_base64` are both there",
            "give one of them",
        )),
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("text/event-stream"))
}

/// A command that was given.
struct Given {
    channel: String,
    command: String,
    request: RequestId,
}

impl Given {
    fn done(&self, answer: &[u8]) -> wire::CommandDone {
        let json: Option<serde_json::Value> = serde_json::from_slice(answer).ok();
        let base64 = (json.is_none() && !answer.is_empty()).then(|| BASE64.encode(answer));
        wire::CommandDone {
            channel: self.channel.clone(),
            command: self.command.clone(),
            request: self.request.0,
            payload: json,
            payload_base64: base64,
        }
    }
}

/// A stream of what becomes of a command. Dropping it takes the command back.
struct Follower {
    given: Given,
    running: RunningCommand,
    greeted: bool,
}

fn streamed(given: Given, running: RunningCommand) -> Response {
    let follower = Follower {
        given,
        running,
        greeted: false,
    };
    let pieces = stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        let (piece, more) = follower.next().await;
        Some((
            Ok::<_, std::convert::Infallible>(piece),
            more.then_some(follower),
        ))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl Follower {
    /// The next piece, which is never empty, and whether more will come.
    async fn next(&mut self) -> (Bytes, bool) {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.greeted, true) {
            let accepted = wire::CommandAccepted {
                channel: self.given.channel.clone(),
                command: self.given.command.clone(),
                request: self.given.request.0,
            };
            event(&mut out, "accepted", &accepted);
            return (out.into(), true);
        }
        let more = match tokio::time::timeout(HEARTBEAT, self.running.next()).await {
            // So that a peer that has gone is noticed.
            Err(_) => {
                out.extend_from_slice(b": still at work\n\n");
                true
            }
            Ok(CommandStep::Progress(report)) => {
                event(&mut out, "progress", &progress(report));
                true
            }
            Ok(CommandStep::Answered(answer)) => {
                self.ended(&mut out, answer);
                false
            }
        };
        (out.into(), more)
    }

    fn ended(&self, out: &mut Vec<u8>, answer: Result<Vec<u8>, RequestError>) {
        match answer {
            Ok(answer) => event(out, "done", &self.given.done(&answer)),
            Err(error) => {
                let error = ApiError::from(error).into_body();
                event(out, "failed", &wire::ErrorAnswer { error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_or_any_bytes_and_not_both() {
        let read = |text: &str| {
            let request: wire::CommandRequest = json(text.as_bytes()).unwrap();
            payload(&request)
        };
        assert_eq!(read("{}").unwrap(), b"");
        assert_eq!(
            read("{\"payload\":{\"a\":[1,2]}}").unwrap(),
            b"{\"a\":[1,2]}"
        );
        assert_eq!(read("{\"payload\":\"text\"}").unwrap(), b"\"text\"");
        assert_eq!(read("{\"payload_base64\":\"AP8=\"}").unwrap(), [0, 255]);
        assert!(read("{\"payload_base64\":\"AP8\"}").is_err());
        assert!(read("{\"payload\":1,\"payload_base64\":\"AP8=\"}").is_err());
    }

    #[test]
    fn an_answer_is_json_where_it_is_and_bytes_where_it_is_not() {
        let given = Given {
            channel: "a".into(),
            command: "b".into(),
            request: RequestId(3),
        };
        let shown = |answer: &[u8]| serde_json::to_string(&given.done(answer)).unwrap();
        let head = "{\"channel\":\"a\",\"command\":\"b\",\"request\":3";
        assert_eq!(shown(b""), format!("{head}}}"));
        assert_eq!(
            shown(b"{\"x\":1}"),
            format!("{head},\"payload\":{{\"x\":1}}}}")
        );
        assert_eq!(shown(b"null"), format!("{head},\"payload\":null}}"));
        assert_eq!(
            shown(b"\x00\xff"),
            format!("{head},\"payload_base64\":\"AP8=\"}}")
        );
    }
}
