//! Who may ask at all, and how: before any handler sees a request.
//!
//! - **Host** must name loopback and the right port, against names that were rebound to 127.0.0.1.
//! - **Origin**, where a browser sends one, must be this API itself.
//! - **Content type** must be JSON for all that is not a question, since a page may send text or a form anywhere, but JSON
//!   only where it is allowed to.
//! - **Bodies** have a bound and a time.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};

use super::ApiError;

/// The largest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Puts the checks before a service that is reached under `port`, and refusals in its gaps.
pub(super) fn guarded(router: Router, port: u16) -> Router {
    router
        .fallback(|request: Request| async move {
            let path: String = request.uri().path().chars().take(200).collect();
            ApiError::new(
                StatusCode::NOT_FOUND,
                "no-such-path",
                format!("there is nothing under {path}"),
                "the API begins with /api/v1, as in GET /api/v1/status",
            )
        })
        .method_not_allowed_fallback(|method: Method| async move {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong-method",
                format!("this path does not take {method}"),
                "use GET to ask, POST for start, stop, restart, reset, read, write, retry, drop and commands, DELETE to take a command back",
            )
        })
        .layer(middleware::from_fn_with_state(port, check))
}

async fn check(State(port): State<u16>, request: Request, next: Next) -> Response {
    match checked(port, request).await {
        Ok(request) => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
            headers
                .entry(header::CACHE_CONTROL)
                .or_insert(HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn checked(port: u16, request: Request) -> Result<Request, ApiError> {
    check_host(request.headers(), port)?;
    check_origin(request.headers(), port)?;
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    check_content_type(request.headers())?;
    let (parts, body) = request.into_parts();
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body is larger than {MAX_BODY} bytes"),
            "send less at once",
        )
    };
    let length = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    if length
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length > MAX_BODY as u64)
    {
        return Err(too_large());
    }
    match collected(body, BODY_TIME).await? {
        Some(body) => Ok(Request::from_parts(parts, Body::from(body))),
        None => Err(too_large()),
    }
}

/// The whole body, or nothing if it is too large.
async fn collected(body: Body, within: Duration) -> Result<Option<Bytes>, ApiError> {
    match tokio::time::timeout(within, to_bytes(body, MAX_BODY)).await {
        Ok(body) => Ok(body.ok()),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            format!("the body did not arrive within {within:?}"),
            "send it at once",
        )),
    }
}

fn check_host(headers: &HeaderMap, port: u16) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if hosts.next().is_none() && host.is_some_and(|host| is_this_api(host, port)) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "wrong-host",
        format!(
            "the request is addressed to {}, not to this API",
            shown(host)
        ),
        format!("use http://127.0.0.1:{port} or http://localhost:{port}"),
    ))
}

fn check_origin(headers: &HeaderMap, port: u16) -> Result<(), ApiError> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let origin = origin.to_str().ok();
    let own = origin
        .and_then(|origin| origin.strip_prefix("http://"))
        .is_some_and(|authority| is_this_api(authority, port));
    if own && origins.next().is_none() {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "wrong-origin",
        format!("a page of {} may not use this API", shown(origin)),
        "use the command line, or a program that is no web page",
    ))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let given = types.next().and_then(|kind| kind.to_str().ok());
    let essence = given.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if types.next().is_none()
        && essence.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
    {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "wrong-content-type",
        format!("the body is declared as {}", shown(given)),
        "send `content-type: application/json`, also where there is no body",
    ))
}

/// Whether `host[:port]` is a loopback name or address with the right port.
fn is_this_api(authority: &str, port: u16) -> bool {
    let (host, given) = match authority.rsplit_once(':') {
        // The last colon of an address in brackets is no port's.
        Some((host, given)) if !given.ends_with(']') => (host, Some(given)),
        _ => (authority, None),
    };
    let port_fits = match given {
        Some(given) => given == port.to_string(),
        None => port == 80,
    };
    let host_fits = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_ipv6() && ip.is_loopback()),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host
                    .parse::<IpAddr>()
                    .is_ok_and(|ip| ip.is_ipv4() && ip.is_loopback())
        }
    };
    port_fits && host_fits
}

fn shown(text: Option<&str>) -> String {
    match text {
        Some(text) => format!("`{}`", text.chars().take(100).collect::<String>()),
        None => "nothing readable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    fn api() -> Router {
        let router = Router::new()
            .route("/ask", get(|| async { "fine" }))
            .route("/write", post(|body: Bytes| async move { body }));
        guarded(router, 7070)
    }

    async fn send(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let service = TowerToHyperService::new(api());
        let response = service.call(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn check(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        expected: Result<(), (u16, &str)>,
    ) {
        let (status, body) = send(method, path, headers, Body::from("{}")).await;
        match expected {
            Ok(()) => assert_eq!(status, StatusCode::OK, "{headers:?}: {body}"),
            Err((number, code)) => {
                assert_eq!(status.as_u16(), number, "{headers:?}: {body}");
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(body["error"]["code"], code, "{body}");
                assert!(!body["error"]["remedy"].as_str().unwrap().is_empty());
            }
        }
    }

    #[tokio::test]
    async fn only_requests_to_loopback_are_answered() {
        for host in [
            "127.0.0.1:7070",
            "localhost:7070",
            "LocalHost:7070",
            "[::1]:7070",
            "127.1.2.3:7070",
        ] {
            check("GET", "/ask", &[("host", host)], Ok(())).await;
        }
        let bad = [
            "evil.example:7070",
            "127.0.0.1",
            "127.0.0.1:7071",
            "localhost.evil.example:7070",
            "10.0.0.9:7070",
            "127.0.0.1:7070:7070",
            "[::1]",
            "::1:7070",
            "user@127.0.0.1:7070",
            "",
        ];
        for host in bad {
            check("GET", "/ask", &[("host", host)], Err((403, "wrong-host"))).await;
        }
        check("GET", "/ask", &[], Err((403, "wrong-host"))).await;
        let twice = [("host", "127.0.0.1:7070"), ("host", "evil.example")];
        check("GET", "/ask", &twice, Err((403, "wrong-host"))).await;
    }

    #[tokio::test]
    async fn no_page_but_its_own_may_ask() {
        let with = |origin| [("host", "127.0.0.1:7070"), ("origin", origin)];
        check("GET", "/ask", &with("http://127.0.0.1:7070"), Ok(())).await;
        check("GET", "/ask", &with("http://localhost:7070"), Ok(())).await;
        for origin in [
            "null",
            "http://evil.example",
            "https://127.0.0.1:7070",
            "http://127.0.0.1:8080",
            "",
        ] {
            check("GET", "/ask", &with(origin), Err((403, "wrong-origin"))).await;
        }
    }

    #[tokio::test]
    async fn a_write_is_json_or_nothing() {
        let with = |kind| [("host", "127.0.0.1:7070"), ("content-type", kind)];
        check("POST", "/write", &with("application/json"), Ok(())).await;
        check(
            "POST",
            "/write",
            &with("Application/JSON; charset=utf-8"),
            Ok(()),
        )
        .await;
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "",
        ] {
            check(
                "POST",
                "/write",
                &with(kind),
                Err((415, "wrong-content-type")),
            )
            .await;
        }
        check(
            "POST",
            "/write",
            &[("host", "127.0.0.1:7070")],
            Err((415, "wrong-content-type")),
        )
        .await;
    }

    #[tokio::test]
    async fn a_body_has_a_bound_declared_or_not() {
        let headers = [
            ("host", "127.0.0.1:7070"),
            ("content-type", "application/json"),
        ];
        let (status, _) = send("POST", "/write", &headers, Body::from(vec![b' '; MAX_BODY])).await;
        assert_eq!(status, StatusCode::OK);
        let (status, _) = send(
            "POST",
            "/write",
            &headers,
            Body::from(vec![b' '; MAX_BODY + 1]),
        )
        .await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let declared = [headers[0], headers[1], ("content-length", "99999999999")];
        let (status, _) = send("POST", "/write", &declared, Body::empty()).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let given_up = collected(Body::from_stream(never), Duration::from_millis(10)).await;
        assert_eq!(
            given_up.unwrap_err().into_response().status(),
            StatusCode::REQUEST_TIMEOUT
        );
    }

    #[tokio::test]
    async fn gaps_are_refused_in_json() {
        let host = [
            ("host", "127.0.0.1:7070"),
            ("content-type", "application/json"),
        ];
        check("GET", "/nothing", &host, Err((404, "no-such-path"))).await;
        check("DELETE", "/ask", &host, Err((405, "wrong-method"))).await;
        check("OPTIONS", "/write", &host, Err((405, "wrong-method"))).await;
    }
}
