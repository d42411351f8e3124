//! A device that goes away and comes back: what was asked of it meanwhile waits, and is done once each, in its order, or is answered
//! with the reason; its tags are bad at once, and good again.

use std::thread;

use anyhow::Result;
use bulkhead_tests::{Bulkhead, Peer, Reply};
use serde_json::{Value, json};

const CHANNEL: &str = "/api/v1/channels/line";
/// What a test asks of the device while it is away.
const WRITES: usize = 24;
const READS: usize = 4;

fn config(peer: &Peer) -> String {
    format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}", base_delay = "50ms", max_delay = "100ms" }}
settings = {{ unit_id = 1 }}
[[channel.group]]
name = "fast"
period = "50ms"
tags = [{{ name = "level", address = "holding:250", type = "uint16", access = "rw" }}]
"#,
        peer.address()
    )
}

fn quality(host: &Bulkhead, wanted: &str) -> Result<Value> {
    host.get_until("/api/v1/tags/line/level", |tag| {
        (tag["quality"] == wanted).then(|| tag.clone())
    })
}

fn waiting(host: &Bulkhead, wanted: usize) -> Result<()> {
    host.get_until(CHANNEL, |shown| (shown["waiting"] == wanted).then_some(()))
}

fn write(host: &Bulkhead, value: usize, timeout_ms: u64) -> Result<Reply> {
    let body = json!({ "value": value, "timeout_ms": timeout_ms });
    host.post("/api/v1/tags/line/level/write", &body)
}

fn read(host: &Bulkhead) -> Result<Reply> {
    let body = json!({ "timeout_ms": 50_000 });
    host.post("/api/v1/tags/line/level/read", &body)
}

fn code(reply: &Reply) -> (u16, &str) {
    let code = reply.body["error"]["code"].as_str().unwrap_or_default();
    (reply.status, code)
}

/// Requests that write registers, as the device counts them.
fn writes(peer: &mut Peer) -> Result<u64> {
    let requests = peer.requests()?;
    let of = |function| requests.get(&(1, function)).copied().unwrap_or_default();
    Ok(of(6) + of(16))
}

fn check(peer: Peer, come_back: fn(u16) -> Result<Peer>) -> Result<()> {
    let port = peer.port;
    let host = Bulkhead::start(&config(&peer))?;
    quality(&host, "good")?;
    assert_eq!(write(&host, 7, 50_000)?.status, 200);
    drop(peer);
    let tag = quality(&host, "bad-not-connected")?;
    assert!(tag.to_string().contains("link plc is down"), "{tag:#}");

    // A deadline that is over before the device is back.
    let late = write(&host, 8, 200)?;
    assert_eq!(code(&late), (503, "link-down"), "{late:?}");
    let message = late.body["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("link plc is down: ") && message.contains("not up within 200ms"),
        "{message}"
    );
    waiting(&host, 0)?;

    let (answers, mut peer) = thread::scope(|scope| -> Result<_> {
        let host = &host;
        let mut asked = Vec::new();
        for number in 0..READS {
            asked.push(scope.spawn(|| read(host)));
            waiting(host, number + 1)?;
        }
        for number in 0..WRITES {
            asked.push(scope.spawn(move || write(host, 1_000 + number, 50_000)));
            // One after the other.
            waiting(host, READS + number + 1)?;
        }
        let shown = host.client(&["channel", "show", "line"])?.out.join("\n");
        let all = READS + WRITES;
        assert!(
            shown.contains(&format!("{all} requests for a link to come up")),
            "{shown}"
        );
        let peer = come_back(port)?;
        let answers: Vec<Result<Reply>> = asked
            .into_iter()
            .map(|asked| asked.join().expect("no thread of this test panics"))
            .collect();
        Ok((answers, peer))
    })?;
    let last = 1_000 + WRITES - 1;
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = answer?;
        assert_eq!(answer.status, 200, "{number}: {answer:?}");
        if number < READS {
            // It came before all writes, and looked at what they left.
            assert_eq!(answer.body["value"], last, "{answer:?}");
        }
    }
    // In their order, so the last one counts; none lost, none twice.
    assert_eq!(peer.holding(1, 250, 1)?, [last as u16]);
    assert_eq!(writes(&mut peer)?, WRITES as u64);
    waiting(&host, 0)?;
    assert_eq!(quality(&host, "good")?["value"], last);
    let counted = host.get(CHANNEL)?.body["counters"]["waited"].clone();
    assert_eq!(counted, READS + WRITES + 1);
    Ok(())
}

#[test]
fn what_waited_for_the_simulated_device_is_done_once_each_in_its_order() -> Result<()> {
    check(Peer::simulated(&[])?, |port| Peer::simulated_at(port, &[]))
}

#[test]
fn what_waited_for_pymodbus_is_done_once_each_in_its_order() -> Result<()> {
    check(Peer::pymodbus()?, Peer::pymodbus_at)
}

#[test]
fn a_command_waits_as_well_and_may_be_taken_back() -> Result<()> {
    let peer = Peer::simulated(&[])?;
    let port = peer.port;
    let host = Bulkhead::start(&config(&peer))?;
    quality(&host, "good")?;
    drop(peer);
    quality(&host, "bad-not-connected")?;
    let path = format!("{CHANNEL}/commands/read-device-identification");
    let late = host.post(&path, &json!({ "timeout_ms": 200 }))?;
    assert_eq!(code(&late), (503, "link-down"), "{late:?}");

    let (taken_back, done) = thread::scope(|scope| -> Result<_> {
        let (host, path) = (&host, &path);
        let ask = || host.post(path, &json!({ "timeout_ms": 50_000 }));
        let first = scope.spawn(ask);
        waiting(host, 1)?;
        let under_way = host.get(&format!("{CHANNEL}/commands"))?.body;
        let number = &under_way["under_way"][0]["request"];
        let second = scope.spawn(ask);
        waiting(host, 2)?;
        let cancel = host.delete(&format!("{CHANNEL}/commands/{number}"))?;
        assert_eq!(cancel.status, 200, "{under_way:#} {cancel:?}");
        waiting(host, 1)?;
        let _peer = Peer::simulated_at(port, &[])?;
        let answers = (
            first.join().expect("no panic"),
            second.join().expect("no panic"),
        );
        Ok((answers.0?, answers.1?))
    })?;
    assert_eq!(code(&taken_back), (409, "cancelled"), "{taken_back:?}");
    // Whether the device knows this function or not, that is an answer of its own.
    let answered = done.status == 200 || code(&done) == (502, "failed");
    assert!(answered, "{done:?}");
    let dispatched = host.get(CHANNEL)?.body["counters"]["requests"].clone();
    assert_eq!(
        dispatched, 1,
        "the one that was taken back never reached the driver"
    );
    Ok(())
}
