//! What outlives a channel and a host: histories, statistics, and what drivers save.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Bulkhead, Calls, Folder, Recorder};
use redb::{ReadableDatabase as _, ReadableTable as _};
use serde_json::{Value, json};

const TRIPS: &str = r#"
    [[channel]]
    id = "trips"
    driver = "$GUESTS/traps.wasm"
    settings = { when = "write" }
    restart = { max_attempts = 9, delay = "10ms", max_delay = "10ms" }
    [[channel.group]]
    name = "all"
    period = "20ms"
    tags = [{ name = "t", address = "1", type = "uint32", access = "rw" }]
"#;

/// The history, once everything that has happened is in it.
fn history(host: &Bulkhead, channel: &str) -> Result<Value> {
    let reply = host.get(&format!("/api/v1/channels/{channel}/history"))?;
    ensure!(reply.status == 200, "{reply:?}");
    assert_eq!(reply.body["durable"], true, "{reply:?}");
    Ok(reply.body)
}

/// Each event in a few words.
fn words(history: &Value) -> Vec<String> {
    let events = history["events"].as_array().expect("a list of events");
    let word = |event: &Value| {
        let life = &event["incarnation"];
        match event["kind"].as_str() {
            Some("state") => format!("#{life} {} to {}", event["from"], event["state"]),
            Some("exit") => format!("#{life} {} in {}", event["exit"], event["during"]),
            _ => format!("#{life} {}", event["kind"]),
        }
        .replace('"', "")
    };
    events.iter().map(word).collect()
}

#[test]
fn histories_and_statistics_are_kept_over_restarts() -> Result<()> {
    let host = Bulkhead::start(TRIPS)?;
    let path = "/api/v1/channels/trips";
    let in_life = |host: &Bulkhead, life: u64| {
        host.get_until(path, |channel| {
            let is_there = channel["incarnation"] == life
                && channel["state"] == "running"
                && channel["counters"]["polls"].as_u64() > Some(2);
            is_there.then(|| channel.clone())
        })
    };
    in_life(&host, 1)?;
    let write = "/api/v1/tags/trips/t/write";
    let reply = host.post(write, &json!({ "value": 1 }))?;
    assert_eq!(reply.body["error"]["code"], "restarted", "{reply:?}");
    in_life(&host, 2)?;

    let first = history(&host, "trips")?;
    let expected = [
        "#0 stopped to starting",
        "#1 starting to running",
        "#1 trapped in turn",
        "#1 running to backoff",
        "#1 backoff to starting",
        "#2 starting to running",
    ];
    assert_eq!(words(&first), expected);
    let events = first["events"].as_array().context("events")?;
    let numbers: Vec<u64> = events.iter().filter_map(|e| e["number"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let times: Vec<u64> = events.iter().filter_map(|e| e["at_ns"].as_u64()).collect();
    assert!(times.len() == 6 && times.is_sorted(), "{times:?}");
    let cause = events[3]["reason"].as_str().unwrap_or_default();
    assert!(cause.contains("unreachable"), "{cause}");

    let shown = host.get(path)?.body;
    let statistics = &shown["statistics"];
    assert_eq!(statistics["lives"], 2, "{statistics:#}");
    assert_eq!(statistics["exits"], json!({ "trapped": 1 }));
    let number = |name: &str| statistics[name].as_u64().unwrap_or_default();
    assert!(number("fuel") > number("fuel_max_turn"), "{statistics:#}");
    assert!(number("fuel_max_turn") >= number("fuel_last_turn"));
    assert!(number("fuel_last_turn") > 0, "{statistics:#}");
    assert!(number("peak_memory_bytes") > 65_536, "{statistics:#}");
    let latency = &statistics["turn_latency"];
    let buckets = latency["buckets"].as_array().context("buckets")?;
    let counted: u64 = buckets.iter().filter_map(|b| b["turns"].as_u64()).sum();
    assert_eq!(latency["turns"], counted, "{latency:#}");
    // Each turn that returned, and the one that did not.
    let turns = shown["counters"]["turns"].as_u64().unwrap_or_default();
    assert!(counted >= turns, "{counted} of {turns}");
    assert!(latency["p50_ns"].as_u64() <= latency["p99_ns"].as_u64());

    // The next run goes on from there.
    let host = host.start_again(TRIPS)?;
    in_life(&host, 3)?;
    let second = history(&host, "trips")?;
    let expected = [
        &expected[..],
        &[
            "#2 running to stopping",
            "#2 stopping to stopped",
            "#0 stopped to starting",
            "#3 starting to running",
        ],
    ]
    .concat();
    assert_eq!(words(&second), expected);
    let before = &second["events"].as_array().context("events")?[..6];
    assert_eq!(before, events.as_slice());
    let statistics = host.get(path)?.body["statistics"].clone();
    assert_eq!(statistics["lives"], 3, "{statistics:#}");
    assert_eq!(statistics["exits"], json!({ "trapped": 1, "stopped": 1 }));
    for name in ["fuel", "fuel_max_turn", "peak_memory_bytes", "running_ms"] {
        let (before, now) = (number(name), statistics[name].as_u64());
        assert!(now >= Some(before), "{name}: {now:?} after {before}");
    }
    let turns_now = statistics["turn_latency"]["turns"].as_u64();
    assert!(turns_now > Some(counted), "{turns_now:?} after {counted}");

    // The command line says the same.
    let json = host.client(&["channel", "history", "trips", "--json"])?;
    let printed: Value = serde_json::from_str(json.out.first().context("a line")?)?;
    assert_eq!(words(&printed), expected);
    let text = host.client(&["channel", "history", "trips"])?;
    assert_eq!(text.code(), Some(0), "{text:?}");
    assert_eq!(text.out.len(), 1 + expected.len(), "{text:#?}");
    assert!(text.out[3].contains("#1"), "{text:#?}");
    assert!(text.out[3].contains("trapped in turn"), "{text:#?}");
    let text = host.client(&["channel", "show", "trips"])?.out.join("\n");
    for part in [
        "in 3 lives",
        "ends      stopped 1, trapped 1",
        "turns  ",
        "▇",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let unknown = host.client(&["channel", "history", "nobody"])?;
    assert_eq!(unknown.code(), Some(1), "{unknown:?}");
    Ok(())
}

fn echo(calls: &Calls) -> String {
    format!(
        r#"
        [[channel]]
        id = "echo"
        driver = "$GUESTS/echo.wasm"
        links.peer = {{ connect = "tcp://{}" }}
        [[channel.group]]
        name = "all"
        period = "50ms"
        tags = [{{ name = "started", address = "started", type = "string" }}]
        "#,
        calls.address
    )
}

/// Sends and waits for the same: the state that counts it is on the disk then.
fn exchange(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    let sent = vec![b'x'; bytes];
    stream.write_all(&sent)?;
    let mut echoed = vec![0; bytes];
    stream.read_exact(&mut echoed)?;
    ensure!(echoed == sent, "something else came back");
    Ok(())
}

/// How the driver says that it was started in this life.
fn started(host: &Bulkhead, life: u64) -> Result<String> {
    let in_life = format!(" in incarnation {life} ");
    host.get_until("/api/v1/tags/echo/started", |tag| {
        let text = tag["value"].as_str()?.trim_start_matches("StartReason::");
        (tag["quality"] == "good" && text.contains(&in_life)).then(|| text.to_owned())
    })
}

#[test]
fn a_saved_state_survives_the_channel_and_the_host_and_a_damaged_one_is_set_aside() -> Result<()> {
    let calls = Calls::listen()?;
    let host = Bulkhead::start(&echo(&calls))?;
    let mut stream = calls.accept()?;
    let none = "First in incarnation 1 with the state none";
    assert_eq!(started(&host, 1)?, none);
    exchange(&mut stream, 5)?;

    let reply = host.post("/api/v1/channels/echo/restart", &json!({}))?;
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut stream = calls.accept()?;
    let five = "ManualRestart in incarnation 2 with the state 5";
    assert_eq!(started(&host, 2)?, five);
    exchange(&mut stream, 7)?;

    let host = host.start_again(&echo(&calls))?;
    let mut stream = calls.accept()?;
    let twelve = "HostRestart in incarnation 3 with the state 12";
    assert_eq!(started(&host, 3)?, twelve);
    exchange(&mut stream, 1)?;

    // One bit of it turns while nobody looks.
    let folder = host.stop_gently()?;
    let file = folder.path().join("data/bulkhead.redb");
    let table = redb::TableDefinition::<&str, &[u8]>::new("slot:saved_state");
    let database = redb::Database::open(&file)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(table)?;
        let mut record = table.get("echo")?.context("no state")?.value().to_vec();
        ensure!(record.ends_with(b"13"), "{record:?}");
        *record.last_mut().context("an empty record")? ^= 1;
        table.insert("echo", record.as_slice())?;
    }
    transaction.commit()?;
    drop(database);

    let host = Bulkhead::start_in(folder, &echo(&calls), &[])?;
    let mut stream = calls.accept()?;
    let none = "HostRestart in incarnation 4 with the state none";
    assert_eq!(started(&host, 4)?, none);
    let past = history(&host, "echo")?;
    assert!(words(&past).contains(&"#4 warning".to_owned()), "{past:#}");
    let warned = |line: &str| line.contains("saved state was set aside").then_some(());
    host.process().err().wait_for(0, warned)?;
    // A new one takes its place, and is kept.
    exchange(&mut stream, 2)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?kind=warning&kind=state")?);
    let reply = host.post("/api/v1/channels/echo/restart", &json!({}))?;
    assert_eq!(reply.status, 200, "{reply:?}");
    let _stream = calls.accept()?;
    let two = "ManualRestart in incarnation 5 with the state 2";
    assert_eq!(started(&host, 5)?, two);
    recorder.wait("it runs again", |seen| {
        seen.iter().any(|(_, data)| data["state"] == "running")
    })?;
    let seen = recorder.so_far();
    let warnings = seen.iter().filter(|(name, _)| name == "warning").count();
    assert_eq!(warnings, 0, "met once: {seen:#?}");

    // What was set aside is there for whoever wants to look.
    let folder = host.stop_gently()?;
    let database = redb::Database::open(folder.path().join("data/bulkhead.redb"))?;
    let aside = redb::TableDefinition::<u64, (&str, &[u8])>::new("set_aside");
    let aside = database.begin_read()?.open_table(aside)?;
    let record = aside.get(1)?.context("nothing is aside")?;
    let (why, bytes) = record.value();
    assert!(
        why.starts_with("slot:saved_state echo: its checksum"),
        "{why}"
    );
    assert!(bytes.ends_with(b"12"), "{bytes:?}");
    Ok(())
}

#[test]
fn a_damaged_database_is_set_aside_and_the_host_starts() -> Result<()> {
    let calls = Calls::listen()?;
    let host = Bulkhead::start(&echo(&calls))?;
    exchange(&mut calls.accept()?, 5)?;
    started(&host, 1)?;
    let folder = host.stop_gently()?;
    let data = folder.path().join("data");
    let mut bytes = std::fs::read(data.join("bulkhead.redb"))?;
    bytes[4_096..].fill(0xa5);
    std::fs::write(data.join("bulkhead.redb"), &bytes)?;

    let host = Bulkhead::start_in(folder, &echo(&calls), &[])?;
    let _stream = calls.accept()?;
    let damaged = |line: &str| line.contains("the database is damaged").then_some(());
    host.process().err().wait_for(0, damaged)?;
    let text = host.get_until("/api/v1/tags/echo/started", |tag| {
        Some(tag["value"].as_str()?.to_owned())
    })?;
    // Without what was saved, but under a number that no life had before.
    let number = text
        .split(' ')
        .nth(3)
        .and_then(|number| number.parse().ok());
    assert!(
        number > Some(1_u64) && text.ends_with("state none"),
        "{text}"
    );
    let aside = |data: &std::path::Path| -> Result<Vec<String>> {
        let names = data
            .read_dir()?
            .map(|file| Ok(file?.file_name().display().to_string()));
        let names: Vec<String> = names.collect::<Result<_>>()?;
        Ok(names
            .into_iter()
            .filter(|name| name.contains(".corrupt-"))
            .collect())
    };
    assert_eq!(aside(&data)?.len(), 1);
    let past = history(&host, "echo")?;
    let first = past["events"][0]["message"].as_str().unwrap_or_default();
    assert!(first.contains("set aside with it in"), "{past:#}");
    let host = host.start_again(&echo(&calls))?;
    let _stream = calls.accept()?;
    let text = started(&host, number.context("a number")? + 1)?;
    assert!(text.starts_with("HostRestart"), "{text}");
    assert_eq!(aside(&data)?.len(), 1, "the new one is whole");
    Ok(())
}

#[test]
fn a_file_that_is_no_database_is_set_aside_too() -> Result<()> {
    let calls = Calls::listen()?;
    let folder = Folder::new()?;
    folder.write("data/bulkhead.redb", "no database")?;
    let host = Bulkhead::start_in(folder, &echo(&calls), &[])?;
    let aside = |line: &str| {
        let at = line.find("bulkhead.redb.corrupt-")?;
        let name = line[at..].split([' ', '"']).next()?;
        Some(name.to_owned())
    };
    let name = host.process().err().wait_for(0, aside)?;
    let kept = std::fs::read(host.folder().join("data").join(name))?;
    assert_eq!(kept, b"no database");
    Ok(())
}
