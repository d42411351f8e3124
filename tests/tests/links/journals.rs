//! What links do and have gone through, as operators see it: by HTTP, on the stream, with `bulkhead link`, over restarts.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Bulkhead, Calls, Recorder, free_port};
use serde_json::{Value, json};

use super::reconnection::opener;

const LINK: &str = "/api/v1/links/press/plc";

fn quick(address: &str) -> String {
    format!(r#"connect = "tcp://{address}", base_delay = "10ms", max_delay = "20ms""#)
}

/// The link, once it is in this state.
fn in_state(host: &Bulkhead, state: &str) -> Result<Value> {
    host.get_until(LINK, |link| (link["state"] == state).then(|| link.clone()))
}

/// The names of all events, in order.
fn events(host: &Bulkhead) -> Result<Vec<String>> {
    let reply = host.get(&format!("{LINK}/events"))?;
    ensure!(reply.body["durable"] == true, "{reply:?}");
    let events = reply.body["events"].as_array().context("events")?;
    let numbers: Vec<u64> = events.iter().filter_map(|e| e["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    Ok(events
        .iter()
        .filter_map(|e| Some(e["event"].as_str()?.to_owned()))
        .collect())
}

#[test]
fn what_happens_to_a_link_is_told_and_kept_over_restarts_of_driver_and_host() -> Result<()> {
    let calls = Calls::listen()?;
    let toml = opener(&quick(&calls.address.to_string()));
    let host = Bulkhead::start(&toml)?;
    let stream = Recorder::start(host.stream("/api/v1/stream?kind=link-event&channel=press")?);
    let first = calls.accept()?;
    let shown = in_state(&host, "connected")?;
    assert_eq!(shown["peer"], calls.address.to_string());
    assert_eq!(shown["statistics"]["streams"], 1, "{shown:#}");
    assert_eq!(events(&host)?, ["connected"]);

    drop(first);
    let second = calls.accept()?;
    host.get_until(LINK, |link| {
        (link["statistics"]["streams"] == 2).then_some(())
    })?;
    let told = ["connected", "disconnected", "reconnecting", "reconnected"];
    assert_eq!(events(&host)?, told);
    stream.wait("three events of the link", |seen| {
        seen.iter().filter(|(kind, _)| kind == "link-event").count() >= 3
    })?;

    // The driver's next life opens it anew; the journal goes on.
    let reply = host.post("/api/v1/channels/press/restart", &json!({}))?;
    ensure!(reply.status == 200, "{reply:?}");
    let third = calls.accept()?;
    host.get_until(LINK, |link| {
        (link["statistics"]["streams"] == 3).then_some(())
    })?;
    // The old stream lingers until its peer has had time to say its last: either may be the first to be told.
    let lives = host.get_until(&format!("{LINK}/events"), |history| {
        let all = history["events"].as_array()?;
        (all.len() == 6).then(|| {
            all.iter()
                .map(|event| event["event"].to_string())
                .collect::<Vec<_>>()
        })
    })?;
    let mut tail = lives[4..].to_vec();
    tail.sort_unstable();
    assert_eq!(tail, [r#""connected""#, r#""disconnected""#]);
    let lives = events(&host)?;
    let before = in_state(&host, "connected")?;
    assert_eq!(before["statistics"]["dials"], 3, "{before:#}");

    // So does the next run of the host, and says what is configured otherwise.
    drop((second, third));
    let host = host.start_again(&toml.replace("20ms", "30ms"))?;
    let fourth = calls.accept()?;
    host.get_until(LINK, |link| {
        (link["statistics"]["streams"].as_u64() > Some(3)).then_some(())
    })?;
    let after = events(&host)?;
    assert_eq!(after[..lives.len()], lives[..]);
    assert!(
        after.contains(&"configuration-changed".to_owned()),
        "{after:?}"
    );
    let reply = host.get(&format!("{LINK}/events"))?;
    let change = reply.body["events"].as_array().and_then(|all| {
        all.iter()
            .find(|event| event["event"] == "configuration-changed")
            .cloned()
    });
    let change = change.context("a change of the configuration")?;
    assert_eq!(change["cause"], "max_delay was 20ms, is 30ms");
    drop(fourth);
    Ok(())
}

#[test]
fn the_command_line_lists_shows_tests_and_redials() -> Result<()> {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let more = r#", max_attempts = 1"#;
    let host = Bulkhead::start(&opener(&format!("{}{more}", quick(&address))))?;
    in_state(&host, "failed")?;

    let ended = host.client(&["link", "list"])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(ended.out.len(), 2, "{ended:?}");
    for word in [
        "press/plc",
        "failed",
        &address,
        "1 of 1",
        "connection refused",
    ] {
        assert!(ended.out[1].contains(word), "{word}: {ended:?}");
    }
    let ended = host.client(&["link", "list", "--json"])?;
    let listed: Value = serde_json::from_str(&ended.out[0])?;
    assert_eq!(listed["state"], "failed");
    assert_eq!(listed["max_attempts"], 1);

    // Nobody listens there: the test says so, with the remedy, and its exit code is that of a fault.
    let ended = host.client(&["link", "test", "press/plc"])?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let said = ended.out.join("\n");
    for word in [
        "grant",
        "resolve",
        "connect",
        "failed",
        "check that the device is on",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let ended = host.client(&["link", "test", "press/plc", "--json"])?;
    let found: Value = serde_json::from_str(&ended.out[0])?;
    assert_eq!(
        (&found["ok"], &found["dialled"]),
        (&json!(false), &json!(true))
    );
    let last = found["steps"]
        .as_array()
        .and_then(|steps| steps.last().cloned());
    let last = last.context("steps")?;
    assert_eq!(
        (&last["step"], &last["ok"]),
        (&json!("connect"), &json!(false))
    );
    assert!(
        last["remedy"]
            .as_str()
            .is_some_and(|remedy| !remedy.is_empty()),
        "{last}"
    );
    in_state(&host, "failed")?;

    let listener = TcpListener::bind(&address)?;
    let ended = host.client(&["link", "test", "press/plc"])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let (_tried, _) = listener.accept()?;
    in_state(&host, "failed")?;

    let ended = host.client(&["link", "reconnect", "press/plc"])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let (_peer, _) = listener.accept()?;
    in_state(&host, "connected")?;
    let ended = host.client(&["link", "show", "press/plc"])?;
    let said = ended.out.join("\n");
    for word in [
        "connected",
        "attempts",
        "heartbeat",
        "asked for by the operator",
        "reconnected",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // What is up is looked at and not dialled.
    let ended = host.client(&["link", "test", "press/plc", "--json"])?;
    let found: Value = serde_json::from_str(&ended.out[0])?;
    assert_eq!(
        (&found["ok"], &found["dialled"]),
        (&json!(true), &json!(false))
    );
    listener.set_nonblocking(true)?;
    let kind = listener.accept().map_err(|error| error.kind()).err();
    assert_eq!(
        kind,
        Some(std::io::ErrorKind::WouldBlock),
        "somebody called"
    );

    let ended = host.client(&["link", "show", "press/plx"])?;
    assert_eq!(ended.code(), Some(1));
    assert!(
        ended.err.join("\n").contains("bulkhead link list"),
        "{ended:?}"
    );
    let ended = host.client(&["link", "test", "press"])?;
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    Ok(())
}
