//! What a host meets as it starts, runs and ends: taken ports and folders, devices that are away, signals.

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Folder, PATIENCE, Peer, Running, free_port};
use serde_json::{Value, json};

use super::{ALONE, check, no_panic};

/// Looks again and again until it is so. For what announces itself nowhere.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    const STEP: std::time::Duration = std::time::Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if is_so()? {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
    anyhow::bail!("never: {what}")
}

#[test]
fn what_another_program_has_taken() -> Result<()> {
    let first = Bulkhead::start(ALONE)?;
    let address = first.url.trim_start_matches("http://").to_owned();
    let data = format!("{}/data", first.folder().display());
    let pid = format!("process {}", first.process().id());
    let folder = Folder::new()?;
    let run = ["run", Folder::CONFIG];

    folder.write_config(&format!("http.listen = \"{address}\"\n{ALONE}"))?;
    check(
        &folder,
        &run,
        3,
        1,
        &[&address, "taken", "another `listen`"],
    )?;
    folder.write_config(&format!("host.data_dir = \"{data}\"\n{ALONE}"))?;
    check(&folder, &run, 3, 1, &[&data, &pid, "a data_dir of its own"])?;
    // The same file, started twice.
    folder.write_config(&format!(
        "host.data_dir = \"{data}\"\nhttp.listen = \"{address}\"\n{ALONE}"
    ))?;
    check(&folder, &run, 3, 1, &[&address, &pid])?;
    // None of this has troubled the first.
    assert_eq!(first.get("/api/v1/channels/a")?.body["state"], "running");
    let ended = first.stop()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    no_panic(&ended);

    // With it gone, nothing is left behind that would be in the way.
    let second = Bulkhead::start_in(
        folder,
        &format!("http.listen = \"{address}\"\n{ALONE}"),
        &[],
    )?;
    assert_eq!(second.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_data_dir_that_cannot_be() -> Result<()> {
    let folder = Folder::new()?;
    // A file in its way, since root may write everywhere.
    folder.write("file", "")?;
    for data in ["file", "file/data"] {
        folder.write_config(&format!("host.data_dir = \"$DIR/{data}\"\n{ALONE}"))?;
        let named = folder.path().join(data).display().to_string();
        check(
            &folder,
            &["run", Folder::CONFIG],
            3,
            1,
            &[&named, "make it a folder"],
        )?;
    }
    std::fs::create_dir_all(folder.path().join("mine"))?;
    folder.write("mine/cache", "")?;
    folder.write_config(&format!("host.data_dir = \"$DIR/mine\"\n{ALONE}"))?;
    check(
        &folder,
        &["run", Folder::CONFIG],
        3,
        1,
        &["mine/cache", "data_dir"],
    )?;
    std::fs::remove_file(folder.path().join("mine/cache"))?;
    // A damaged database is set aside; one that cannot be had at all may be whole.
    let database = folder.path().join("mine/bulkhead.redb");
    std::fs::remove_file(&database)?;
    std::fs::create_dir(&database)?;
    check(
        &folder,
        &["run", Folder::CONFIG],
        3,
        1,
        &["mine/bulkhead.redb", "move the file away"],
    )?;
    Ok(())
}

#[test]
fn a_device_that_is_away_is_no_fault() -> Result<()> {
    let port = free_port();
    let host = Bulkhead::start(&format!(
        "[[channel]]\nid = \"press\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
         links.plc = {{ connect = \"tcp://127.0.0.1:{port}\" }}\nsettings = {{ timeout_ms = 20_000 }}\n\
         [[channel.group]]\nname = \"g\"\nperiod = \"100ms\"\n\
         tags = [{{ name = \"t\", address = \"holding:101\", type = \"uint16\", access = \"rw\" }}]\n{ALONE}"
    ))?;
    let degraded = host.get_until("/api/v1/channels/press", |channel| {
        (channel["state"] == "degraded").then(|| channel.clone())
    })?;
    assert_eq!(degraded["attempts"], 0, "{degraded:#}");
    let reason = degraded["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("link plc is down") && reason.contains("refused"),
        "{reason}"
    );

    // The chain of reasons, from the channel down to the tag.
    let tag = host.get_until("/api/v1/tags/press/t", |tag| {
        (tag["quality"] == "bad-not-connected").then(|| tag.clone())
    })?;
    let reasons: Vec<&str> = tag["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for part in [
        "channel press is degraded",
        "link plc is down: nobody listens there",
        "tag t is bad-not-connected",
    ] {
        assert!(
            reasons.iter().any(|reason| reason.starts_with(part)),
            "{part}: {reasons:#?}"
        );
    }
    let shown = host.client(&["tag", "show", "press/t"])?;
    assert!(
        shown
            .out
            .iter()
            .any(|line| line.contains("- link plc is down")),
        "{shown:#?}"
    );
    // A write says so as well.
    let refused = host.client(&["tag", "write", "press/t", "1"])?;
    assert_eq!(refused.code(), Some(1), "{refused:#?}");
    assert!(refused.err.join(" ").contains("connect"), "{refused:#?}");
    // The other channel never noticed.
    assert_eq!(host.get("/api/v1/channels/a")?.body["state"], "running");

    let peer = Peer::pymodbus_at(port)?;
    let tag = host.get_until("/api/v1/tags/press/t", |tag| {
        (tag["quality"] == "good").then(|| tag.clone())
    })?;
    assert_eq!(tag["value"], 43981);
    let running = host.get_until("/api/v1/channels/press", |channel| {
        (channel["state"] == "running").then(|| channel.clone())
    })?;
    assert_eq!(
        [
            &running["incarnation"],
            &running["attempts"],
            &running["counters"]["faults"]
        ],
        [&degraded["incarnation"], &json!(0), &json!(0)]
    );

    // And when it goes again.
    drop(peer);
    let tag = host.get_until("/api/v1/tags/press/t", |tag| {
        (tag["quality"] == "bad-not-connected").then(|| tag.clone())
    })?;
    assert_eq!(tag["value"], 43981, "the last known value stays");
    let ended = host.stop()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    no_panic(&ended);
    Ok(())
}

/// Starts a host in a folder, and waits for a line of its standard error.
fn started(folder: &Folder, toml: &str, arguments: &[&str], line: &str) -> Result<Running> {
    folder.write_config(toml)?;
    let running = folder.start(&[&["run", Folder::CONFIG], arguments].concat())?;
    running
        .err()
        .wait_for(0, |found| found.starts_with(line).then_some(()))?;
    Ok(running)
}

#[test]
fn a_host_ends_in_order() -> Result<()> {
    // By itself.
    let folder = Folder::new()?;
    let ended = started(&folder, ALONE, &["--for", "1ms"], "ready: ")?.wait()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert!(
        ended
            .err
            .iter()
            .any(|line| line.contains("the time is over")),
        "{ended:#?}"
    );

    // When asked, long before its time.
    let running = started(&folder, ALONE, &["--for", "1h"], "first sample after")?;
    let ended = running.terminate()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    no_panic(&ended);
    let last = ended
        .err
        .iter()
        .rposition(|line| line.contains("a signal came"));
    let after = &ended.err[last.context("it says why it stops")?..];
    assert!(
        after.iter().any(|line| line.contains("to=stopped")),
        "{ended:#?}"
    );
    assert!(
        !after
            .iter()
            .any(|line| line.contains("WARN") || line.contains("ERROR")),
        "{ended:#?}"
    );
    Ok(())
}

#[test]
fn a_host_ends_in_order_in_the_middle_of_a_request() -> Result<()> {
    // The device keeps silent for longer than anybody waits.
    let mut peer = Peer::simulated(&["--units", "1", "--fault", "silence"])?;
    let host = Bulkhead::start(&format!(
        "[[channel]]\nid = \"press\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
         links.plc = {{ connect = \"tcp://{}\" }}\nsettings = {{ timeout_ms = 600_000 }}\n\
         [[channel.tag]]\nname = \"t\"\naddress = \"holding:200\"\ntype = \"uint16\"\naccess = \"rw\"\n",
        peer.address()
    ))?;
    let client = host.start_client(&["tag", "write", "press/t", "1", "--timeout", "5min"])?;
    until("the device is asked", || Ok(!peer.requests()?.is_empty()))?;
    let ended = host.stop()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    no_panic(&ended);
    // Whoever asked is told that it may have been done.
    let told = client.wait()?;
    assert_ne!(told.code(), Some(0), "{told:#?}");
    assert!(
        told.err.join(" ").contains("may or may not have acted"),
        "{told:#?}"
    );
    Ok(())
}

#[test]
fn a_host_can_be_stopped_while_it_compiles() -> Result<()> {
    let folder = Folder::new()?;
    folder.write_config(&format!("host.data_dir = \"$DIR/cold\"\n{ALONE}"))?;
    let running = folder.start(&["run", Folder::CONFIG])?;
    // The cache is made when compiling begins.
    let cache = folder.path().join("cold/cache");
    until("the cache is made", || Ok(cache.is_dir()))?;
    let ended = running.terminate()?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    no_panic(&ended);
    // And it starts as if nothing had been.
    let ended = folder.run(&["run", Folder::CONFIG, "--for", "1ms"])?;
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    Ok(())
}
