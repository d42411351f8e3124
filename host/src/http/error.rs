//! What a refusal looks like: a status, and a body that names the thing and the remedy.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::wire;
use crate::channel::RequestError;
use crate::config::Faults;
use crate::event::Quality;
use crate::lifecycle::Denied;

/// A request that is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Box<wire::Error>,
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
            body: Box::new(wire::Error {
                code,
                message,
                remedy,
                quality: None,
                device_code: None,
                trace: None,
                faults: None,
                retry_after_ms: None,
            }),
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

    /// The same with all that is wrong with a configuration.
    pub(super) fn with_faults(mut self, faults: &Faults) -> Self {
        self.body.faults = serde_json::to_value(faults).ok().map(Box::new);
        self
    }

    /// What stands in the body.
    pub(super) fn into_body(self) -> wire::Error {
        *self.body
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        // Some sentences end in their remedy.
        const OWN: &str = "";
        let (status, remedy) = match &error {
            RequestError::NotRunning { .. } => (
                StatusCode::CONFLICT,
                "see why it is not running, then start the channel",
            ),
            RequestError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, OWN),
            RequestError::NoSuchTag { .. } => (StatusCode::NOT_FOUND, OWN),
            RequestError::NotWritable { .. } | RequestError::NotReadable { .. } => {
                (StatusCode::FORBIDDEN, OWN)
            }
            RequestError::NotSupported { .. } => (StatusCode::NOT_IMPLEMENTED, OWN),
            RequestError::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, OWN),
            RequestError::BadValue(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "give a value of the tag's own type and within its range",
            ),
            RequestError::Failed { quality, .. } => match quality {
                Quality::BadTimeout => (
                    StatusCode::GATEWAY_TIMEOUT,
                    "see whether the device is on and its address right; it may have done it all the same",
                ),
                Quality::BadNotConnected => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "see to the device and its link, then ask again",
                ),
                _ => (
                    StatusCode::BAD_GATEWAY,
                    "see what the device or its driver says; the tag's address may be wrong",
                ),
            },
            RequestError::DeviceLocked { .. } => (StatusCode::CONFLICT, OWN),
            RequestError::LinkDown { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "see to the device and its link, then ask again: nothing was sent to it",
            ),
            RequestError::TimedOut { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "see to the device and its link, read the tag before writing it again, or allow more time",
            ),
            RequestError::Restarted => (
                StatusCode::SERVICE_UNAVAILABLE,
                "look at the device to see whether it was done, then ask again",
            ),
            RequestError::NoSuchCommand { .. } => (StatusCode::NOT_FOUND, OWN),
            RequestError::TooManyCommands { .. } => (StatusCode::SERVICE_UNAVAILABLE, OWN),
            RequestError::Quarantined { .. } => (StatusCode::CONFLICT, OWN),
            RequestError::Cancelled => (
                StatusCode::CONFLICT,
                "look at the device to see whether it was done, then ask again",
            ),
        };
        let sentence = error.to_string();
        let (message, remedy) = match sentence.split_once("; ") {
            Some((message, own)) if remedy == OWN => (message, own),
            _ => (sentence.as_str(), remedy),
        };
        let mut api = Self::new(status, error.code(), message, remedy);
        match error {
            RequestError::Failed {
                quality,
                code,
                trace,
                ..
            } => {
                api.body.quality = Some(quality.as_str().to_owned());
                api.body.device_code = code;
                api.body.trace = trace;
            }
            RequestError::RateLimited { wait, .. } => {
                let millis = wait.as_nanos().div_ceil(1_000_000);
                api.body.retry_after_ms = u32::try_from(millis).ok();
            }
            _ => {}
        }
        api
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // RFC 9110, section 10.2.3: whole seconds.
        let retry_after = self
            .body
            .retry_after_ms
            .map(|millis| millis.div_ceil(1_000));
        let body = wire::ErrorAnswer { error: *self.body };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_names_the_thing_and_the_remedy_once() {
        let api = ApiError::from(RequestError::NotWritable { tag: "temp".into() });
        assert_eq!(api.status, StatusCode::FORBIDDEN);
        assert_eq!(api.body.message, "tag temp may not be written");
        assert!(api.body.remedy.contains("access"));
    }

    #[test]
    fn what_a_driver_failed_with_says_the_status() {
        let of = |quality, code| {
            let api = ApiError::from(RequestError::Failed {
                quality,
                code,
                message: "illegal data address".to_owned(),
                trace: None,
            });
            assert_eq!(api.body.code, "failed");
            assert_eq!(api.body.quality.as_deref(), Some(quality.as_str()));
            (api.status, api.body.device_code)
        };
        for (quality, status) in [
            (Quality::BadConfiguration, StatusCode::BAD_GATEWAY),
            (Quality::BadTimeout, StatusCode::GATEWAY_TIMEOUT),
            (Quality::BadNotConnected, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert_eq!(of(quality, Some(2)), (status, Some(2)));
        }
        // A code of 0 is a code.
        assert_eq!(of(Quality::Bad, Some(0)).1, Some(0));
        assert_eq!(of(Quality::Bad, None).1, None);
    }

    #[test]
    fn who_writes_too_often_is_told_when_to_come_back() {
        let api = ApiError::from(RequestError::RateLimited {
            tag: "temp".into(),
            interval: Duration::from_secs(2),
            wait: Duration::from_micros(1_000_100),
        });
        assert_eq!(api.body.remedy, "ask again in 1.0001s");
        assert_eq!(api.body.retry_after_ms, Some(1_001));
        let response = api.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn a_denied_step_says_what_to_do_instead() {
        let denied = crate::lifecycle::next(
            crate::lifecycle::State::Stopped,
            crate::lifecycle::Input::Restart,
        );
        let api = ApiError::denied("press-3", &denied.unwrap_err());
        assert_eq!(api.status, StatusCode::CONFLICT);
        assert_eq!(
            (api.body.message.as_str(), api.body.remedy.as_str()),
            ("channel press-3 is stopped", "start it")
        );
    }
}
