//! `GET /metrics`: what the host counts, for Prometheus.
//!
//! Gathered on a thread of its own and sent in pieces, each made when the one before is on its way: with many channels the answer is long, and
//! neither memory nor the threads that serve drivers should notice.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{ApiError, App};
use crate::metrics::{self, Pieces};

/// Answers that may be under way at once: each holds what was gathered for it.
const MAX_SCRAPES: usize = 4;

static SCRAPES: Semaphore = Semaphore::const_new(MAX_SCRAPES);

pub(super) async fn show(State(app): State<App>) -> Result<Response, ApiError> {
    let permit = SCRAPES.try_acquire().map_err(|_full| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-scrapes",
            format!("{MAX_SCRAPES} answers with metrics are under way already"),
            "scrape from fewer places, or less often",
        )
    })?;
    let snapshot = tokio::task::spawn_blocking(move || {
        metrics::gather(app.host(), app.channels(), app.inner.sinks.statuses())
    });
    let snapshot = snapshot.await.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "host-fault",
            format!("the metrics could not be gathered: {error}"),
            "report it to Bulkhead's developers with the log",
        )
    })?;
    let body = Body::from_stream(stream::unfold((Pieces::of(snapshot), permit), next_piece));
    Ok(([(header::CONTENT_TYPE, metrics::TEXT_FORMAT)], body).into_response())
}

/// The next piece, with what makes those after it.
async fn next_piece(
    (mut pieces, permit): (Pieces, SemaphorePermit<'static>),
) -> Option<(
    Result<Bytes, Infallible>,
    (Pieces, SemaphorePermit<'static>),
)> {
    // A reader that is quick must not keep this thread from others.
    tokio::task::yield_now().await;
    let piece = pieces.next()?;
    Some((Ok(piece.into()), (pieces, permit)))
}
