//! What a refusal looks like: a status, and a body that names the thing and the remedy.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::wire;
use crate::channel::RequestError;
use crate::lifecycle::Denied;

/// A request that is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    status: StatusCode,
    body: wire::Error,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (code, message, remedy) = (code.to_owned(), message.into(), remedy.into());
        Self {
            status,
            body: wire::Error {
                code,
                message,
                remedy,
                device_code: None,
                trace: None,
            },
        }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message, remedy)
    }

    pub(super) fn no_such_channel(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-channel",
            format!("there is no channel {name}"),
            "`bulkhead channel list` or GET /api/v1/channels shows those there are",
        )
    }

    pub(super) fn no_such_tag(channel: &str, tag: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-tag",
            format!("channel {channel} has no tag {tag}"),
            "`bulkhead tag list` or GET /api/v1/tags shows those there are",
        )
    }

    /// A step that the channel's state does not allow.
    pub(super) fn denied(channel: &str, denied: &Denied) -> Self {
        // The sentence says what to do instead behind its semicolon.
        let (why, remedy) = denied
            .why
            .split_once("; ")
            .unwrap_or((denied.why, "try again later"));
        Self::new(
            StatusCode::CONFLICT,
            "denied",
            format!("channel {channel} {why}"),
            remedy,
        )
    }

    /// What stands in the body.
    pub(super) fn into_body(self) -> wire::Error {
        self.body
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let (status, remedy) = match &error {
            RequestError::NotRunning { .. } => (
                StatusCode::CONFLICT,
                "see why it is not running, then start the channel",
            ),
            RequestError::Busy { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ask again later, or raise limits.mailbox",
            ),
            RequestError::NoSuchTag { .. } => (
                StatusCode::NOT_FOUND,
                "list the tags to see those there are",
            ),
            RequestError::NotWritable { .. } => (
                StatusCode::FORBIDDEN,
                "give the tag access = \"rw\" or \"w\" in the configuration",
            ),
            RequestError::NotReadable { .. } => (
                StatusCode::FORBIDDEN,
                "give the tag access = \"r\" or \"rw\" in the configuration",
            ),
            RequestError::NotSupported { .. } => (
                StatusCode::NOT_IMPLEMENTED,
                "see what the driver can do; a tag in a group is read by its polls",
            ),
            RequestError::BadValue(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "give a value of the tag's own type and within its range",
            ),
            RequestError::Failed { .. } => (
                StatusCode::BAD_GATEWAY,
                "see what the device or its driver says; the tag's address may be wrong",
            ),
            RequestError::TimedOut { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "see to the device and its link, read the tag before writing it again, or allow more time",
            ),
            RequestError::Restarted => (
                StatusCode::SERVICE_UNAVAILABLE,
                "read the tag to see whether it was done, then ask again",
            ),
        };
        let mut api = Self::new(status, error.code(), error.to_string(), remedy);
        if let RequestError::Failed { code, trace, .. } = error {
            api.body.device_code = (code != 0).then_some(code);
            api.body.trace = trace;
        }
        api
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = wire::ErrorAnswer { error: self.body };
        (self.status, Json(body)).into_response()
    }
}
