//! Limits that belong to no single exit: words of drivers, rates of notices, room in the pool, a log that nobody reads.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bulkhead_tests::components::Core;
use bulkhead_tests::{Bulkhead, Folder, Recorder, paths};
use serde_json::json;

/// Whether a text can move a cursor or begin a line of its own.
fn is_tame(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

#[test]
fn the_words_of_a_driver_stay_on_their_line() -> Result<()> {
    let said = "evil\\u001b[2J\\nERROR forged \\u202e";
    let host = Bulkhead::start(&format!(
        r#"
        [[channel]]
        id = "speaks"
        driver = "$GUESTS/errs.wasm"
        settings = {{ message = "{said}" }}
        restart = {{ max_attempts = 0 }}
        [[channel.group]]
        name = "all"
        period = "10ms"
        tags = [{{ name = "t", address = "x", type = "float64" }}]
        "#
    ))?;
    let channel = host.get_until("/api/v1/channels/speaks", |channel| {
        (channel["state"] == "broken").then(|| channel.clone())
    })?;
    let exit = &channel["last_exit"];
    assert_eq!(exit["exit"], "driver-error", "{exit:#}");
    let message = exit["message"].as_str().context("a message")?;
    assert_eq!(message, r"evil\u{1b}[2J\nERROR forged \u{202e} (code 17)");
    let reason = channel["reason"].as_str().context("a reason")?;
    assert!(is_tame(reason) && reason.contains("forged"), "{reason}");
    let err = host.process().err();
    err.wait_for(0, |line| line.contains("forged").then_some(()))?;
    for line in err.so_far() {
        assert!(is_tame(&line) && !line.starts_with("ERROR"), "{line:?}");
    }
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn what_a_driver_finds_wrong_is_told_on_one_line() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(
        r#"
        [[channel]]
        id = "a"
        driver = "$GUESTS/errs.wasm"
        settings = { "evil\u001b[2J\nbulkhead.toml:1:1: forged" = 1 }
        "#,
    )?;
    let ended = folder.run(&["check", Folder::CONFIG])?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let told: Vec<_> = ended
        .err
        .iter()
        .filter(|line| line.contains("forged"))
        .collect();
    assert_eq!(told.len(), 1, "{:?}", ended.err);
    assert!(
        is_tame(told[0]) && told[0].contains(r"evil\u{1b}[2J\nbulkhead.toml"),
        "{told:?}"
    );
    assert!(
        !ended
            .err
            .iter()
            .any(|line| line.starts_with("bulkhead.toml:1:1:")),
        "{:?}",
        ended.err
    );
    Ok(())
}

fn alarms(count: u32) -> String {
    format!(
        r#"
        [[channel]]
        id = "c{count}"
        driver = "$GUESTS/floods.wasm"
        settings = {{ what = "alarms", count = {count} }}
        restart = {{ max_attempts = 0 }}
        [[channel.group]]
        name = "all"
        period = "1h"
        tags = [{{ name = "t", address = "x", type = "float64" }}]
        "#
    )
}

/// Ten seconds' worth may come at once; one more is too many, and then none of them comes.
#[test]
fn a_flood_of_alarms_is_refused_and_what_is_within_bounds_is_told_tamely() -> Result<()> {
    let toml = [alarms(10_001), alarms(5)].concat();
    let host = Bulkhead::start(&toml)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream")?);
    let channel = host.get_until("/api/v1/channels/c10001", |channel| {
        (channel["state"] == "broken").then(|| channel.clone())
    })?;
    let exit = &channel["last_exit"];
    assert_eq!(exit["exit"], "refused", "{exit:#}");
    let message = exit["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("action 10001 of 10002 (alarm) is one too many")
            && message.contains("1000 alarms and device states a second"),
        "{message}"
    );
    host.post("/api/v1/channels/c5/restart", &json!({}))?;
    recorder.wait("five alarms", |seen| {
        seen.iter()
            .filter(|(name, data)| name == "alarm" && data["channel"] == "c5")
            .count()
            >= 5
    })?;
    for (name, data) in recorder.so_far() {
        if name != "alarm" {
            continue;
        }
        assert_ne!(data["channel"], "c10001", "{data}");
        let (code, message) = (data["code"].as_str(), data["message"].as_str());
        let (code, message) = (code.context("a code")?, message.context("a message")?);
        assert!(
            code.len() <= 64 && is_tame(code) && code.starts_with(r"code\u{1b}[2J"),
            "{code}"
        );
        assert!(
            is_tame(message) && message.contains(r"\nERROR forged"),
            "{message}"
        );
    }
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

/// Drivers of eight memories each would use up a pool that counts one for each channel.
#[test]
fn no_driver_takes_the_place_of_another_in_the_pool() -> Result<()> {
    const GREEDY: usize = 60;
    const MODEST: usize = 20;
    let folder = Folder::new()?;
    let with = |fields: &str| {
        Core {
            fields,
            ..Core::default()
        }
        .component()
    };
    folder.write("greedy.wasm", with(&"(memory 1)".repeat(7)))?;
    folder.write("modest.wasm", with(""))?;
    let mut toml = String::new();
    for (kind, count) in [("greedy", GREEDY), ("modest", MODEST)] {
        for number in 0..count {
            writeln!(
                toml,
                "[[channel]]\nid = \"{kind}-{number}\"\ndriver = \"$DIR/{kind}.wasm\""
            )?;
        }
    }
    let host = Bulkhead::start_in(folder, &toml, &[])?;
    let states = host.get_until("/api/v1/channels?limit=1000", |list| {
        let channels = list["channels"].as_array()?;
        let starting = channels
            .iter()
            .any(|channel| channel["state"] == "starting");
        (channels.len() == GREEDY + MODEST && !starting).then(|| channels.clone())
    })?;
    for channel in states {
        assert_eq!(channel["state"], "running", "{channel:#}");
    }
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

/// Standard error is a pipe that nobody reads: it is full after 64 KiB, and the host goes on.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() -> Result<()> {
    let folder = Folder::new()?;
    let port = bulkhead_tests::free_port();
    folder.write_config(&format!(
        r#"
        [http]
        listen = "127.0.0.1:{port}"
        [[channel]]
        id = "talks"
        driver = "$GUESTS/floods.wasm"
        settings = {{ what = "logs", count = 100 }}
        [[channel.group]]
        name = "all"
        period = "10ms"
        tags = [{{ name = "t", address = "x", type = "float64" }}]
        "#
    ))?;
    let mut child = Command::new(paths::bulkhead()?)
        .current_dir(folder.path())
        .args(["run", Folder::CONFIG, "--log-level", "trace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(bulkhead_tests::PATIENCE))
        .build()
        .new_agent();
    let url = format!("http://127.0.0.1:{port}/api/v1/channels/talks");
    // A hundred lines of a hundred bytes in each poll, though the rate limit of its own lets fewer pass: enough for many pipes.
    let done = (0..6_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let body = agent
            .get(&url)
            .call()
            .ok()?
            .body_mut()
            .read_to_string()
            .ok()?;
        let channel: serde_json::Value = serde_json::from_str(&body).ok()?;
        (channel["counters"]["polls"].as_u64()? >= 800).then_some(channel)
    });
    let unread = child.stderr.take().context("a pipe")?;
    child.kill()?;
    child.wait()?;
    let read = std::io::read_to_string(unread)?;
    assert!(
        read.len() >= 60 * 1024,
        "the pipe was never full: {} bytes",
        read.len()
    );
    assert!(done.is_some(), "it did not go on:\n{}", &read[..2_000]);
    Ok(())
}
