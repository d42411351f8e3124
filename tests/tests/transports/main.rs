//! Every kind of link against peers written by others, in a whole host whose driver is the guest `puppet`.
#![expect(
    clippy::unwrap_used,
    reason = "in what only tests call, a panic is the failure of the test"
)]

mod grants;
mod kinds;
mod listen;
mod pressure;
mod serial;
#[path = "../semantics/stage.rs"]
#[expect(dead_code, reason = "another suite uses the rest of it")]
mod stage;
mod start_tls;
mod tls;
mod udp;
mod unix;

use serde_json::{Value as Json, json};

use crate::stage::{Plan, Stage};

/// Opens connection 0 over the link `plc` as soon as the driver begins.
const OPEN: &str = r#"{ on = "started", do = [{ open = { connection = 0, link = 0 } }] },"#;

/// Redials at once, nearly.
const QUICK: &str = r#"base_delay = "10ms", max_delay = "50ms""#;

/// A stage whose link `plc` has these keys.
async fn stage(keys: &str) -> Stage {
    Stage::start(Plan {
        rules: OPEN,
        keys: &format!("links.plc = {{ {keys}, {QUICK} }}"),
        ..Plan::default()
    })
    .await
}

/// A step that sends a text.
fn send(connection: u64, text: &str) -> Json {
    json!({ "send": { "connection": connection, "text": text } })
}

/// Waits until so many bytes have been received on a connection, and gives their text; no event may be longer than 64
/// bytes for that.
async fn received(stage: &mut Stage, connection: u64, wanted: &str) {
    let mut all = String::new();
    while all.len() < wanted.len() {
        let event = stage.event("received").await;
        if event["connection"] == connection {
            all.push_str(event["text"].as_str().unwrap());
        }
    }
    assert_eq!(all, wanted);
}

/// Why a link is down or up, as the API says it.
fn detail(stage: &Stage) -> String {
    stage.channel().status().links[0].detail.clone()
}
