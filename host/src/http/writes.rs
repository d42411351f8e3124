//! Writes, one or many at once. Each has an answer of its own.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::tags::{json, json_value, tag_of, timeout};
use super::{ApiError, App, value, wire};
use crate::supervisor::{ChannelHandle, Writer};

/// The longest name that a writer may give, in bytes.
const MAX_WHO: usize = 64;
/// Writes in one request.
const MAX_WRITES: usize = 1_000;
/// Writes of one request that a channel has at once; fewer than its mailbox holds.
const AT_ONCE: usize = 32;

/// Writes of one request: which of them, and what.
type Numbered<'a> = Vec<(usize, &'a wire::WriteOf)>;

/// How a write is to be done.
#[derive(Clone, Copy)]
struct Manner<'a> {
    read_back: bool,
    timeout: Duration,
    writer: Writer<'a>,
}

impl<'a> Manner<'a> {
    fn new(
        read_back: bool,
        timeout_ms: Option<u64>,
        by: Option<&'a str>,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            read_back,
            timeout: timeout(timeout_ms)?,
            writer: Writer {
                via: "http",
                by: who(by)?,
            },
        })
    }
}

pub(super) async fn write(
    State(app): State<App>,
    Path((channel, tag)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<wire::Written>, ApiError> {
    let (channel, _, config) = app.tag(&channel, &tag)?;
    let request: wire::WriteRequest = json(&body)?;
    let manner = Manner::new(request.read_back, request.timeout_ms, request.by.as_deref())?;
    let name = config.name.clone();
    one(channel, &name, &request.value, manner).await.map(Json)
}

/// `POST`: many at once. Those of one channel go in their order, those of several channels side by side.
pub(super) async fn write_many(
    State(app): State<App>,
    body: Bytes,
) -> Result<Json<wire::WriteManyAnswer>, ApiError> {
    let request: wire::WriteManyRequest = json(&body)?;
    if !(1..=MAX_WRITES).contains(&request.writes.len()) {
        let message = format!("{} writes are given", request.writes.len());
        let remedy = format!("give 1 to {MAX_WRITES} at once");
        return Err(ApiError::bad_request(message, remedy));
    }
    let manner = Manner::new(request.read_back, request.timeout_ms, request.by.as_deref())?;
    let mut results: Vec<Option<wire::WriteResult>> = Vec::with_capacity(request.writes.len());
    let mut wanted: HashMap<&str, (&ChannelHandle, Numbered<'_>)> = HashMap::new();
    for (at, write) in request.writes.iter().enumerate() {
        match tag_of(&app, &write.tag) {
            Ok((channel, _)) => {
                let of_channel = wanted.entry(channel.id().as_str());
                of_channel
                    .or_insert((channel, Vec::new()))
                    .1
                    .push((at, write));
                results.push(None);
            }
            Err(error) => results.push(Some(failed(&write.tag, error))),
        }
    }
    let asked = wanted
        .into_values()
        .map(|(channel, writes)| in_order(channel, writes, manner));
    for (at, done) in join_all(asked).await.into_iter().flatten() {
        results[at] = Some(done);
    }
    Ok(Json(wire::WriteManyAnswer {
        results: results.into_iter().flatten().collect(),
    }))
}

/// The writes of one channel, begun in their order.
async fn in_order(
    channel: &ChannelHandle,
    writes: Numbered<'_>,
    manner: Manner<'_>,
) -> Vec<(usize, wire::WriteResult)> {
    let each: Vec<_> = writes
        .into_iter()
        .map(|(at, write)| numbered(channel, at, write, manner))
        .collect();
    stream::iter(each).buffered(AT_ONCE).collect().await
}

async fn numbered(
    channel: &ChannelHandle,
    at: usize,
    write: &wire::WriteOf,
    manner: Manner<'_>,
) -> (usize, wire::WriteResult) {
    let name = write.tag.split_once('/').map_or("", |(_, name)| name);
    let done = match one(channel, name, &write.value, manner).await {
        Ok(written) => wire::WriteResult::Done(written),
        Err(error) => failed(&write.tag, error),
    };
    (at, done)
}

async fn one(
    channel: &ChannelHandle,
    name: &str,
    given: &serde_json::Value,
    manner: Manner<'_>,
) -> Result<wire::Written, ApiError> {
    let found = channel
        .tag_id(name)
        .and_then(|id| Some((id, channel.tags().tags().get(id.index())?)));
    let (id, config) = found.ok_or_else(|| ApiError::no_such_tag(channel.id().as_str(), name))?;
    let value = value::from_json(config.data_type, given).map_err(|wrong| {
        let message = format!(
            "tag {} is of type {}: {wrong}",
            config.name, config.data_type
        );
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-value",
            message,
            "give a value of the tag's own type",
        )
    })?;
    let written = json_value(&value);
    let Manner {
        read_back,
        timeout,
        writer,
    } = manner;
    let read_back = channel.write(id, value, read_back, timeout, writer).await?;
    tracing::info!(channel = %channel.id(), tag = config.name, by = writer.by, "a tag was written through the API");
    Ok(wire::Written {
        channel: channel.id().to_string(),
        tag: config.name.to_string(),
        value: written,
        read_back: read_back.as_ref().map(json_value),
    })
}

/// Who writes, as they call themselves.
fn who(by: Option<&str>) -> Result<Option<&str>, ApiError> {
    match by {
        Some(by) if by.is_empty() || by.len() > MAX_WHO || by.chars().any(char::is_control) => {
            let message = format!(
                "`by` is empty, longer than {MAX_WHO} bytes, or has control characters in it"
            );
            Err(ApiError::bad_request(
                message,
                "give a short name, or leave it out",
            ))
        }
        by => Ok(by),
    }
}

fn failed(reference: &str, error: ApiError) -> wire::WriteResult {
    wire::WriteResult::Failed {
        reference: reference.chars().take(200).collect(),
        error: error.into_body(),
    }
}
