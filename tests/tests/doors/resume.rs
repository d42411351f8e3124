//! Readers of the stream that come back: they get what they have missed, once and in order, or are told how much they have not.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bulkhead_tests::proxy::Proxy;
use bulkhead_tests::{Bulkhead, Machine, PATIENCE};
use serde_json::{Value, json};

use super::stream::Dechunked;
use super::{SIGNAL, polls_skipped, refused, steps};

/// A channel that publishes so many counters, all alike, each so many milliseconds.
fn counters(tags: usize, period_ms: u64) -> String {
    let tags: String = (0..tags)
        .map(|tag| format!("{{ name = \"t{tag}\", address = \"counter\", type = \"uint64\" }},\n"))
        .collect();
    format!(
        "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
         [[channel.group]]\nname = \"fast\"\nperiod = \"{period_ms}ms\"\ntags = [\n{tags}]\n"
    )
}

fn counter(host: &Bulkhead, name: &str) -> Result<u64> {
    let shown = host.get("/api/v1/channels/a")?.body;
    shown["counters"][name].as_u64().context("a counter")
}

/// Waits until the channel has published so many samples more.
fn wait_for_samples(host: &Bulkhead, more: u64) -> Result<()> {
    let enough = counter(host, "samples")? + more;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["counters"]["samples"].as_u64() >= Some(enough)).then_some(())
    })
}

/// Of a sample: its own number, the number of the tag.
fn place(event: &Value) -> Result<(u64, usize)> {
    let tag = event["tag"].as_str().context("a tag")?;
    Ok((
        event["sequence"].as_u64().context("a sequence")?,
        tag.trim_start_matches('t').parse()?,
    ))
}

#[test]
fn a_reader_that_comes_back_gets_what_it_missed_once_and_in_order() -> Result<()> {
    const TAGS: usize = 3;
    let host = Bulkhead::start(&counters(TAGS, 50))?;
    const PATH: &str = "/api/v1/stream?kind=sample&snapshot=true";
    let (mut last_id, mut seen) = (String::new(), Vec::new());
    // It is cut off after so many samples: within a batch, between two, and where nothing has come yet.
    for (visit, take) in [7usize, 1, 6, 0, 40].into_iter().enumerate() {
        let mut stream = host.resume(PATH, &last_id)?;
        let mut taken = 0;
        while taken < take {
            let (name, event) = stream.next().context("the stream ended")??;
            match name.as_str() {
                "snapshot" => assert_eq!((visit, taken), (0, 0), "nothing was missed: {event:#}"),
                "sample" => {
                    seen.push(place(&event)?);
                    taken += 1;
                }
                other => bail!("a {other} event: {event:#}"),
            }
        }
        if take > 0 {
            stream.last_id().clone_into(&mut last_id);
        }
        drop(stream);
        wait_for_samples(&host, 20 * TAGS as u64)?;
    }
    let (first, _) = seen[0];
    let expected = (first..).zip((0..TAGS).cycle());
    assert_eq!(seen, expected.take(seen.len()).collect::<Vec<_>>());
    // The filter is that of the one who comes back.
    let by_query = format!("/api/v1/stream?kind=sample&group=f*&tag=t1&last_event_id={last_id}");
    let mut stream = host.stream(&by_query)?;
    let (last, tag) = seen[seen.len() - 1];
    let next = last + if tag >= 1 { TAGS - tag + 1 } else { 1 } as u64;
    for sequence in (next..).step_by(TAGS).take(30) {
        let (name, event) = stream.next().context("the stream ended")??;
        assert_eq!((name.as_str(), place(&event)?), ("sample", (sequence, 1)));
    }
    Ok(())
}

#[test]
fn who_comes_back_from_another_run_or_with_no_id_at_all_is_told_so() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    let mut stream = host.stream("/api/v1/stream?kind=sample")?;
    stream.next().context("a sample")??;
    let last_id = stream.last_id().to_owned();
    let host = host.start_again(SIGNAL)?;
    let mut names = Vec::new();
    let mut stream = host.resume("/api/v1/stream?kind=sample&snapshot=true", &last_id)?;
    while names.last().map(String::as_str) != Some("sample") {
        let (name, event) = stream.next().context("the stream ended")??;
        if name == "gap" {
            assert_eq!(
                [&event["gap"], &event["reason"]],
                [&Value::Null, &json!("host-restarted")]
            );
        }
        names.push(name);
    }
    assert_eq!(names, ["gap", "snapshot", "snapshot", "sample"]);
    assert_ne!(stream.last_id().split_once('-'), last_id.split_once('-'));

    let (run, message) = stream.last_id().split_once('-').context("an id")?;
    let message: u64 = message.split('.').next().context("a number")?.parse()?;
    for id in [
        "7".to_owned(),
        "x-1".to_owned(),
        format!("{run}-{}", message + 1_000_000),
    ] {
        let reply = host.get(&format!("/api/v1/stream?last_event_id={id}"))?;
        assert_eq!(refused(&reply), (400, "bad-request"), "{id}");
    }
    Ok(())
}

#[test]
fn who_comes_back_too_late_is_told_how_much_is_gone_and_gets_the_rest() -> Result<()> {
    const TAGS: u64 = 2_000;
    let host = Bulkhead::start(&counters(2_000, 50))?;
    let mut stream = host.stream("/api/v1/stream?kind=sample&tag=t1999")?;
    let (_, event) = stream.next().context("a sample")??;
    let (seen, _) = place(&event)?;
    let last_id = stream.last_id().to_owned();
    drop(stream);
    // More than the backlog holds.
    wait_for_samples(&host, 65_536 + 4 * TAGS)?;
    let path = "/api/v1/stream?kind=sample&tag=t1999&snapshot=true";
    let mut stream = host.resume(path, &last_id)?;
    let (name, gap) = stream.next().context("a gap")??;
    assert_eq!(
        (name.as_str(), &gap["reason"]),
        ("gap", &json!("too-late")),
        "{gap:#}"
    );
    let missed = gap["gap"].as_u64().context("a number")?;
    let (mut next, mut replayed) = (None, 0);
    loop {
        let (name, event) = stream.next().context("the stream ended")??;
        if name == "snapshot" {
            break;
        }
        let (number, _) = place(&event)?;
        let due = *next.get_or_insert(number);
        assert_eq!((name.as_str(), place(&event)?), ("sample", (due, 1_999)));
        (next, replayed) = (Some(due + TAGS), replayed + 1);
    }
    let next = next.context("nothing was left of the backlog")?;
    // Where the machine stood still, polls were skipped, and that was told in messages of its own.
    let gone = (next - seen) / TAGS - replayed - 1;
    let told = missed
        .checked_sub(gone)
        .context("more is gone than was said")?;
    assert!(
        told <= polls_skipped(&host)?,
        "{missed} messages are said to be gone, {gone} batches are"
    );
    assert!(
        (1..=65_536 / TAGS + 64).contains(&replayed),
        "{replayed} of what is left of the backlog, then the snapshot"
    );
    // The snapshot is not behind what was told before, and the stream goes on.
    let (name, event) = stream.next().context("the stream ended")??;
    assert_eq!((name.as_str(), place(&event)?), ("sample", (next, 1_999)));
    let status = host.get("/api/v1/status")?.body;
    assert_eq!(status["streams"]["missed_messages"], missed, "{status:#}");
    Ok(())
}

#[test]
fn a_reader_that_does_not_read_costs_the_channel_no_poll_and_is_told_of_each_sample() -> Result<()>
{
    const TAGS: usize = 8_000;
    let machine = Machine::watch(&[])?;
    let host = Bulkhead::start(&counters(TAGS, 200))?;
    let ours = [host.process().id()];
    wait_for_samples(&host, TAGS as u64)?;
    let authority = host.url.trim_start_matches("http://").to_owned();
    let mut idle = TcpStream::connect(&authority)?;
    idle.set_read_timeout(Some(PATIENCE))?;
    idle.write_all(
        format!("GET /api/v1/stream?kind=sample HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes(),
    )?;
    host.get_until("/api/v1/status", |status| {
        (status["streams"]["open"] == 1).then_some(())
    })?;
    // Far more than the backlog and both socket buffers hold.
    wait_for_samples(&host, 30 * TAGS as u64)?;
    let (polls, skipped) = (counter(&host, "polls")?, counter(&host, "polls_skipped")?);
    let late = machine.late_at_most(polls, Duration::from_millis(200), &ours)?;
    assert!(
        skipped <= late,
        "{skipped} polls of a channel whose reader does not read"
    );
    assert_eq!(
        host.post("/api/v1/channels/a/stop", &json!({}))?.status,
        200
    );
    let mut reader = Dechunked::new(idle);
    let (mut received, mut announced) = (0, 0);
    let mut first = None;
    let published = loop {
        let (name, event) = reader.event()?;
        match name.as_str() {
            "gap" => {
                assert_eq!(event["reason"], "too-slow", "{event:#}");
                announced += event["samples"].as_u64().context("they are known")?;
            }
            "sample" => {
                received += 1;
                let (sequence, tag) = place(&event)?;
                let first = *first.get_or_insert(sequence);
                // The last one that there is: the channel has stopped.
                if event["quality"] == "bad-out-of-service" && tag == TAGS - 1 {
                    break sequence - first + 1;
                }
            }
            _ => {}
        }
    };
    assert!(announced > 0, "the backlog has no bound");
    assert_eq!(received + announced, published);
    let streams = &host.get("/api/v1/status")?.body["streams"];
    assert_eq!(
        (&streams["open"], &streams["missed_samples"]),
        (&json!(1), &json!(announced))
    );
    Ok(())
}

#[test]
fn whoever_watches_misses_nothing_over_a_broken_connection() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    // The value that is held has been told, once; from here on each number is one of the counter's.
    wait_for_samples(&host, 4)?;
    let api: SocketAddr = host.url.trim_start_matches("http://").parse()?;
    // The host answers to its own port only.
    let mut between = Proxy::start(&format!("127.0.0.2:{}", api.port()), api)?;
    let url = format!("http://127.0.0.2:{}", api.port());
    let watch = host.start_client(&["tag", "watch", "count", "--json", "--url", &url])?;
    let live = |line: &str| {
        let sample: Value = serde_json::from_str(line).ok()?;
        Some((sample["sequence"].as_u64()?, sample["value"].as_u64()?))
    };
    for breaks in 1..=3usize {
        let from = watch.out().count();
        watch.out().wait_for(from, live)?;
        // It is away until the host has published much more.
        between.refuse()?;
        wait_for_samples(&host, 80)?;
        between.admit()?;
        let mut back = 0;
        watch.err().wait_for(0, |line| {
            back += usize::from(line.contains("going on where the stream was"));
            (back == breaks).then_some(())
        })?;
    }
    // All that it missed is there when it has come to where the host is.
    let now = host.get("/api/v1/tags/a/count")?.body["value"].as_u64();
    watch
        .out()
        .wait_for(0, |line| (Some(live(line)?.1) >= now).then_some(()))?;
    let lines = watch.out().so_far();
    assert!(!lines.iter().any(|line| line.contains("\"gap\"")));
    let seen: Vec<(u64, u64)> = lines.iter().filter_map(|line| live(line)).collect();
    assert!(seen.len() > 120, "{}", seen.len());
    let mut skipped = 0;
    for pair in seen.windows(2) {
        assert_eq!(pair[1].0, pair[0].0 + 1, "{pair:?}");
        skipped += steps(Some(pair[1].1), Some(pair[0].1))? - 1;
    }
    assert!(
        skipped <= polls_skipped(&host)?,
        "a value is missing that was polled"
    );
    let snapshots = lines.iter().filter(|line| live(line).is_none()).count();
    assert_eq!(snapshots, 1, "only the first time");
    Ok(())
}

#[test]
fn groups_are_meant_by_pattern() -> Result<()> {
    let slow = "[[channel.group]]\nname = \"slow\"\nperiod = \"60ms\"\n\
                tags = [{ name = \"other\", address = \"counter\", type = \"uint64\" }]\n";
    let host = Bulkhead::start(&format!("{SIGNAL}{slow}"))?;
    let names = |arguments: &[&str]| -> Result<Vec<String>> {
        let ended = host.client(&[arguments, &["--json"]].concat())?;
        assert_eq!(ended.code(), Some(0), "{ended:#?}");
        let tags = super::json_lines(&ended).into_iter();
        Ok(tags
            .filter_map(|tag| Some(tag["tag"].as_str()?.to_owned()))
            .collect())
    };
    assert_eq!(names(&["tag", "list", "--group", "slow"])?, ["other"]);
    assert_eq!(
        names(&["tag", "list", "--group", "a/f*"])?,
        ["count", "held"]
    );
    assert_eq!(names(&["tag", "list", "--group", "b/*"])?, [""; 0]);
    let watched = names(&["tag", "watch", "--group", "sl?w", "--count", "5"])?;
    assert_eq!(watched, ["other"; 5]);
    Ok(())
}
