//! When links are dialled again, when no more, and who may ask for it.

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Recorder, free_port};
use serde_json::json;

/// A channel whose driver opens its one link and does nothing else.
pub(crate) fn opener(link: &str) -> String {
    format!(
        r#"
        [[channel]]
        id = "press"
        driver = "$GUESTS/puppet.wasm"
        links.plc = {{ {link} }}
        settings = {{ rules = [{{ on = "started", do = [{{ open = {{ connection = 0, link = 0 }} }}] }}] }}
        [[channel.tag]]
        name = "journal"
        address = "journal"
        type = "string"
        [[channel.tag]]
        name = "strings"
        address = "strings"
        type = "string"
        access = "w"
        "#
    )
}

#[test]
fn a_link_whose_attempts_are_spent_says_so_and_degrades_its_channel() -> Result<()> {
    let port = free_port();
    let host = Bulkhead::start(&opener(&format!(
        r#"connect = "tcp://127.0.0.1:{port}", base_delay = "10ms", max_delay = "10ms", max_attempts = 2"#
    )))?;
    let detail = host.get_until("/api/v1/channels/press", |channel| {
        let detail = channel["links"][0]["detail"].as_str()?;
        let degraded = channel["state"] == "degraded";
        (degraded && detail.contains("attempts are spent")).then(|| channel.clone())
    })?;
    let sentence = detail["links"][0]["detail"].as_str().context("a detail")?;
    assert!(sentence.contains("connection refused"), "{sentence}");
    assert!(
        sentence.ends_with("`bulkhead link reconnect` asks for another"),
        "{sentence}"
    );
    let reason = detail["reason"].as_str().context("a reason")?;
    assert!(reason.contains("attempts are spent"), "{reason}");
    assert_eq!(
        detail["attempts"], 0,
        "a device that is away spends no restart"
    );
    // Operators are told of it as it happens, each time.
    let told = Recorder::start(host.stream("/api/v1/stream?kind=warning,link-event")?);
    let again = host.post("/api/v1/links/press/plc/reconnect", &json!({}))?;
    assert_eq!(again.status, 200, "{again:?}");
    told.wait("operators are told", |seen| {
        seen.iter().any(|(name, data)| {
            let message = data["message"].as_str().unwrap_or_default();
            name == "warning" && message.contains("its attempts are spent")
        })
    })?;
    Ok(())
}
