//! TLS that the driver begins on a plain link, with Python's `ssl` at the other end.

use std::process::Command;

use bulkhead_tests::{Authority, Certificate, Folder, Running, paths};
use serde_json::json;

use crate::stage::{Plan, Stage};
use crate::{detail, received, send, stage};

/// A server that begins TLS when asked, and its port.
fn server(shown: &Certificate, more: &[&str]) -> (Running, u16) {
    let script = paths::root().join("tests/peers/starttls_server.py");
    let mut python = Command::new(paths::python().unwrap());
    python
        .arg(script)
        .args([&shown.cert, &shown.key])
        .args(more);
    let server = Running::start(&mut python).unwrap();
    let port = |line: &str| line.strip_prefix("listening ")?.parse().ok();
    let port = server.out().wait_for(0, port).unwrap();
    (server, port)
}

fn keys(port: u16, authority: &Authority) -> String {
    format!(
        r#"connect = "tcp://127.0.0.1:{port}", start_tls = true, ca = "{}""#,
        authority.ca().display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_stream_goes_on_under_tls_and_nothing_more_of_it_is_heard() {
    let folder = Folder::new().unwrap();
    let authority = Authority::new(folder.path(), "plant-ca").unwrap();
    let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
    let (server, port) = server(&own, &[]);
    let mut stage = stage(&keys(port, &authority)).await;
    stage.event("opened").await;
    stage.must(&[send(0, "hello\n")]).await;
    received(&mut stage, 0, "echo hello\n").await;
    stage.must(&[send(0, "STARTTLS\n")]).await;
    received(&mut stage, 0, "ready\n").await;
    // What is sent between the two belongs to neither stream, and above all not to the plain one.
    stage
        .must(&[json!({ "start-tls": 0 }), send(0, "secret\n")])
        .await;
    let opened = stage.event("opened").await;
    assert_eq!(
        (&opened["connection"], &opened["secured"]),
        (&json!(0), &json!(true))
    );
    stage.must(&[send(0, "under cover\n")]).await;
    received(&mut stage, 0, "echo under cover\n").await;
    // What it prints may come after what it sends.
    let printed = |wanted: &'static str| {
        let out = server.out();
        out.wait_for(0, |line| (line == wanted).then_some(()))
            .unwrap();
        out.so_far()
    };
    assert_eq!(
        printed("tls under cover")[1..],
        ["plain hello", "plain STARTTLS", "tls under cover"]
    );
    assert_eq!(stage.told("closed").len(), 0);
    // It is TLS for as long as it is up; a new stream is plain again.
    stage.must(&[json!({ "reset": 0 })]).await;
    assert_eq!(stage.event("opened").await["secured"], false);
    stage.must(&[send(0, "again\n")]).await;
    received(&mut stage, 0, "echo again\n").await;
    assert_eq!(printed("plain again").last().unwrap(), "plain again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_tells_that_tls_is_on() {
    let folder = Folder::new().unwrap();
    let authority = Authority::new(folder.path(), "plant-ca").unwrap();
    let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
    let (_server, port) = server(&own, &[]);
    let link = keys(port, &authority);
    let mut stage = Stage::start(Plan {
        rules: r#"{ on = "started", life = 1, do = [{ open = { connection = 0, link = 0 } }] },"#,
        keys: &format!(r#"links.plc = {{ {link}, on_restart = "keep" }}"#),
        ..Plan::default()
    })
    .await;
    stage.event("opened").await;
    stage.must(&[send(0, "STARTTLS\n")]).await;
    received(&mut stage, 0, "ready\n").await;
    stage.must(&[json!({ "start-tls": 0 })]).await;
    stage.event("opened").await;
    stage.channel().restart().await.unwrap();
    let started = stage.event("started").await;
    let kept = &started["connections"][0];
    assert_eq!((&kept["id"], &kept["secured"]), (&json!(0), &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_slipped_in_before_tls_is_never_taken_for_what_comes_under_it() {
    let folder = Folder::new().unwrap();
    let authority = Authority::new(folder.path(), "plant-ca").unwrap();
    let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
    let (_server, port) = server(&own, &["--slip", "trust me\n"]);
    let mut stage = stage(&keys(port, &authority)).await;
    stage.event("opened").await;
    stage
        .must(&[send(0, "STARTTLS\n"), json!({ "start-tls": 0 })])
        .await;
    // Either it came before TLS began, and then the driver hears it before `opened`; or it spoils the handshake.
    stage
        .wait(|seen| match seen {
            crate::stage::Seen::Told { event, .. } => {
                let failed = event["kind"] == "closed" && event["reason"] == "TlsFailed";
                failed.then_some(())
            }
            _ => None,
        })
        .await;
    let events = stage.told_where(|event| event["kind"] == "opened" || event["kind"] == "received");
    assert!(
        events.iter().all(|event| event["text"] != "trust me\n"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_wrong_ends_the_stream() {
    let folder = Folder::new().unwrap();
    let (authority, stranger) = (
        Authority::new(folder.path(), "plant-ca").unwrap(),
        Authority::new(folder.path(), "stranger").unwrap(),
    );
    let own = stranger.sign("server", "IP:127.0.0.1", 1).unwrap();
    let (server, port) = server(&own, &[]);
    let mut stage = stage(&keys(port, &authority)).await;
    stage.event("opened").await;
    stage.must(&[send(0, "STARTTLS\n")]).await;
    received(&mut stage, 0, "ready\n").await;
    stage
        .must(&[json!({ "start-tls": 0 }), send(0, "secret\n")])
        .await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("TlsFailed"), &json!("Redialling"))
    );
    stage.event("opened").await;
    assert!(
        server
            .out()
            .so_far()
            .iter()
            .all(|line| !line.contains("secret"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_begins_only_where_the_operator_allows_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stage = stage(&format!(r#"connect = "tcp://127.0.0.1:{port}""#)).await;
    let (mut device, _) = listener.accept().await.unwrap();
    stage.event("opened").await;
    stage.must(&[json!({ "start-tls": 0 })]).await;
    let declined = stage.event("declined").await;
    assert_eq!(
        (&declined["action"], &declined["connection"]),
        (&json!("StartTls"), &json!(0))
    );
    let why = declined["why"].as_str().unwrap();
    assert!(
        why.contains("link plc") && why.contains("`start_tls = true`"),
        "{why}"
    );
    // The stream goes on as it is.
    use tokio::io::AsyncReadExt as _;
    stage.must(&[send(0, "plain")]).await;
    let mut bytes = [0; 5];
    device.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"plain");
    assert!(!detail(&stage).contains("down"), "{}", detail(&stage));
}
