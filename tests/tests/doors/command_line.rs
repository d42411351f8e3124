//! What people and scripts get from `bulkhead` itself: JSON that parses, exit codes, progress, the time to the first
//! sample.

use std::process::Command;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Folder, Running, paths};
use serde_json::{Value, json};

use super::{SIGNAL, json_lines};

fn host() -> Result<Bulkhead> {
    let host = Bulkhead::start(SIGNAL)?;
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"] == 2).then_some(())
    })?;
    Ok(host)
}

#[test]
fn what_is_for_programs_is_json() -> Result<()> {
    let host = host()?;
    let ask = |arguments: &[&str]| -> Result<Vec<Value>> {
        let ended = host.client(&[arguments, &["--json"]].concat())?;
        assert_eq!(ended.code(), Some(0), "{arguments:?}: {ended:#?}");
        assert!(ended.err.is_empty(), "{arguments:?}: {ended:#?}");
        Ok(json_lines(&ended))
    };
    let one = |arguments: &[&str]| -> Result<Value> {
        let mut lines = ask(arguments)?;
        assert_eq!(lines.len(), 1, "{arguments:?}");
        lines.pop().context("one line")
    };
    assert_eq!(one(&["status"])?["pid"], host.process().id());
    assert_eq!(one(&["channel", "list"])?["id"], "a");
    assert_eq!(one(&["channel", "show", "a"])?["state"], "running");
    let tags: Vec<Value> = ask(&["tag", "list"])?
        .iter()
        .map(|tag| tag["tag"].clone())
        .collect();
    assert_eq!(tags, ["count", "held"]);
    assert_eq!(one(&["tag", "list", "h*"])?["tag"], "held");
    assert_eq!(ask(&["tag", "list", "--limit", "1"])?.len(), 1);
    assert_eq!(one(&["tag", "show", "a/held"])?["address"], "hold(20)");
    assert_eq!(
        one(&["tag", "write", "a/held", "0x21", "--read-back"])?,
        json!({ "channel": "a", "tag": "held", "value": 33, "read_back": 33 })
    );
    assert_eq!(one(&["tag", "read", "a/held"])?["value"], 33);
    let samples = ask(&["tag", "watch", "count", "--count", "5"])?;
    let values: Vec<u64> = samples
        .iter()
        .filter_map(|sample| sample["value"].as_u64())
        .collect();
    assert_eq!(values.len(), 5);
    assert!(values.is_sorted(), "{values:?}");
    assert_eq!(one(&["channel", "restart", "a"])?["id"], "a");
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["state"] == "running" && shown["incarnation"] == 2).then_some(())
    })?;
    assert_eq!(one(&["channel", "stop", "a"])?["id"], "a");
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["state"] == "stopped").then_some(())
    })?;
    assert_eq!(one(&["channel", "start", "a"])?["id"], "a");

    // Refusals as well, on standard error, and those of a part beside the others.
    let refused = host.client(&["channel", "start", "b", "--json"])?;
    let told: Value = serde_json::from_str(&refused.err.join(""))?;
    assert_eq!(
        (refused.code(), &told["error"]["code"]),
        (Some(1), &json!("no-such-channel"))
    );
    let partly = host.client(&["tag", "read", "a/held", "a/x", "--json"])?;
    let lines = json_lines(&partly);
    assert_eq!(
        (partly.code(), &lines[0]["tag"], &lines[1]["error"]["code"]),
        (Some(1), &json!("held"), &json!("no-such-tag"))
    );
    Ok(())
}

#[test]
fn drivers_and_files_are_described_for_programs() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(SIGNAL)?;
    let driver = paths::driver("modbus")?.display().to_string();
    let ended = folder.run(&["inspect", "--json", &driver])?;
    let found = json_lines(&ended)
        .pop()
        .with_context(|| format!("{ended:?}"))?;
    assert_eq!(
        [&found["name"], &found["links"]],
        [
            &json!("modbus"),
            &json!([{ "name": "plc", "kinds": ["tcp", "tls", "unix", "serial"], "required": true }])
        ]
    );
    assert!(
        found["settings_schema"]["properties"]["timeout_ms"].is_object(),
        "{found:#}"
    );
    assert!(
        found["tag_schema"]["properties"]["order"].is_object(),
        "{found:#}"
    );
    let commands = found["commands"].as_array().context("commands")?;
    let browse = commands.iter().find(|command| command["name"] == "browse");
    let browse = browse.with_context(|| format!("{found:#}"))?;
    assert_eq!(browse["changes"], false);
    assert!(browse["payload_schema"]["properties"]["device"].is_object());
    let schemas = json_lines(&folder.run(&["inspect", "--schema", "--json", &driver])?);
    assert_eq!(
        (
            &schemas[0]["tag"],
            &schemas[0]["commands"]["browse"]["answer"]
        ),
        (&found["tag_schema"], &browse["answer_schema"])
    );
    assert_eq!(found["size"], std::fs::metadata(&driver)?.len());
    assert_eq!(found["world"], "bulkhead:channel@0.1.0");
    assert_eq!(found["languages"][0], "Rust", "{found:#}");
    let tools = found["tools"].as_array().context("tools")?;
    let rustc = tools.iter().any(|tool| {
        tool.as_str()
            .is_some_and(|tool| tool.starts_with("rustc 1."))
    });
    assert!(rustc, "{tools:?}");
    // The digest that it shows is one that pins it.
    let digest = found["sha256"].as_str().context("a digest")?;
    let signal = json_lines(&folder.run(&[
        "inspect",
        "--json",
        &paths::driver("signal")?.display().to_string(),
    ])?);
    let pinned = SIGNAL.replacen(
        "[[channel.group]]",
        &format!("sha256 = {}\n[[channel.group]]", signal[0]["sha256"]),
        1,
    );
    folder.write_config(&pinned)?;
    let ended = folder.run(&["check", "--json", Folder::CONFIG])?;
    assert_eq!(
        json_lines(&ended),
        [
            json!({ "ok": true, "file": Folder::CONFIG, "channels": 1, "tags": 2, "faults": [], "more": 0 })
        ],
        "{ended:?}"
    );
    folder
        .write_config(&pinned.replace(signal[0]["sha256"].as_str().context("a digest")?, digest))?;
    assert_eq!(folder.run(&["check", Folder::CONFIG])?.code(), Some(1));
    Ok(())
}

#[test]
fn people_get_tables() -> Result<()> {
    let host = host()?;
    for (arguments, words) in [
        (
            &["status"][..],
            &["process", "1 running", "2 of 2 good"][..],
        ),
        (&["channel", "list"], &["CHANNEL", "STATE", "a ", "running"]),
        (
            &["channel", "show", "a"],
            &[
                "running since",
                "2 of 2 good",
                "fast: 2 tags each 50 ms",
                "polls",
            ],
        ),
        (
            &["tag", "list"],
            &["a/count", "a/held", "good", "pieces", "uint8"],
        ),
        (
            &["tag", "show", "a/held"],
            &["hold(20)", "rw", "- channel a is running"],
        ),
        (&["tag", "read", "a/held"], &["a/held", "20", "good"]),
        (
            &["tag", "write", "a/held", "21", "--read-back"],
            &["a/held written: 21; the device holds 21"],
        ),
        (
            &["tag", "watch", "count", "--count", "2"],
            &["a/count", "pieces"],
        ),
        (&["channel", "stop", "a"], &["a is stop"]),
        (&["--help"], &["run", "simulate", "Exit codes"]),
        (&["--version"], &["bulkhead "]),
    ] {
        let ended = host.client(arguments)?;
        assert_eq!(ended.code(), Some(0), "{arguments:?}: {ended:#?}");
        let shown = ended.out.join("\n");
        for word in words {
            assert!(
                shown.contains(word),
                "{arguments:?}: no `{word}` in\n{shown}"
            );
        }
        assert!(
            !shown.contains('\u{1b}'),
            "colours are for terminals: {shown}"
        );
    }
    // --url counts before the environment.
    let ended = host.client(&["status", "--url", "http://127.0.0.1:1"])?;
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    Ok(())
}

#[test]
fn whoever_watches_is_told_when_the_host_goes_and_sees_it_come_back() -> Result<()> {
    let listen = format!(
        "http.listen = \"127.0.0.1:{}\"\n{SIGNAL}",
        bulkhead_tests::free_port()
    );
    let host = Bulkhead::start(&listen)?;
    let watch = host.start_client(&["tag", "watch", "count", "--json"])?;
    let sample = |line: &str| {
        serde_json::from_str::<Value>(line)
            .ok()
            .filter(|sample| sample["value"].is_u64())
    };
    watch.out().wait_for(0, sample)?;
    let _host = host.start_again(&listen)?;
    watch
        .err()
        .wait_for(0, |line| line.contains("the host stops").then_some(()))?;
    watch
        .err()
        .wait_for(0, |line| line.contains("the host is back").then_some(()))?;
    let gap = watch.out().wait_for(0, |line| {
        let gap = serde_json::from_str::<Value>(line).ok()?;
        (gap["reason"] == "host-restarted").then_some(gap)
    })?;
    assert_eq!(gap["gap"], Value::Null, "nobody knows how many: {gap:#}");
    let from = watch.out().count();
    watch.out().wait_for(from, sample)?;
    Ok(())
}

#[test]
fn a_start_is_told_line_by_line_and_the_first_sample_once() -> Result<()> {
    let folder = Folder::new()?;
    // A second channel, so that there is more than one first sample to be had.
    folder.write_config(&format!(
        "host.data_dir = \"$DIR/cold\"\n{SIGNAL}{}",
        SIGNAL.replace("\"a\"", "\"b\"")
    ))?;
    let start = || -> Result<Vec<String>> {
        let running = folder.start(&["run", Folder::CONFIG])?;
        let url = running
            .err()
            .wait_for(0, |line| Some(line.strip_prefix("ready: ")?.to_owned()))?;
        running.err().wait_for(0, |line| {
            line.starts_with("first sample after").then_some(())
        })?;
        // Many more samples, of both channels.
        let watch = folder.run(&["tag", "watch", "--url", &url, "--count", "20"])?;
        assert_eq!(watch.code(), Some(0), "{watch:?}");
        let ended = running.terminate()?;
        assert_eq!(ended.code(), Some(0), "{ended:#?}");
        assert!(ended.out.is_empty(), "no sink prints here: {ended:#?}");
        Ok(ended.err)
    };
    let count = |lines: &[String], beginning: &str| {
        lines
            .iter()
            .filter(|line| line.starts_with(beginning))
            .count()
    };
    let cold = start()?;
    assert_eq!(count(&cold, "compiled signal.wasm in "), 1, "{cold:#?}");
    for beginning in [
        "ready: http://127.0.0.1:",
        "starting 2 channels",
        "first sample after ",
    ] {
        assert_eq!(count(&cold, beginning), 1, "{beginning}: {cold:#?}");
    }
    let first = cold
        .iter()
        .find(|line| line.starts_with("first sample"))
        .context("counted")?;
    assert!(
        first.contains(" ms (") && (first.contains("(a/count)") || first.contains("(b/count)")),
        "{first}"
    );
    // What was compiled once is not compiled again.
    let warm = start()?;
    assert_eq!(
        (
            count(&warm, "compiled"),
            count(&warm, "first sample after ")
        ),
        (0, 1),
        "{warm:#?}"
    );
    Ok(())
}

#[test]
fn on_a_terminal_progress_and_samples_are_for_people() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(&format!(
        "host.data_dir = \"$DIR/cold\"\n{SIGNAL}[[sink]]\nkind = \"stdout\"\n"
    ))?;
    let mut run = Command::new(paths::bulkhead()?);
    run.current_dir(folder.path())
        .args(["run", Folder::CONFIG, "--for", "1h"]);
    let running = Running::start_at_terminal(&mut run)?;
    running.out().wait_for(0, |line| {
        line.contains("loading signal.wasm (1 of 1)").then_some(())
    })?;
    running
        .out()
        .wait_for(0, |line| line.contains("ready: ").then_some(()))?;
    let sample = running.out().wait_for(0, |line| {
        let is_sample = line.contains("a/count") && !line.contains("first sample");
        is_sample.then(|| line.to_owned())
    })?;
    assert!(
        sample.contains("pieces") && !sample.contains('{'),
        "{sample}"
    );
    let ended = running.terminate()?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    Ok(())
}

#[test]
fn a_shell_completes_commands_and_options() -> Result<()> {
    let folder = Folder::new()?;
    let made = folder.run(&["completions", "bash"])?;
    assert_eq!(made.code(), Some(0), "{made:?}");
    let script = folder.path().join("completions.bash");
    std::fs::write(&script, made.out.join("\n"))?;
    // As bash does it when somebody presses the tab key behind the last word.
    let completed = |words: &[&str]| -> Result<Vec<String>> {
        let asked = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _bulkhead bulkhead '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let ended = Running::start(Command::new("bash").args(["-c", &asked]))?.wait()?;
        assert_eq!((ended.code(), ended.err.len()), (Some(0), 0), "{ended:?}");
        Ok(ended.out)
    };
    assert_eq!(completed(&["bulkhead", "conf"])?, ["conform"]);
    assert_eq!(completed(&["bulkhead", "channel", "rese"])?, ["reset"]);
    assert_eq!(
        completed(&["bulkhead", "conform", "--exp"])?,
        ["--expectations"]
    );
    assert_eq!(
        completed(&["bulkhead", "conform", "--format", ""])?,
        ["human", "json", "junit"]
    );
    Ok(())
}
