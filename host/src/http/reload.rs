//! `POST /reload`: another configuration for the running host.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use super::tags::json;
use super::{ApiError, App, wire};
use crate::supervisor::ReloadError;

pub(super) async fn reload(
    State(app): State<App>,
    body: Bytes,
) -> Result<Json<wire::Reload>, ApiError> {
    let request: wire::ReloadRequest = match body.is_empty() {
        true => wire::ReloadRequest::default(),
        false => json(&body)?,
    };
    let reloaded = app.inner.reloader.reload(request.dry_run).await?;
    Ok(Json(wire::Reload {
        applied: reloaded.applied,
        difference: reloaded.difference,
        late: reloaded.late,
    }))
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let (status, code) = match &error {
            ReloadError::Busy => (StatusCode::CONFLICT, "reload-under-way"),
            ReloadError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            ReloadError::NeedsRestart(_) => (StatusCode::CONFLICT, "needs-restart"),
            ReloadError::StillLeaving(_) => (StatusCode::CONFLICT, "still-leaving"),
            ReloadError::NoRoom(_) | ReloadError::MemoryNeedsRestart { .. } => {
                (StatusCode::CONFLICT, "no-room")
            }
            ReloadError::Unreadable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unreadable"),
            ReloadError::Config(_) => (StatusCode::UNPROCESSABLE_ENTITY, "faulty-configuration"),
            ReloadError::Engine(_) | ReloadError::Store(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "host")
            }
        };
        let sentence = error.to_string();
        if let ReloadError::Config(faults) = &error {
            let remedy = "mend them and reload again; nothing was changed";
            return Self::new(status, code, sentence, remedy).with_faults(faults);
        }
        let (message, remedy) = sentence
            .rsplit_once("; ")
            .unwrap_or((&sentence, "nothing was changed"));
        Self::new(status, code, message, remedy)
    }
}
