//! Outboxes: what waits on the disk for sinks.

use std::convert::Infallible;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::task::spawn_blocking;

use super::{ApiError, App, wire};
use crate::event::GapReason;
use crate::outbox::{Outbox, OutboxError};
use crate::sink::{SinkStatus, json_lines};

/// Samples that are exported in one piece.
const PIECE: u64 = 2_000;

pub(super) async fn list(State(app): State<App>) -> Json<wire::OutboxList> {
    let statuses = app.inner.sinks.statuses().into_iter();
    Json(wire::OutboxList {
        outboxes: statuses.filter_map(shown).collect(),
    })
}

pub(super) async fn show(
    State(app): State<App>,
    Path(sink): Path<String>,
) -> Result<Json<wire::OutboxDetail>, ApiError> {
    let outbox = known(&app, &sink)?.clone();
    let mut statuses = app.inner.sinks.statuses().into_iter();
    let status = statuses.find(|status| status.name == sink).and_then(shown);
    let status = status.ok_or_else(|| no_outbox(&app, &sink))?;
    let marks = spawn_blocking(move || outbox.marks()).await;
    let marks = marks.map_err(|error| unavailable(&error.to_string()))?;
    let marks = marks.map_err(|error| away(&error))?;
    let channels = marks.into_iter().map(|mark| wire::OutboxMark {
        channel: mark.channel,
        accepted_epoch: mark.accepted.0,
        accepted_sequence: mark.accepted.1,
        acknowledged_epoch: mark.acknowledged.0,
        acknowledged_sequence: mark.acknowledged.1,
    });
    Ok(Json(wire::OutboxDetail {
        outbox: status,
        channels: channels.collect(),
    }))
}

pub(super) async fn purge(
    State(app): State<App>,
    Path(sink): Path<String>,
) -> Result<Json<wire::OutboxPurged>, ApiError> {
    let outbox = known(&app, &sink)?.clone();
    let status = outbox.status();
    if let Some(trouble) = status
        .trouble
        .filter(|_| !status.accepting && status.commits == 0)
    {
        return Err(unavailable(&trouble));
    }
    let purged = outbox.purge().await;
    let purged = purged.ok_or_else(|| unavailable("the host is stopping"))?;
    tracing::warn!(
        sink,
        samples = purged.samples,
        "an operator emptied the outbox"
    );
    Ok(Json(wire::OutboxPurged {
        samples: purged.samples,
    }))
}

/// The samples and gaps that wait, as JSON lines, the oldest first: those that were there when it was asked.
pub(super) async fn export(
    State(app): State<App>,
    Path(sink): Path<String>,
) -> Result<Response, ApiError> {
    let outbox = known(&app, &sink)?.clone();
    let until = outbox.newest();
    let pieces = stream::unfold(Some(0), move |after| {
        let (outbox, sink) = (outbox.clone(), sink.clone());
        async move {
            let after = after?;
            if after >= until {
                return None;
            }
            let piece = spawn_blocking(move || piece(&outbox, &sink, after)).await;
            match piece {
                Ok(Ok((last, bytes))) if last > after => {
                    Some((Ok::<_, Infallible>(bytes), Some(last)))
                }
                Ok(Ok(_)) => None,
                Ok(Err(error)) => {
                    tracing::error!(%error, "an export of an outbox ends early");
                    None
                }
                Err(_) => None,
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

fn piece(outbox: &Outbox, sink: &str, after: u64) -> Result<(u64, Bytes), OutboxError> {
    let (last, items) = outbox.peek(after, PIECE)?;
    Ok((last, json_lines(&items, sink).into()))
}

fn shown(status: SinkStatus) -> Option<wire::Outbox> {
    let outbox = status.outbox?;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let dropped = GapReason::ALL.iter().zip(outbox.counts.dropped);
    Some(wire::Outbox {
        sink: status.name,
        kind: status.kind.to_owned(),
        samples: outbox.counts.samples,
        bytes: outbox.counts.bytes,
        max_bytes: outbox.bounds.bytes,
        oldest_ms: millis(outbox.oldest),
        max_age_ms: millis(outbox.bounds.age),
        overflow: outbox.bounds.overflow.as_str().to_owned(),
        accepted_samples: outbox.counts.accepted,
        delivered_samples: outbox.counts.delivered,
        dropped_samples: dropped
            .filter(|(_, samples)| *samples > 0)
            .map(|(reason, samples)| (reason.as_str().to_owned(), samples))
            .collect(),
        missed_samples: status.missed.samples,
        accepting: outbox.accepting,
        file: outbox.path.display().to_string(),
        trouble: status.trouble,
    })
}

fn known<'a>(app: &'a App, sink: &str) -> Result<&'a Outbox, ApiError> {
    let found = app.inner.sinks.outbox(sink);
    found.ok_or_else(|| no_outbox(app, sink))
}

fn no_outbox(app: &App, sink: &str) -> ApiError {
    let sink: String = sink
        .chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect();
    let all = app.inner.sinks.statuses();
    if all.iter().any(|status| status.name == sink) {
        return ApiError::new(
            StatusCode::NOT_FOUND,
            "no-outbox",
            format!("the sink {sink} has no outbox"),
            "give it one in the configuration: `outbox = true`",
        );
    }
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no-such-sink",
        format!("there is no sink {sink}"),
        "see `bulkhead outbox list`",
    )
}

fn away(error: &OutboxError) -> ApiError {
    unavailable(&error.to_string())
}

fn unavailable(why: &str) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "outbox-unavailable",
        why,
        "see to what it says, and ask again",
    )
}
