//! How commands ask a running host: HTTP with JSON, nothing else.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::arguments::Api;
use super::failure::Failure;
use super::logs;
use crate::http::wire;

const DEFAULT_URL: &str = "http://127.0.0.1:7070";
/// How long a question may take that asks no device.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is taken in at once, in bytes: a page of 10,000 tags, each with a long text.
const MAX_ANSWER: u64 = 1024 * 1024 * 1024;

/// A way to a running host.
pub(super) struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    /// `--url` counts before BULKHEAD_URL, which counts before the default.
    pub(super) fn new(api: &Api) -> Result<Self, Failure> {
        let url = match &api.url {
            Some(url) => url.clone(),
            None => logs::environment("BULKHEAD_URL")?.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        };
        let base = url.trim_end_matches('/').to_owned();
        let host = base.strip_prefix("http://").unwrap_or_default();
        if host.is_empty() || host.contains('/') {
            return Err(Failure::usage(format!(
                "`{url}` is no URL of a host's API; write one such as {DEFAULT_URL}, as `bulkhead run` prints it"
            )));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // The API is on this machine; a proxy of the environment would not know it.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)));
        Ok(Self {
            agent: Agent::new_with_config(config.build()),
            base,
        })
    }

    /// Asks.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self
            .agent
            .get(self.url(path))
            .config()
            .timeout_global(Some(PATIENCE))
            .build();
        self.answer(request.call())
    }

    /// Asks for something to be done, which may take a device as long as `within`.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<T, Failure> {
        let request = self
            .agent
            .post(self.url(path))
            .config()
            .timeout_global(Some(within + PATIENCE))
            .build();
        self.answer(request.send_json(body))
    }

    /// Takes something back.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self
            .agent
            .delete(self.url(path))
            .header("content-type", "application/json")
            .config()
            .timeout_global(Some(PATIENCE))
            .build();
        self.answer(request.call())
    }

    /// Asks for something to be done, and follows how.
    pub(super) fn post_for_stream<B: Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<impl Read + use<B>, Failure> {
        let request = self
            .agent
            .post(self.url(path))
            .header("accept", "text/event-stream");
        let response = request
            .send_json(body)
            .map_err(|error| self.failure(&error))?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body().into_reader()),
            _ => Err(self.refusal(response)),
        }
    }

    /// Opens a stream. It goes on after the event with this id; begins anew where that is empty.
    pub(super) fn stream(&self, path: &str, last_seen: &str) -> Result<impl Read + use<>, Failure> {
        let mut request = self.agent.get(self.url(path));
        if !last_seen.is_empty() {
            request = request.header("last-event-id", last_seen);
        }
        let response = request.call().map_err(|error| self.failure(&error))?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body().into_reader()),
            _ => Err(self.refusal(response)),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut response = answer.map_err(|error| self.failure(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_json()
            .map_err(|error| self.strange(&error.to_string()))
    }

    fn refusal(&self, mut response: Response<Body>) -> Failure {
        let status = response.status();
        match response.body_mut().read_json::<wire::ErrorAnswer>() {
            Ok(answer) => Failure::Refused(Box::new(answer.error)),
            Err(_) => self.strange(&format!("status {status}")),
        }
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::usage(format!(
                "{base} is no URL of a host's API: {error}; write one such as {DEFAULT_URL}"
            )),
            ureq::Error::Timeout(_) => Failure::host(format!(
                "the host at {base} does not answer in time ({error}); see whether it hangs, or is another program"
            )),
            ureq::Error::Protocol(_) => self.strange(&error.to_string()),
            ureq::Error::Io(io)
                if matches!(
                    io.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                Failure::host(format!(
                    "the host at {base} went away before it answered ({error}), and may or may not have done what it was \
                     asked; see whether it still runs, and look before you ask again"
                ))
            }
            _ => Failure::host(format!(
                "no host answers at {base} ({error}); start one with `bulkhead run CONFIG`, or name another with --url \
                 or BULKHEAD_URL"
            )),
        }
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::host(format!(
            "what answers at {} is no Bulkhead host of this version ({what}); name another with --url or BULKHEAD_URL",
            self.base
        ))
    }
}

/// All that a path's segment or a query's value may not hold as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// A name, fit for a path or a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The path of a tag that is written `channel/tag`.
pub(super) fn tag_path(reference: &str) -> Result<String, Failure> {
    match reference.split_once('/') {
        Some((channel, tag)) if !channel.is_empty() && !tag.is_empty() => {
            Ok(format!("/tags/{}/{}", encoded(channel), encoded(tag)))
        }
        _ => Err(Failure::usage(format!(
            "`{reference}` names no tag; write channel/tag, as in press-1/pressure (`bulkhead tag list` shows all)"
        ))),
    }
}

/// A query out of its parameters.
pub(super) fn query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = String::new();
    for (key, value) in parameters {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(key);
        query.push('=');
        query.push_str(&encoded(value));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str) -> Api {
        Api {
            url: Some(url.into()),
            json: false,
        }
    }

    #[test]
    fn names_are_encoded_whatever_they_hold() {
        assert_eq!(
            tag_path("press-3/öl ..?").unwrap(),
            "/tags/press-3/%C3%B6l%20%2E%2E%3F"
        );
        assert_eq!(
            query([("tag", "a/*"), ("channel", "b")]),
            "?tag=a%2F%2A&channel=b"
        );
        for bad in ["press-3", "/temp", "press-3/", ""] {
            assert_eq!(
                tag_path(bad).unwrap_err().code(),
                super::super::failure::USAGE,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_url_is_checked_before_it_is_used() {
        for good in [
            "http://127.0.0.1:7070",
            "http://localhost:80/",
            "http://[::1]:7070",
        ] {
            assert!(Client::new(&api(good)).is_ok(), "{good}");
        }
        for bad in [
            "https://127.0.0.1:7070",
            "127.0.0.1:7070",
            "http://",
            "http://a/b",
            "",
        ] {
            let failure = Client::new(&api(bad)).err().unwrap();
            assert_eq!(failure.code(), super::super::failure::USAGE, "{bad}");
        }
    }

    #[test]
    fn where_no_host_is_the_remedy_is_told() {
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let client = Client::new(&api(&format!("http://{free}"))).unwrap();
        let failure = client.get::<wire::Status>("/status").unwrap_err();
        assert_eq!(failure.code(), super::super::failure::HOST);
        let Failure::Told { message, .. } = failure else {
            panic!("another failure")
        };
        assert!(
            message.contains(&free.to_string()) && message.contains("bulkhead run CONFIG"),
            "{message}"
        );
    }
}
