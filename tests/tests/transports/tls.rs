//! TLS against OpenSSL's server: good, and every way in which a certificate may be wrong.

use std::path::Path;

use bulkhead_tests::{Authority, Certificate, Folder, TlsServer};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::stage::{Seen, Stage};
use crate::{detail, received, send, stage};

/// A folder with an authority in it.
fn authority() -> (Folder, Authority) {
    let folder = Folder::new().unwrap();
    let authority = Authority::new(folder.path(), "plant-ca").unwrap();
    (folder, authority)
}

fn keys(port: u16, ca: &Path, more: &str) -> String {
    format!(
        r#"connect = "tls://127.0.0.1:{port}", ca = "{}"{more}"#,
        ca.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_there_and_come_back_under_tls() {
    for version in ["-tls1_2", "-tls1_3"] {
        let (_folder, authority) = authority();
        let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
        let mut server = TlsServer::start(&own, &[version]).unwrap();
        let mut stage = stage(&keys(server.port, &authority.ca(), "")).await;
        let opened = stage.event("opened").await;
        assert_eq!(opened["peer"], format!("127.0.0.1:{}", server.port));
        stage.must(&[send(0, "from the driver\n")]).await;
        server
            .process()
            .out()
            .wait_for(0, |line| (line == "from the driver").then_some(()))
            .unwrap();
        server.process().tell("from the server").unwrap();
        received(&mut stage, 0, "from the server\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_checked_and_may_be_written() {
    let (_folder, authority) = authority();
    let own = authority.sign("server", "DNS:plc.example", 1).unwrap();
    let server = TlsServer::start(&own, &[]).unwrap();
    let mut stage = stage(&keys(
        server.port,
        &authority.ca(),
        r#", server_name = "plc.example""#,
    ))
    .await;
    stage.event("opened").await;
}

/// Waits until TLS has failed; before that, the server may not have been there yet.
async fn failed(stage: &mut Stage) -> Json {
    stage
        .wait(|seen| match seen {
            Seen::Told { event, .. } if event["reason"] == "TlsFailed" => Some(event.clone()),
            _ => None,
        })
        .await
}

/// Shows such a certificate to a host that believes `ca`, and checks what the driver and the operator are told.
async fn refused(shown: &Certificate, options: &[&str], ca: &Path, more: &str, why: &[&str]) {
    let server = TlsServer::start(shown, options).unwrap();
    let mut stage = stage(&keys(server.port, ca, more)).await;
    let closed = failed(&mut stage).await;
    assert_eq!(
        closed["outlook"],
        json!("Redialling"),
        "a certificate may be renewed"
    );
    let detail = detail(&stage);
    for part in why {
        assert!(detail.contains(part), "{part}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expired_is_named_with_its_day() {
    let (_folder, authority) = authority();
    let own = authority.sign("server", "IP:127.0.0.1", -3).unwrap();
    let day = std::process::Command::new("date")
        .args(["-u", "-d", "3 days ago", "+%F"])
        .output()
        .unwrap();
    let day = String::from_utf8(day.stdout).unwrap();
    refused(
        &own,
        &[],
        &authority.ca(),
        "",
        &["certificate expired on ", day.trim(), "; renew it"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_somebody_else_is_named_with_both_names() {
    let (_folder, authority) = authority();
    let own = authority.sign("server", "DNS:other.example", 1).unwrap();
    let name = r#", server_name = "plc.example""#;
    refused(
        &own,
        &[],
        &authority.ca(),
        name,
        &[
            "is not for plc.example but for ",
            "other.example",
            "; write the name that it is for as `server_name`",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_authority_is_named_with_the_remedy() {
    let (folder, _) = authority();
    let stranger = Authority::new(folder.path(), "stranger").unwrap();
    let own = stranger.sign("server", "IP:127.0.0.1", 1).unwrap();
    let believed = folder.path().join("plant-ca.crt");
    refused(
        &own,
        &[],
        &believed,
        "",
        &["unknown authority; name the file of that authority's certificate as `ca`"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ca_only_the_authorities_of_the_system_are_believed() {
    let (_folder, authority) = authority();
    let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
    let server = TlsServer::start(&own, &[]).unwrap();
    let mut stage = stage(&format!(r#"connect = "tls://127.0.0.1:{}""#, server.port)).await;
    let closed = failed(&mut stage).await;
    assert_eq!(closed["connection"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_ours_that_is_demanded_and_missing_is_named() {
    for version in ["-tls1_2", "-tls1_3"] {
        let (_folder, authority) = authority();
        let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
        let ca = authority.ca();
        let options = [
            version,
            "-Verify",
            "1",
            "-verify_return_error",
            "-CAfile",
            ca.to_str().unwrap(),
        ];
        refused(&own, &options, &ca, "", &["`cert` and `key`"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_ours_that_is_demanded_is_shown() {
    let (_folder, authority) = authority();
    let own = authority.sign("server", "IP:127.0.0.1", 1).unwrap();
    let ours = authority.sign("client", "DNS:bulkhead", 1).unwrap();
    let ca = authority.ca();
    let options = [
        "-Verify",
        "1",
        "-verify_return_error",
        "-CAfile",
        ca.to_str().unwrap(),
    ];
    let mut server = TlsServer::start(&own, &options).unwrap();
    let identity = format!(
        r#", cert = "{}", key = "{}""#,
        ours.cert.display(),
        ours.key.display()
    );
    let mut stage = stage(&keys(server.port, &ca, &identity)).await;
    stage.event("opened").await;
    stage.must(&[send(0, "it is us\n")]).await;
    server
        .process()
        .out()
        .wait_for(0, |line| (line == "it is us").then_some(()))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_tls_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut peer = JoinSet::new();
    peer.spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 plain and proud\r\n").await.ok();
        }
    });
    let (_folder, authority) = authority();
    let mut stage = stage(&keys(port, &authority.ca(), "")).await;
    let closed = stage.event("closed").await;
    assert_eq!(closed["reason"], "TlsFailed");
    let detail = detail(&stage);
    assert!(
        detail.contains("does not speak TLS; check the port"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_holds_from_the_next_dial_on() {
    let (_folder, authority) = authority();
    let old = authority.sign("old", "IP:127.0.0.1", -1).unwrap();
    let server = TlsServer::start(&old, &[]).unwrap();
    let port = server.port;
    let mut stage = stage(&keys(port, &authority.ca(), "")).await;
    failed(&mut stage).await;
    drop(server);
    let new = authority.sign("new", "IP:127.0.0.1", 1).unwrap();
    let _server = TlsServer::start_at(port, &new, &[]).unwrap();
    stage.event("opened").await;
}

#[test]
fn files_that_do_not_fit_are_faults_of_the_configuration() {
    let (folder, authority) = authority();
    let ours = authority.sign("ours", "DNS:bulkhead", 1).unwrap();
    let other = authority.sign("other", "DNS:bulkhead", 1).unwrap();
    folder.write("void.pem", "no certificate\n").unwrap();
    let check = |keys: &str| {
        let toml = format!(
            "[[channel]]\nid = \"a\"\ndriver = \"$GUESTS/puppet.wasm\"\nlinks.plc = {{ connect = \"tls://plc.example:802\", {keys} }}\n"
        );
        folder.write_config(&toml).unwrap();
        let ended = folder.run(&["check", Folder::CONFIG]).unwrap();
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        format!("{ended:?}")
    };
    let (cert, key) = (ours.cert.display(), ours.key.display());
    for (keys, wanted) in [
        ("ca = \"missing.pem\"".to_owned(), "`ca` cannot be read: "),
        ("ca = \"void.pem\"".to_owned(), "has no certificate in it"),
        (
            format!("cert = \"{cert}\", key = \"{cert}\""),
            "has no private key in it",
        ),
        (
            format!("cert = \"{key}\", key = \"{key}\""),
            "has no certificate in it",
        ),
        (
            format!("cert = \"{cert}\", key = \"{}\"", other.key.display()),
            "write the private key of that certificate",
        ),
    ] {
        let said = check(&keys);
        assert!(
            said.contains(wanted) && said.contains("link plc"),
            "{keys}: {said}"
        );
    }
}
