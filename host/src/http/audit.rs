//! The audit log, page by page.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;

use super::filter::Parameters;
use super::{ApiError, App, wire};

/// Entries on one page.
const MAX_PAGE: usize = 1_000;

/// `GET`: what was written last, the newest first.
pub(super) async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::AuditPage>, ApiError> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "before"])?;
    let limit = parameters.number("limit", 100, 1..=MAX_PAGE)?;
    let before = match parameters.one("before")? {
        None => None,
        Some(number) => Some(number.parse::<u64>().map_err(|_| {
            ApiError::bad_request("`before` is no number", "give the number of an entry")
        })?),
    };
    let audit = app.host().audit().clone();
    let read = tokio::task::spawn_blocking(move || audit.last(limit, before)).await;
    let unread = |why: String| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "disk",
            format!("the audit log cannot be read: {why}"),
            "see to the disk of `data_dir`",
        )
    };
    let entries = read
        .map_err(|error| unread(error.to_string()))?
        .map_err(|error| unread(error.to_string()))?;
    let next_before = entries
        .last()
        .map(|entry| entry.number)
        .filter(|number| *number > 1 && entries.len() == limit);
    Ok(Json(wire::AuditPage {
        entries,
        next_before,
    }))
}
