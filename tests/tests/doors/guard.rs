//! Who is let in: an API that writes to plants answers to loopback, to no page but its own, to JSON and to bounded
//! requests only; and a client that is slow, greedy or odd costs nobody else anything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, PATIENCE, Reply};
use serde_json::{Value, json};

use super::{SIGNAL, refused};

fn connect(host: &Bulkhead) -> Result<TcpStream> {
    let stream = TcpStream::connect(authority(host))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn authority(host: &Bulkhead) -> &str {
    host.url.trim_start_matches("http://")
}

/// Sends bytes as they are, and reads the whole answer. `$HOST` stands for the address.
fn ask(host: &Bulkhead, request: &str) -> Result<Reply> {
    let mut stream = connect(host)?;
    let request = request.replace("$HOST", authority(host));
    // A refusal may come, and close, before all was sent.
    let sent = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        sent.and(read.map(drop))?;
    }
    parsed(&String::from_utf8_lossy(&answer))
}

fn parsed(answer: &str) -> Result<Reply> {
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .with_context(|| format!("no status in {answer:?}"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
    Ok(Reply { status, body })
}

/// A request with these lines in its head.
fn get(path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n")
}

fn write(lines: &[&str], body: &str) -> String {
    let head = get("/api/v1/tags/a/held/write", lines).replacen("GET", "POST", 1);
    let length = format!("content-length: {}\r\n\r\n", body.len());
    let end = head.len() - 2;
    format!("{}{length}{body}", &head[..end])
}

const JSON: &str = "content-type: application/json";
const HOST: &str = "host: $HOST";

#[test]
fn only_what_is_meant_for_this_api_gets_in() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    let status = "/api/v1/status";
    let port = authority(&host)
        .rsplit(':')
        .next()
        .context("a port")?
        .to_owned();
    for (lines, expected) in [
        (vec![HOST], 200),
        (vec![&*format!("host: localhost:{port}")], 200),
        (vec![&*format!("host: [::1]:{port}")], 200),
        (vec![HOST, "origin: http://$HOST"], 200),
        (vec!["host: evil.example"], 403),
        (vec![&*format!("host: evil.example:{port}")], 403),
        (vec![&*format!("host: 127.0.0.1.evil.example:{port}")], 403),
        (vec!["host: 127.0.0.1:1"], 403),
        (vec!["host: 127.0.0.1"], 403),
        (vec![], 403),
        (vec![HOST, "host: evil.example"], 403),
        (vec![HOST, "origin: http://evil.example"], 403),
        (vec![HOST, "origin: null"], 403),
        (vec![HOST, "origin: http://127.0.0.1:1"], 403),
        (vec![HOST, "origin: https://$HOST"], 403),
    ] {
        let reply = ask(&host, &get(status, &lines))?;
        assert_eq!(reply.status, expected, "{lines:?}: {reply:?}");
        if expected == 403 {
            let code = refused(&reply).1;
            assert!(
                ["wrong-host", "wrong-origin"].contains(&code),
                "{lines:?}: {code}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_write_is_json_or_nothing() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    host.get_until("/api/v1/tags/a/held", |tag| {
        (tag["quality"] == "good").then_some(())
    })?;
    let body = r#"{"value":7}"#;
    for (lines, body, expected) in [
        (vec![HOST], body, (415, "wrong-content-type")),
        (
            vec![HOST, "content-type: text/plain"],
            body,
            (415, "wrong-content-type"),
        ),
        (
            vec![HOST, "content-type: application/x-www-form-urlencoded"],
            body,
            (415, "wrong-content-type"),
        ),
        (
            vec![HOST, JSON, "content-type: text/plain"],
            body,
            (415, "wrong-content-type"),
        ),
        (
            vec![HOST, JSON, "origin: http://evil.example"],
            body,
            (403, "wrong-origin"),
        ),
        (vec!["host: evil.example", JSON], body, (403, "wrong-host")),
        (vec![HOST, JSON], "", (400, "bad-request")),
        (vec![HOST, JSON], "{\"value\":7", (400, "bad-request")),
        (vec![HOST, JSON], "\u{fffd}", (400, "bad-request")),
        (
            vec![HOST, JSON],
            "{\"value\":7}{\"value\":8}",
            (400, "bad-request"),
        ),
    ] {
        let reply = ask(&host, &write(&lines, body))?;
        assert_eq!(refused(&reply), expected, "{lines:?} {body}");
    }
    assert_eq!(
        host.get("/api/v1/tags/a/held")?.body["value"],
        20,
        "nothing was written"
    );
    let reply = ask(
        &host,
        &write(
            &[HOST, "content-type: application/json; charset=utf-8"],
            body,
        ),
    )?;
    assert_eq!((reply.status, &reply.body["value"]), (200, &json!(7)));

    // A head that does not end, or is none.
    let long = format!("x: {}", "y".repeat(1_000_000));
    let many: Vec<String> = (0..200).map(|number| format!("x{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for request in [
        get("/api/v1/status", &[HOST, &long]),
        get("/api/v1/status", &many),
    ] {
        assert_eq!(ask(&host, &request)?.status, 431);
    }
    assert_eq!(ask(&host, "hello\r\n\r\n")?.status, 400);
    Ok(())
}

#[test]
fn bodies_have_a_bound_declared_or_not() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    let large = format!("{{\"value\":\"{}\"}}", "x".repeat(1024 * 1024));
    let reply = ask(&host, &write(&[HOST, JSON], &large))?;
    assert_eq!(refused(&reply), (413, "too-large"));
    // Declared only: it is refused before it comes.
    let declared = get(
        "/api/v1/tags/read",
        &[HOST, JSON, "content-length: 99999999999"],
    );
    assert_eq!(
        refused(&ask(&host, &declared.replacen("GET", "POST", 1))?),
        (413, "too-large")
    );
    // In pieces, without saying how many.
    let piece = "x".repeat(64 * 1024);
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    let head = get(
        "/api/v1/tags/read",
        &[HOST, JSON, "transfer-encoding: chunked"],
    );
    let chunked = format!("{}{}", head.replacen("GET", "POST", 1), chunk.repeat(32));
    assert_eq!(refused(&ask(&host, &chunked)?), (413, "too-large"));
    assert_eq!(host.get("/api/v1/status")?.status, 200);
    Ok(())
}

#[test]
fn gaps_are_refused_in_json() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v2/status",
        "/api/v1/channels/a/explode",
        "/api/v1/channels/a/b/c",
        "/%2e%2e/etc/passwd",
    ] {
        let reply = ask(&host, &get(path, &[HOST]))?;
        assert_eq!(refused(&reply), (404, "no-such-path"), "{path}");
    }
    for (method, path) in [
        ("DELETE", "status"),
        ("PUT", "tags/a/held/write"),
        ("GET", "tags/a/held/write"),
        ("POST", "tags/a/held"),
        ("OPTIONS", "tags/a/held/write"),
    ] {
        let request = get(&format!("/api/v1/{path}"), &[HOST, JSON]).replacen("GET", method, 1);
        let reply = ask(&host, &request)?;
        assert_eq!(refused(&reply), (405, "wrong-method"), "{method} {path}");
    }
    Ok(())
}

#[test]
fn clients_that_do_not_finish_keep_nobody_waiting() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    // A body that never comes is given up, with an answer.
    let mut slow = connect(&host)?;
    let head = write(&[HOST, JSON], &"x".repeat(100)).replace("$HOST", authority(&host));
    slow.write_all(&head.as_bytes()[..head.len() - 50])?;

    // As many connections as there may be: some with half a head, some that have asked and rest.
    let mut open = Vec::new();
    for number in 0..255 {
        let mut stream = connect(&host)?;
        if number % 2 == 0 {
            stream.write_all(b"GET /api/v1/sta")?;
        } else {
            let request = format!(
                "GET /api/v1/channels HTTP/1.1\r\nhost: {}\r\n\r\n",
                authority(&host)
            );
            stream.write_all(request.as_bytes())?;
            let mut some = [0; 12];
            stream.read_exact(&mut some)?;
            assert_eq!(&some, b"HTTP/1.1 200");
        }
        open.push(stream);
    }
    // One more is told so.
    let mut told = String::new();
    connect(&host)?.read_to_string(&mut told)?;
    assert_eq!(refused(&parsed(&told)?), (503, "too-many-connections"));
    // Those that were let in are served, whatever the others do.
    let first = &mut open[0];
    first.write_all(format!("tus HTTP/1.1\r\nhost: {}\r\n\r\n", authority(&host)).as_bytes())?;
    let mut some = [0; 12];
    first.read_exact(&mut some)?;
    assert_eq!(&some, b"HTTP/1.1 200");

    let mut answer = String::new();
    slow.read_to_string(&mut answer)?;
    assert_eq!(refused(&parsed(&answer)?), (408, "too-slow"));
    // A place is free when a connection has gone.
    drop(open);
    let free = || {
        host.get("/api/v1/status")
            .is_ok_and(|reply| reply.status == 200)
    };
    while !free() {
        std::thread::yield_now();
    }
    // And none of them keeps the host from ending.
    let _held = connect(&host)?;
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}
