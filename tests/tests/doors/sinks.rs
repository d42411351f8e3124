//! What sinks leave: whole lines, every sample, whatever happens to the host.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Folder, Running};
use serde_json::{Value, json};

use super::SIGNAL;

const FILE: &str = "[[sink]]\nkind = \"file\"\npath = \"samples.jsonl\"\n";

/// Every line of a file is whole and a sample, and none is missing between two of a life; those of the counter by life and value.
fn samples(path: &Path) -> Result<Vec<(u64, u64)>> {
    let text = fs::read_to_string(path)?;
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is torn: {:?}",
        text.lines().last()
    );
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines() {
        let sample: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        assert_eq!(
            [&sample["channel"], &sample["device"]],
            ["a", "a"],
            "{line}"
        );
        let number = |key: &str| {
            sample[key]
                .as_u64()
                .with_context(|| format!("{key}: {line}"))
        };
        let (life, sequence) = (number("epoch")?, number("sequence")?);
        if let Some((last_life, last_sequence)) = last {
            assert!(
                last_life < life || (last_life, last_sequence + 1) == (life, sequence),
                "after {last_life}:{last_sequence} comes {line}"
            );
        }
        last = Some((life, sequence));
        if sample["tag"] == "count" && sample["quality"] == "good" {
            found.push((life, number("value")?));
        }
    }
    Ok(found)
}

/// Within each life the counter rises: by one, and by more where the machine stood still and a poll was skipped.
fn is_in_order(samples: &[(u64, u64)]) -> bool {
    samples.is_sorted_by(|earlier, later| earlier < later)
}

#[test]
fn a_file_holds_every_sample() -> Result<()> {
    let config = format!("{SIGNAL}{FILE}");
    let host = Bulkhead::start(&config)?;
    let path = host.folder().join("samples.jsonl");
    let sink = host.get_until("/api/v1/status", |status| {
        let sink = &status["sinks"][0];
        (sink["written_samples"].as_u64()? > 10).then(|| sink.clone())
    })?;
    assert_eq!(
        [&sink["name"], &sink["kind"], &sink["dropped_messages"]],
        [&"file".into(), &"file".into(), &Value::from(0)]
    );
    // Another host in between: the file goes on.
    let host = host.start_again(&config)?;
    host.get_until("/api/v1/status", |status| {
        (status["sinks"][0]["written_samples"].as_u64()? > 10).then_some(())
    })?;
    let count = host.get("/api/v1/tags/a/count")?.body["value"]
        .as_u64()
        .context("a number")?;
    // The folder goes with the host: a copy of the file's name stays.
    let kept = host.folder().with_extension("samples");
    fs::hard_link(&path, &kept)?;
    let ended = host.stop()?;
    let found = samples(&kept);
    fs::remove_file(&kept)?;
    let found = found?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert!(is_in_order(&found), "{found:?}");
    let (first, last) = (
        found.first().context("samples")?,
        found.last().context("samples")?,
    );
    assert_eq!(
        (
            first.0,
            last.0,
            first.1,
            found.iter().filter(|sample| sample.1 == 1).count()
        ),
        (1, 2, 1, 2)
    );
    assert!(
        last.1 >= count,
        "what was seen before the end is on the disk: {last:?}, {count}"
    );
    Ok(())
}

/// Runs until the file has grown, then kills the host without a word.
fn run_and_kill(folder: &Folder, path: &Path) -> Result<()> {
    let before = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let running: Running = folder.start(&["run", Folder::CONFIG])?;
    running
        .err()
        .wait_for(0, |line| line.starts_with("ready: ").then_some(()))?;
    let grown = || fs::metadata(path).is_ok_and(|metadata| metadata.len() > before + 1_000);
    for _ in 0..6_000 {
        if grown() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(grown(), "nothing was written: {}", running.printed());
    drop(running);
    Ok(())
}

#[test]
fn a_line_that_a_crash_has_torn_is_cut_off() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(&format!("{SIGNAL}{FILE}"))?;
    let path = folder.path().join("samples.jsonl");
    for torn in ["", "{\"channel\":\"a\",\"tag\":\"cou", "{\"ch"] {
        run_and_kill(&folder, &path)?;
        let mut file = fs::File::options().append(true).open(&path)?;
        file.write_all(torn.as_bytes())?;
    }
    let before = fs::read_to_string(&path)?;
    let before = &before[..before.rfind('\n').context("lines")?];
    run_and_kill(&folder, &path)?;
    let ended = folder.run(&["run", Folder::CONFIG, "--for", "1ms"])?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert!(
        fs::read_to_string(&path)?.starts_with(before),
        "what was whole stays"
    );
    let found = samples(&path)?;
    assert!(is_in_order(&found), "{found:?}");

    // Somebody else's file is left alone, and the host says what to do.
    fs::write(&path, "password = secret")?;
    let host = Bulkhead::start_in(folder, &format!("{SIGNAL}{FILE}"), &[])?;
    let trouble = host.get_until("/api/v1/status", |status| {
        Some(status["sinks"][0]["trouble"].as_str()?.to_owned())
    })?;
    assert!(
        trouble.contains("not written by a sink") && trouble.contains("another `path`"),
        "{trouble}"
    );
    assert_eq!(fs::read_to_string(&path)?, "password = secret");
    // It takes up again by itself once that is mended.
    fs::remove_file(&path)?;
    host.get_until("/api/v1/status", |status| {
        let sink = &status["sinks"][0];
        (sink["trouble"].is_null() && sink["written_samples"].as_u64()? > 0).then_some(())
    })?;
    // It is read beside the host: once nothing more is written, the last line must be whole.
    host.post("/api/v1/channels/a/stop", &json!({}))?;
    host.get_until("/api/v1/status", |_| {
        let text = fs::read_to_string(&path).ok()?;
        let last = text.strip_suffix('\n')?.rsplit('\n').next()?;
        last.contains("bad-out-of-service").then_some(())
    })?;
    assert!(is_in_order(&samples(&path)?));
    Ok(())
}

#[test]
fn standard_output_is_json_where_no_person_reads_it() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(&format!("{SIGNAL}[[sink]]\nkind = \"stdout\"\n"))?;
    let running = folder.start(&["run", Folder::CONFIG])?;
    running.out().wait_for(0, |line| {
        let sample: Value = serde_json::from_str(line).ok()?;
        (sample["tag"] == "count" && sample["value"].as_u64()? > 10).then_some(())
    })?;
    let ended = running.terminate()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    let lines = super::json_lines(&ended);
    let numbers: Vec<u64> = lines
        .iter()
        .filter_map(|sample| sample["sequence"].as_u64())
        .collect();
    let expected: Vec<u64> = (1..=lines.len() as u64).collect();
    assert_eq!(numbers, expected);
    // Where the machine stands still, the counter skips a poll; no number is skipped.
    let values: Vec<u64> = lines
        .iter()
        .filter(|sample| sample["tag"] == "count" && sample["quality"] == "good")
        .filter_map(|sample| sample["value"].as_u64())
        .collect();
    assert!(values.len() > 2, "{values:?}");
    assert!(values.is_sorted_by(|one, next| one < next), "{values:?}");
    Ok(())
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_host_in_order() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(&format!("{SIGNAL}[[sink]]\nkind = \"stdout\"\n"))?;
    let line = format!(
        "{} run {} | head -n 3; echo \"${{PIPESTATUS[0]}}\"",
        bulkhead_tests::paths::bulkhead()?.display(),
        Folder::CONFIG
    );
    let mut bash = std::process::Command::new("bash");
    let ended = Running::start(bash.args(["-c", &line]).current_dir(folder.path()))?.wait()?;
    assert_eq!(
        (ended.out.len(), ended.out.last().map(String::as_str)),
        (4, Some("0")),
        "{ended:#?}"
    );
    assert!(
        ended
            .err
            .iter()
            .any(|line| line.contains("standard output was closed"))
            && !ended.err.iter().any(|line| line.contains("panicked")),
        "{ended:#?}"
    );
    Ok(())
}
