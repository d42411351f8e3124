//! Commands that ask a running host: where there is none, where it is another program, where it has no such thing.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use anyhow::Result;
use bulkhead_tests::{Bulkhead, Folder, free_port};
use serde_json::{Value, json};

use super::{ALONE, check, messages_of, no_panic};

const CLIENTS: &[&[&str]] = &[
    &["status"],
    &["channel", "list"],
    &["channel", "show", "a"],
    &["channel", "stop", "a"],
    &["tag", "list"],
    &["tag", "show", "a/t"],
    &["tag", "read", "a/t"],
    &["tag", "write", "a/t", "1"],
    &["tag", "watch"],
];

#[test]
fn clients_without_a_host() -> Result<()> {
    let folder = Folder::new()?;
    let url = format!("http://127.0.0.1:{}", free_port());
    for client in CLIENTS {
        let command = [client, &["--url", &url][..]].concat();
        check(
            &folder,
            &command,
            3,
            1,
            &["no host answers", &url, "bulkhead run CONFIG"],
        )?;
        let ended = folder.run(&[&command[..], &["--json"]].concat())?;
        let told: Value = serde_json::from_str(&ended.err.join(""))?;
        assert_eq!(
            (ended.code(), &told["error"]["code"]),
            (Some(3), &json!("host")),
            "{ended:#?}"
        );
    }
    Ok(())
}

#[test]
fn clients_of_another_program() -> Result<()> {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "220 smtp ready\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let folder = Folder::new()?;
        let other = std::thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            // Once the question is there; a reader that is not read from would see a reset instead of the answer.
            let mut question = [0; 4096];
            let _some = stream.read(&mut question)?;
            stream.write_all(answer.as_bytes())
        });
        check(
            &folder,
            &["status", "--url", &url],
            3,
            1,
            &["no Bulkhead host", &url, "--url"],
        )?;
        other.join().expect("it only answers")?;
    }
    Ok(())
}

#[test]
fn what_the_host_does_not_have() -> Result<()> {
    let host = Bulkhead::start(ALONE)?;
    let refused = |client: &[&str], words: &[&str]| -> Result<()> {
        let ended = host.client(client)?;
        assert_eq!(ended.code(), Some(1), "{client:?}: {ended:#?}");
        no_panic(&ended);
        let told = [messages_of(&ended), ended.out].concat().join("\n");
        for word in words {
            assert!(told.contains(word), "{client:?}: {told}");
        }
        Ok(())
    };
    for command in ["show", "start", "stop", "restart"] {
        refused(
            &["channel", command, "b"],
            &["no channel b", "bulkhead channel list"],
        )?;
    }
    refused(
        &["tag", "show", "b/t"],
        &["no channel b", "bulkhead channel list"],
    )?;
    refused(
        &["tag", "show", "a/u"],
        &["channel a has no tag u", "bulkhead tag list"],
    )?;
    refused(
        &["tag", "read", "a/u"],
        &["channel a has no tag u", "bulkhead tag list"],
    )?;
    refused(
        &["tag", "write", "a/u", "1"],
        &["channel a has no tag u", "bulkhead tag list"],
    )?;
    refused(
        &["tag", "write", "a/t", "x"],
        &["`x` is no uint64", "write a number"],
    )?;
    refused(
        &["tag", "write", "a/t", "1"],
        &["tag t may not be written", "access = \"rw\""],
    )?;
    refused(&["tag", "list", "--channel", "b"], &["no channel b"])?;
    refused(&["tag", "watch", "--channel", "b"], &["no channel b"])?;
    refused(
        &["channel", "start", "a"],
        &["channel a is running already", "restart it"],
    )
}
