//! Commands: what a driver offers besides tags, from both doors. Each is answered exactly once, whatever becomes of it.

use std::process::Command;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Peer, Reply, Stream};
use serde_json::{Value, json};

/// A channel that takes commands, one that takes none, and one that never answers.
const HOST: &str = r#"
    [[channel]]
    id = "desk"
    driver = "$GUESTS/sessions.wasm"
    restart = { delay = "10ms", max_delay = "10ms", max_attempts = 50 }

    [[channel]]
    id = "wave"
    driver = "$DRIVERS/signal.wasm"
    [[channel.group]]
    name = "all"
    period = "1s"
    tags = [{ name = "count", address = "counter", type = "uint64" }]

    [[channel]]
    id = "mute"
    driver = "$GUESTS/silent.wasm"

    [[channel]]
    id = "plain"
    driver = "$GUESTS/publishes.wasm"
"#;

fn start() -> Result<Bulkhead> {
    let host = Bulkhead::start(HOST)?;
    host.get_until("/api/v1/status", |status| {
        (status["channels"]["running"] == 4).then_some(())
    })?;
    Ok(host)
}

fn path(command: &str) -> String {
    format!("/api/v1/channels/desk/commands/{command}")
}

/// Gives a command that must be done, and gives its payload.
fn done(host: &Bulkhead, command: &str, body: &Value) -> Result<Value> {
    let reply = host.post(&path(command), body)?;
    assert_eq!(reply.status, 200, "{command}: {reply:?}");
    assert_eq!(reply.body["command"], command);
    Ok(reply.body["payload"].clone())
}

/// The status and the code of a refusal that says something.
fn refused(reply: &Reply) -> (u16, String) {
    let error = &reply.body["error"];
    for said in ["message", "remedy"] {
        let text = error[said].as_str().unwrap_or_default();
        assert!(text.len() > 5, "{reply:?}");
    }
    (
        reply.status,
        error["code"].as_str().unwrap_or_default().to_owned(),
    )
}

/// The next event of a stream.
fn next(stream: &mut Stream, name: &str) -> Result<Value> {
    let (seen, data) = stream.next().context("the stream has ended")??;
    assert_eq!(seen, name, "{data}");
    Ok(data)
}

/// Gives `command`, and gives its stream once the driver is at work, with the number of the request.
fn at_work(host: &Bulkhead, command: &str, body: &Value) -> Result<(Stream, u64)> {
    let mut stream = host.post_for_stream(&path(command), body)?;
    let accepted = next(&mut stream, "accepted")?;
    let request = accepted["request"].as_u64().context("a number")?;
    next(&mut stream, "progress")?;
    Ok((stream, request))
}

fn counter(host: &Bulkhead, channel: &str, name: &str) -> Result<Value> {
    Ok(host.get(&format!("/api/v1/channels/{channel}"))?.body["counters"][name].clone())
}

#[test]
fn what_a_command_sets_up_is_there_for_the_next_and_ends_with_the_life() -> Result<()> {
    let host = start()?;
    let session = done(&host, "open", &json!({}))?;
    let other = done(&host, "open", &json!({}))?;
    assert_eq!(
        (&session, &other),
        (&json!({"session": 1}), &json!({"session": 2}))
    );
    for count in 1..=3 {
        let counted = done(&host, "count", &json!({ "payload": session }))?;
        assert_eq!(counted, json!({ "count": count }));
    }
    assert_eq!(
        done(&host, "count", &json!({ "payload": other }))?["count"],
        1
    );
    assert_eq!(
        done(&host, "close", &json!({ "payload": other }))?,
        Value::Null
    );
    let reply = host.post(&path("count"), &json!({ "payload": other }))?;
    assert_eq!(refused(&reply), (502, "failed".to_owned()));
    assert_eq!(reply.body["error"]["message"], "there is no session 2");

    assert_eq!(
        host.post("/api/v1/channels/desk/restart", &json!({}))?
            .status,
        200
    );
    let reply = host.post(&path("count"), &json!({ "payload": session }))?;
    assert_eq!(reply.body["error"]["message"], "there is no session 1");
    Ok(())
}

#[test]
fn payloads_cross_byte_by_byte_and_errors_with_code_message_and_trace() -> Result<()> {
    let host = start()?;
    let echo = |body: Value| -> Result<Value> { Ok(host.post(&path("echo"), &body)?.body) };
    let sent = json!({ "slot": 2, "text": "ä\u{1b}\n", "big": u64::MAX });
    assert_eq!(echo(json!({ "payload": sent }))?["payload"], sent);
    let bytes = echo(json!({ "payload_base64": "AP8AgA==" }))?;
    assert_eq!(bytes["payload_base64"], "AP8AgA==");
    assert_eq!(bytes.get("payload"), None);
    let nothing = echo(json!({}))?;
    assert_eq!(
        (nothing.get("payload"), nothing.get("payload_base64")),
        (None, None)
    );

    let reply = host.post(&path("refuse"), &json!({}))?;
    assert_eq!(refused(&reply), (502, "failed".to_owned()));
    let error = &reply.body["error"];
    assert_eq!(
        (&error["message"], &error["device_code"], &error["trace"]),
        (
            &json!("the drawer is locked"),
            &json!(17),
            &json!("drawer.rs:3")
        )
    );

    for (body, word) in [
        (json!({ "payload": 1, "payload_base64": "AA==" }), "both"),
        (json!({ "payload_base64": "A" }), "base64"),
        (json!({ "load": 1 }), "load"),
        (json!({ "timeout_ms": 0 }), "timeout_ms"),
        (json!({ "timeout_ms": 300_001 }), "timeout_ms"),
    ] {
        let reply = host.post(&path("echo"), &body)?;
        assert_eq!(refused(&reply), (400, "bad-request".to_owned()), "{body}");
        assert!(reply.body.to_string().contains(word), "{body}: {reply:?}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_name() -> Result<()> {
    let host = start()?;
    let reply = host.post(&path("forbidden"), &json!({}))?;
    assert_eq!(refused(&reply), (404, "no-such-command".to_owned()));
    let text = reply.body.to_string();
    assert!(
        text.contains("`forbidden`") && text.contains("open, count, close"),
        "{text}"
    );
    let reply = host.post("/api/v1/channels/wave/commands/open", &json!({}))?;
    assert_eq!(refused(&reply), (404, "no-such-command".to_owned()));
    let reply = host.post("/api/v1/channels/plain/commands/open", &json!({}))?;
    assert_eq!(refused(&reply), (501, "not-supported".to_owned()));
    let reply = host.post("/api/v1/channels/nobody/commands/open", &json!({}))?;
    assert_eq!(refused(&reply), (404, "no-such-channel".to_owned()));
    // None of them came to a driver.
    assert_eq!(counter(&host, "desk", "requests")?, 0);

    let listed = host.get("/api/v1/channels/desk/commands")?.body;
    assert_eq!(listed["offered"][0]["name"], "open");
    assert_eq!(listed["under_way"], json!([]));

    assert_eq!(
        host.post("/api/v1/channels/desk/stop", &json!({}))?.status,
        200
    );
    host.get_until("/api/v1/channels/desk", |shown| {
        (shown["state"] == "stopped").then_some(())
    })?;
    let reply = host.post(&path("open"), &json!({}))?;
    assert_eq!(refused(&reply), (409, "not-running".to_owned()));
    assert!(
        reply.body.to_string().contains("start the channel"),
        "{reply:?}"
    );
    assert_eq!(host.delete(&path("1"))?.status, 404);
    Ok(())
}

#[test]
fn progress_is_seen_while_it_happens_and_the_answer_ends_the_stream() -> Result<()> {
    let host = start()?;
    let mut stream = host.post_for_stream(&path("steps"), &json!({}))?;
    let accepted = next(&mut stream, "accepted")?;
    let mut fractions = Vec::new();
    let answer = loop {
        let (name, data) = stream.next().context("an answer")??;
        match name.as_str() {
            "progress" => fractions.push(data["fraction"].as_f64().context("a fraction")?),
            _ => break (name, data),
        }
    };
    assert_eq!(answer.0, "done");
    assert_eq!(
        (&answer.1["payload"], &answer.1["request"]),
        (&json!("stepped"), &accepted["request"])
    );
    // A slow reader may miss one that was overtaken, never the last, and none comes twice.
    assert_eq!(fractions.last(), Some(&0.75), "{fractions:?}");
    assert!(fractions.is_sorted_by(|a, b| a < b), "{fractions:?}");
    assert!(stream.next().is_none(), "nothing follows the answer");
    Ok(())
}

#[test]
fn the_deadline_answers_and_what_the_driver_says_later_is_dropped_and_counted() -> Result<()> {
    let host = start()?;
    // The driver drops what nobody waits for, and answers with an error: that answer has no reader either.
    let reply = host.post(&path("hang"), &json!({ "timeout_ms": 100 }))?;
    assert_eq!(refused(&reply), (504, "timed-out".to_owned()));
    let told = json!({ "begun": 1, "dropped": 1, "late": 0 });
    assert_eq!(done(&host, "counts", &json!({}))?, told);
    host.get_until("/api/v1/channels/desk", |shown| {
        (shown["counters"]["late_answers"] == 1).then_some(())
    })?;
    // One that cannot be taken back answers late.
    let reply = host.post(&path("slow"), &json!({ "timeout_ms": 50 }))?;
    assert_eq!(refused(&reply), (504, "timed-out".to_owned()));
    host.get_until("/api/v1/channels/desk", |shown| {
        (shown["counters"]["late_answers"] == 2).then_some(())
    })?;
    let told = json!({ "begun": 2, "dropped": 1, "late": 1 });
    assert_eq!(done(&host, "counts", &json!({}))?, told);
    // In time, it is an answer like any other.
    assert_eq!(done(&host, "slow", &json!({}))?, "too late?");
    assert_eq!(counter(&host, "desk", "late_answers")?, 2);
    assert_eq!(counter(&host, "desk", "faults")?, 0);

    // A driver that answers nothing holds nobody.
    let mute = "/api/v1/channels/mute/commands/anything";
    let reply = host.post(mute, &json!({ "timeout_ms": 50 }))?;
    assert_eq!(refused(&reply), (504, "timed-out".to_owned()));
    Ok(())
}

#[test]
fn a_command_is_taken_back_from_anywhere_or_by_going_away() -> Result<()> {
    let host = start()?;
    let (mut stream, request) = at_work(&host, "hang", &json!({}))?;
    let listed = host.get("/api/v1/channels/desk/commands")?.body;
    let under_way = &listed["under_way"][0];
    assert_eq!(
        (
            &under_way["request"],
            &under_way["command"],
            &under_way["progress"]["message"]
        ),
        (&json!(request), &json!("hang"), &json!("half of it"))
    );
    let reply = host.delete(&path(&request.to_string()))?;
    assert_eq!(
        (reply.status, &reply.body["request"]),
        (200, &json!(request))
    );
    let failed = next(&mut stream, "failed")?;
    assert_eq!(failed["error"]["code"], "cancelled");
    assert!(stream.next().is_none());
    let reply = host.delete(&path(&request.to_string()))?;
    assert_eq!(refused(&reply), (404, "no-such-request".to_owned()));
    for wrong in ["hang", "-1", "18446744073709551616"] {
        assert_eq!(host.delete(&path(wrong))?.status, 404, "{wrong}");
    }

    // Whoever goes away takes it back too, whether they wanted a stream or not.
    let (stream, _) = at_work(&host, "hang", &json!({}))?;
    drop(stream);
    host.get_until("/api/v1/channels/desk/commands", |listed| {
        (listed["under_way"] == json!([])).then_some(())
    })?;
    // The driver hears of it before it hears of this.
    let told = json!({ "begun": 2, "dropped": 2, "late": 0 });
    assert_eq!(done(&host, "counts", &json!({}))?, told);
    Ok(())
}

#[test]
fn the_end_of_a_life_answers_what_was_under_way_and_nothing_is_sent_again() -> Result<()> {
    let host = start()?;
    let (mut first, _) = at_work(&host, "hang", &json!({}))?;
    let (mut second, _) = at_work(&host, "slow", &json!({}))?;
    let reply = host.post(&path("trap"), &json!({}))?;
    assert_eq!(refused(&reply), (503, "restarted".to_owned()));
    for stream in [&mut first, &mut second] {
        assert_eq!(next(stream, "failed")?["error"]["code"], "restarted");
        assert!(stream.next().is_none());
    }
    // The next life knows nothing of them.
    let told = json!({ "begun": 0, "dropped": 0, "late": 0 });
    assert_eq!(done(&host, "counts", &json!({}))?, told);
    let shown = host.get("/api/v1/channels/desk")?.body;
    assert_eq!(
        (&shown["incarnation"], &shown["counters"]["faults"]),
        (&json!(2), &json!(1))
    );
    // Four were handed out: hang, slow, trap and counts.
    assert_eq!(shown["counters"]["requests"], 4);
    Ok(())
}

#[test]
fn a_channel_has_at_most_sixteen_under_way() -> Result<()> {
    let host = start()?;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(at_work(&host, "hang", &json!({}))?);
    }
    let reply = host.post(&path("open"), &json!({}))?;
    assert_eq!(refused(&reply), (503, "too-many-commands".to_owned()));
    let (_, request) = streams[7];
    assert_eq!(host.delete(&path(&request.to_string()))?.status, 200);
    assert_eq!(
        next(&mut streams[7].0, "failed")?["error"]["code"],
        "cancelled"
    );
    assert_eq!(done(&host, "open", &json!({}))?["session"], 1);
    Ok(())
}

#[test]
fn the_command_line_gives_shows_and_takes_back() -> Result<()> {
    let host = start()?;
    let ask =
        |arguments: &[&str]| host.client(&[&["channel", "command", "desk"], arguments].concat());
    let ended = ask(&["open", "--json"])?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    let line: Value = serde_json::from_str(&ended.out[0])?;
    assert_eq!(
        (ended.out.len(), &line["payload"], &line["command"]),
        (1, &json!({ "session": 1 }), &json!("open"))
    );
    let ended = ask(&["count", "--payload", r#"{"session":1}"#])?;
    assert_eq!(
        (ended.code(), ended.out.join("")),
        (Some(0), "{  \"count\": 1}".to_owned())
    );
    let file = host.folder().join("payload.txt");
    std::fs::write(&file, "two\nlines")?;
    let name = file.to_str().context("a path in UTF-8")?;
    let ended = ask(&["echo", "--payload-file", name])?;
    assert_eq!(
        (ended.code(), &ended.out),
        (Some(0), &vec!["two".to_owned(), "lines".to_owned()])
    );
    let ended = ask(&["steps"])?;
    assert_eq!(
        (ended.code(), &ended.out),
        (Some(0), &vec!["\"stepped\"".to_owned()])
    );
    assert!(
        ended.err.iter().any(|line| line.contains("75 % step 3")),
        "{ended:#?}"
    );

    let ended = ask(&["forbidden"])?;
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    assert!(
        ended.err.join("\n").contains("it has open, count"),
        "{ended:#?}"
    );
    let ended = ask(&["refuse", "--json"])?;
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    let error: Value = serde_json::from_str(&ended.err[0])?;
    assert_eq!(error["error"]["trace"], "drawer.rs:3");
    assert_eq!(ask(&["echo", "--payload", "{"])?.code(), Some(2));
    assert_eq!(
        ask(&["echo", "--payload-file", "/nonexistent"])?.code(),
        Some(1)
    );
    let ended = ask(&["hang", "--timeout", "100ms"])?;
    assert_eq!(ended.code(), Some(1));
    assert!(
        ended.err.join("\n").contains("no answer within"),
        "{ended:#?}"
    );

    let listed = host.client(&["channel", "commands", "desk"])?;
    assert!(
        listed
            .out
            .iter()
            .any(|line| line.contains("Opens a session")),
        "{listed:#?}"
    );

    let hanging = host.start_client(&["channel", "command", "desk", "hang"])?;
    hanging
        .err()
        .wait_for(0, |line| line.contains("half of it").then_some(()))?;
    let interrupted = Command::new("kill")
        .args(["-INT", &hanging.id().to_string()])
        .status()?;
    assert!(interrupted.success());
    let ended = hanging.wait()?;
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    assert!(
        ended.err.join("\n").contains("it was cancelled"),
        "{ended:#?}"
    );
    let told = json!({ "begun": 2, "dropped": 2, "late": 0 });
    assert_eq!(done(&host, "counts", &json!({}))?, told);
    Ok(())
}

#[test]
fn an_answer_that_cannot_be_meant_ends_the_life_and_nobody_hears_it() -> Result<()> {
    let lies = [
        ("command_twice", "was answered before"),
        ("command_answered_as_read", "which is no read"),
        ("command_too_long", "bytes are answered to a command"),
        ("progress_too_far", "not from 0 to 1"),
        ("progress_of_nothing", "not from 0 to 1"),
        ("progress_of_nobody", "not under way"),
        ("progress_after_done", "not under way"),
    ];
    let channel = |lie: &str| {
        format!(
            "[[channel]]\nid = \"{lie}\"\ndriver = \"$GUESTS/lies.wasm\"\nsettings = {{ lie = \"{lie}\" }}\n"
        )
    };
    let truth = channel("unknown_tag");
    let all: String = lies.iter().map(|(lie, _)| channel(lie)).collect();
    let host = Bulkhead::start(&(truth + &all))?;
    let ask = |channel: &str| {
        let path = format!("/api/v1/channels/{channel}/commands/anything");
        host.post(&path, &json!({ "payload": 7 }))
    };
    assert_eq!(ask("unknown_tag")?.body["payload"], 7);
    for (lie, says) in lies {
        assert_eq!(refused(&ask(lie)?), (503, "restarted".to_owned()), "{lie}");
        let shown = host.get_until(&format!("/api/v1/channels/{lie}"), |shown| {
            (shown["incarnation"] == 2).then(|| shown.clone())
        })?;
        let exit = &shown["last_exit"];
        assert_eq!(exit["exit"], "refused", "{lie}: {exit}");
        let message = exit["message"].as_str().unwrap_or_default();
        assert!(message.contains(says), "{lie}: {message}");
    }
    Ok(())
}

#[test]
fn an_address_is_read_before_it_is_a_tag() -> Result<()> {
    let peer = Peer::simulated(&[])?;
    let toml = format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}" }}
[[channel.device]]
name = "press"
address = "1"
[[channel.tag]]
name = "raw"
address = "holding:250"
type = "uint16[2]"
access = "rw"
"#,
        peer.address()
    );
    let host = Bulkhead::start(&toml)?;
    // 21.5 as IEEE 754 binary32, its words swapped.
    let raw = json!({ "value": [0, 0x41ac] });
    let written = host.post("/api/v1/tags/line/raw/write", &raw)?;
    assert_eq!(written.status, 200, "{written:?}");
    let read = |more: &[&str]| {
        let one = ["tag", "test-read", "line", "--address", "40251"];
        host.client(&[&one[..], more].concat())
    };
    let swapped = read(&[
        "--device",
        "press",
        "--type",
        "float32",
        "--settings",
        r#"{"order":"CDAB"}"#,
        "--json",
    ])?;
    assert_eq!(swapped.code(), Some(0), "{swapped:?}");
    let found: Value = serde_json::from_str(&swapped.out[0])?;
    let expected = json!({ "device": "press", "unit": 1, "value": 21.5, "bytes": "000041ac" });
    assert_eq!(found, expected);
    let shown = read(&["--type", "uint16[2]"])?;
    assert_eq!(shown.code(), Some(0), "{shown:?}");
    assert_eq!(shown.out[0], "value    [0, 16812]", "{shown:?}");

    for (more, said) in [
        (&["--type", "int8"][..], "int8 is smaller than a register"),
        (
            &["--type", "int16", "--device", "pump"],
            "name one of the devices press",
        ),
    ] {
        let refused = read(more)?;
        assert_eq!(refused.code(), Some(1), "{refused:?}");
        assert!(refused.err.join("\n").contains(said), "{refused:?}");
    }
    let wrong = read(&["--type", "int16", "--settings", "{"])?;
    assert_eq!(wrong.code(), Some(2), "{wrong:?}");
    Ok(())
}
