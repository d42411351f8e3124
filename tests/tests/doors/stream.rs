//! The stream of samples and events: nothing lost that is not announced, nothing twice, and an end that says so.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};
use bulkhead_tests::{Bulkhead, PATIENCE, Recorder};
use serde_json::{Value, json};

use super::{SIGNAL, polls_skipped, refused, steps};

#[test]
fn a_stream_begins_with_what_is_known_and_misses_nothing() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    host.get_until("/api/v1/tags/a/count", |tag| {
        (tag["value"].as_u64() > Some(2)).then_some(())
    })?;
    let mut snapshot = BTreeMap::new();
    let mut last: Option<(Option<u64>, Option<u64>)> = None;
    let (mut live, mut skipped) = (0, 0);
    for event in host.stream("/api/v1/stream?snapshot=true&kind=sample")? {
        let (name, sample) = event?;
        let tag = sample["tag"].as_str().context("a name")?.to_owned();
        match name.as_str() {
            "snapshot" => {
                assert_eq!(live, 0, "the snapshot comes first");
                assert_eq!(sample["quality"], "good", "{sample:#}");
                assert_eq!(snapshot.insert(tag, sample["value"].clone()), None);
            }
            "sample" => {
                live += 1;
                let expected = ["channel", "device", "quality"].map(|key| &sample[key]);
                assert_eq!(
                    expected,
                    [&json!("a"), &json!("a"), &json!("good")],
                    "{sample:#}"
                );
                assert_eq!(tag, "count", "`held` has not changed");
                let now = (sample["sequence"].as_u64(), sample["value"].as_u64());
                if let Some((sequence, value)) = last {
                    assert_eq!(now.0, sequence.map(|sequence| sequence + 1), "{sample:#}");
                    skipped += steps(now.1, value)? - 1;
                }
                last = Some(now);
            }
            other => bail!("a {other} event, which was not asked for"),
        }
        if live == 20 {
            break;
        }
    }
    assert_eq!(snapshot.keys().collect::<Vec<_>>(), ["count", "held"]);
    // What was seen live goes on where the snapshot was, or before.
    let (_, value) = last.context("samples came")?;
    let first = snapshot["count"].as_u64();
    assert!(first.map(|first| first + 20 + skipped) >= value);
    assert!(
        skipped <= polls_skipped(&host)?,
        "a value is missing that was polled"
    );
    Ok(())
}

#[test]
fn a_stream_shows_what_was_asked_for() -> Result<()> {
    let host = Bulkhead::start(&format!("{SIGNAL}{}", SIGNAL.replace("\"a\"", "\"b\"")))?;
    let record = |query: &str| -> Result<Recorder> {
        Ok(Recorder::start(
            host.stream(&format!("/api/v1/stream{query}"))?,
        ))
    };
    let all = record("")?;
    let held = record("?tag=held&kind=sample")?;
    let states = record("?kind=state&channel=b")?;
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"] == 4).then_some(())
    })?;
    // Reported when it changes only: once for each value.
    for value in [7, 7, 8] {
        let written = host.post("/api/v1/tags/b/held/write", &json!({ "value": value }))?;
        assert_eq!(written.status, 200);
        host.get_until("/api/v1/tags/b/held", |tag| {
            (tag["value"] == value).then_some(())
        })?;
    }
    host.post("/api/v1/channels/b/stop", &json!({}))?;
    host.get_until("/api/v1/channels/b", |shown| {
        (shown["state"] == "stopped").then_some(())
    })?;
    let (mut seen_states, mut seen_values) = (Vec::new(), Vec::new());
    for stream in [&all, &held] {
        stream.wait("the end of b", |seen| {
            seen.iter().any(|(_, event)| {
                event["quality"] == "bad-out-of-service" && event["tag"] == "held"
            })
        })?;
    }
    states.wait("b stopped", |seen| {
        seen.iter().any(|(_, event)| event["state"] == "stopped")
    })?;
    let end = |stream: &Recorder| {
        stream.wait("the end", |seen| {
            seen.last().is_some_and(|(name, _)| name == "end")
        })
    };
    assert_eq!(host.stop()?.code(), Some(0));
    for stream in [&all, &held, &states] {
        end(stream)?;
    }
    for (name, event) in states.so_far().iter().filter(|(name, _)| name != "end") {
        assert_eq!(
            (name.as_str(), &event["channel"]),
            ("state", &json!("b")),
            "{event:#}"
        );
        seen_states.push(event["state"].clone());
    }
    assert!(
        seen_states.ends_with(&[json!("stopping"), json!("stopped")]),
        "{seen_states:?}"
    );
    for (name, event) in held.so_far().iter().filter(|(name, _)| name != "end") {
        assert_eq!(
            (name.as_str(), &event["tag"]),
            ("sample", &json!("held")),
            "{event:#}"
        );
        if event["channel"] == "b" && event["quality"] == "good" {
            seen_values.push(event["value"].clone());
        }
    }
    assert!(
        seen_values.ends_with(&[json!(7), json!(8)]),
        "{seen_values:?}"
    );
    let sevens = seen_values.iter().filter(|value| **value == 7).count();
    assert_eq!(sevens, 1, "{seen_values:?}");
    let names: Vec<String> = all.so_far().into_iter().map(|(name, _)| name).collect();
    for name in ["sample", "state"] {
        assert!(names.iter().any(|seen| seen == name), "no {name} event");
    }
    Ok(())
}

#[test]
fn streams_are_bounded_and_refuse_what_they_do_not_have() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    for (query, expected) in [
        ("?kind=weather", (400, "bad-request")),
        ("?snapshot=maybe", (400, "bad-request")),
        ("?channel=x", (404, "no-such-channel")),
        ("?colour=red", (400, "bad-request")),
    ] {
        assert_eq!(
            refused(&host.get(&format!("/api/v1/stream{query}"))?),
            expected,
            "{query}"
        );
    }
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(host.stream("/api/v1/stream?kind=state")?);
    }
    assert_eq!(
        refused(&host.get("/api/v1/stream")?),
        (503, "too-many-streams")
    );
    assert_eq!(host.get("/api/v1/status")?.status, 200);
    // One that goes leaves its place to another.
    drop(streams);
    let mut attempts = 0;
    while host.stream("/api/v1/stream?kind=state").is_err() {
        attempts += 1;
        assert!(attempts < 1_000, "no place became free");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

/// How many tags each of the fast channels has.
const TAGS: usize = 60;
const CHANNELS: usize = 40;

/// Forty channels that publish `TAGS` samples each 50 ms.
fn fast() -> String {
    let tags: String = (0..TAGS)
        .map(|tag| format!("{{ name = \"t{tag}\", address = \"counter\", type = \"uint64\" }},\n"))
        .collect();
    let channel = |id| {
        format!(
            "[[channel]]\nid = \"c{id}\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
             [[channel.group]]\nname = \"g\"\nperiod = \"50ms\"\ntags = [\n{tags}]\n"
        )
    };
    (0..CHANNELS).map(channel).collect()
}

#[test]
fn a_reader_that_is_too_slow_is_told_what_it_missed_and_slows_nobody() -> Result<()> {
    let host = Bulkhead::start(&fast())?;
    let step = |channel: usize, verb: &str, state: &str| -> Result<()> {
        let path = format!("/api/v1/channels/c{channel}");
        assert_eq!(
            host.post(&format!("{path}/{verb}"), &json!({}))?.status,
            200
        );
        host.get_until(&path, |shown| (shown["state"] == state).then_some(()))
    };
    let all_good = TAGS * CHANNELS;
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"] == all_good).then_some(())
    })?;
    let authority = host.url.trim_start_matches("http://");
    let mut slow = TcpStream::connect(authority)?;
    slow.set_read_timeout(Some(PATIENCE))?;
    slow.write_all(format!("GET /api/v1/stream HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes())?;

    // It reads nothing until far more has been published than the backlog (65,536 samples, 1,092 of these batches) and both
    // socket buffers (about 700 of them) can hold; and not for so long that the host gives it up.
    let enough = samples(&host, 0)? + (4_000 / CHANNELS * TAGS) as u64;
    host.get_until("/api/v1/status", |_| {
        (samples(&host, 0).ok()? > enough).then_some(())
    })?;
    for channel in 0..CHANNELS {
        step(channel, "stop", "stopped")?;
    }

    // Then everything that is left, until the host has no more to say.
    let mut tally = Tally::default();
    let mut reader = Dechunked::new(slow);
    while tally.take(reader.event()?)? {}
    assert!(tally.announced > 0, "the backlog has no bound");
    // The first batch of each channel that comes now shows what this channel has missed.
    for channel in 0..CHANNELS {
        step(channel, "start", "running")?;
    }
    let before = tally.last.clone();
    while (0..CHANNELS).any(|channel| {
        let name = format!("c{channel}");
        tally.last.get(&name) == before.get(&name)
    }) {
        tally.take(reader.event()?)?;
    }
    // Each channel said twice that it stopped; what else there may have been is told of skipped polls.
    assert_eq!(tally.missing % TAGS as u64, 0, "whole batches are missed");
    let missing = tally.missing / TAGS as u64 + (2 * CHANNELS as u64 - tally.stops);
    let mut skipped = 0;
    for channel in 0..CHANNELS {
        let shown = host.get(&format!("/api/v1/channels/c{channel}"))?.body;
        skipped += shown["counters"]["polls_skipped"]
            .as_u64()
            .context("a counter")?;
    }
    let announced = tally.announced;
    assert!(
        missing <= announced && announced <= missing + skipped,
        "{announced} messages were announced as missed; {missing} were, and {skipped} polls were skipped"
    );
    Ok(())
}

/// What came over a stream.
#[derive(Default)]
struct Tally {
    /// The number of the last sample of each channel.
    last: BTreeMap<String, u64>,
    /// Samples whose numbers were left out.
    missing: u64,
    /// Messages that gaps have announced.
    announced: u64,
    /// `stopping` and `stopped`.
    stops: u64,
}

impl Tally {
    /// Takes in an event; whether it was one at all, and not a sign of life.
    fn take(&mut self, (name, event): (String, Value)) -> Result<bool> {
        match name.as_str() {
            "beat" => return Ok(false),
            "gap" => self.announced += event["gap"].as_u64().context("a number")?,
            "state" if event["state"] == "stopping" || event["state"] == "stopped" => {
                self.stops += 1
            }
            "sample" => {
                let channel = event["channel"].as_str().context("a channel")?.to_owned();
                let sequence = event["sequence"].as_u64().context("a sequence")?;
                let last = self.last.entry(channel).or_insert(sequence);
                assert!(sequence >= *last, "{event:#}");
                self.missing += (sequence - *last).saturating_sub(1);
                *last = sequence;
            }
            _ => {}
        }
        Ok(true)
    }
}

fn samples(host: &Bulkhead, channel: usize) -> Result<u64> {
    let shown = host.get(&format!("/api/v1/channels/c{channel}"))?.body;
    shown["counters"]["samples"].as_u64().context("a counter")
}

/// Server-sent events out of a chunked answer, read no faster than asked for.
pub(super) struct Dechunked {
    stream: std::io::BufReader<TcpStream>,
    text: Vec<u8>,
    at: usize,
    started: bool,
}

impl Dechunked {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: std::io::BufReader::new(stream),
            text: Vec::new(),
            at: 0,
            started: false,
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.stream, &mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn chunk(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            assert_eq!(self.line()?, "HTTP/1.1 200 OK");
            while !self.line()?.is_empty() {}
        }
        let length = usize::from_str_radix(&self.line()?, 16).context("a chunk's length")?;
        self.text.drain(..self.at);
        self.at = 0;
        let from = self.text.len();
        self.text.resize(from + length, 0);
        self.stream.read_exact(&mut self.text[from..])?;
        self.line().map(drop)
    }

    /// The next event; `beat` for the comment that comes where there is nothing else to say.
    pub(super) fn event(&mut self) -> Result<(String, Value)> {
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.windows(2).position(|pair| pair == b"\n\n") else {
                self.chunk()?;
                continue;
            };
            let block = String::from_utf8(rest[..length].to_vec())?;
            self.at += length + 2;
            if block.starts_with(": still here") {
                return Ok(("beat".to_owned(), Value::Null));
            }
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                return Ok((name.to_owned(), serde_json::from_str(data)?));
            }
        }
    }
}
