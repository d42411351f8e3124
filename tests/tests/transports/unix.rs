//! Stream sockets of this machine, with `socat` at the other end.

use std::process::Command;

use bulkhead_tests::{Folder, Running};
use serde_json::json;

use crate::{detail, received, send, stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_this_machine_is_dialled_until_it_is_there() {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("plc.sock");
    let mut stage = stage(&format!(r#"connect = "unix://{}""#, path.display())).await;
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Unreachable"), &json!("Redialling"))
    );
    assert!(
        detail(&stage).contains("check that its program runs"),
        "{}",
        detail(&stage)
    );

    let address = format!("UNIX-LISTEN:{},fork", path.display());
    let mut socat = Running::start(Command::new("socat").args([&address, "STDIO"])).unwrap();
    let opened = stage.event("opened").await;
    assert_eq!(opened["peer"], path.display().to_string());
    stage.must(&[send(0, "hello\n")]).await;
    socat
        .out()
        .wait_for(0, |line| (line == "hello").then_some(()))
        .unwrap();
    socat.tell("good day").unwrap();
    received(&mut stage, 0, "good day\n").await;
    socat.kill().unwrap();
    assert_eq!(stage.event("closed").await["outlook"], json!("Redialling"));
}
