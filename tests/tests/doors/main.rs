//! The doors of a running host, as programs and people use them: the HTTP API, the command line, the sinks.
//!
//! - `channels`, `tags`: what is shown, what may be asked for, and each refusal with its code.
//! - `guard`: who is let in at all. `stream`: samples and events as they come. `resume`: readers of it that come back.
//! - `browse`: what a tag can be made of. `pages`: lists that come in pieces.
//! - `tags_files`: tags in files of their own, out and in. `texts`: arrays of strings. `reload`: another configuration; `obstacles`: what it may meet.
//! - `command_line`: what people and scripts get. `sinks`: what is left on the disk.

mod browse;
mod channels;
mod command_line;
mod guard;
mod obstacles;
mod pages;
mod reload;
mod resume;
mod sinks;
mod stream;
mod tags;
mod tags_files;
mod texts;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Ended, Reply};
use serde_json::Value;

/// A channel that needs nothing but itself: a counter each 50 ms, and a value that is held.
const SIGNAL: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"fast\"\nperiod = \"50ms\"\ntags = [\n\
    { name = \"count\", address = \"counter\", type = \"uint64\", unit = \"pieces\" },\n\
    { name = \"held\", address = \"hold(20)\", type = \"uint8\", access = \"rw\", report = \"change\" }]\n";

/// How often a counter has stepped from one of its values to a later one.
fn steps(later: Option<u64>, earlier: Option<u64>) -> Result<u64> {
    let (later, earlier) = (later.context("a value")?, earlier.context("a value")?);
    later
        .checked_sub(earlier)
        .filter(|steps| *steps > 0)
        .with_context(|| format!("{later} came after {earlier}"))
}

/// Moments that channel `a` has skipped so far, where the machine stood still: its counter counts them.
fn polls_skipped(host: &Bulkhead) -> Result<u64> {
    let shown = host.get("/api/v1/channels/a")?.body;
    shown["counters"]["polls_skipped"]
        .as_u64()
        .context("a counter")
}

/// A refusal: its status, its code, and a message and a remedy that say something.
fn refused(reply: &Reply) -> (u16, &str) {
    let error = &reply.body["error"];
    for said in ["message", "remedy"] {
        assert!(
            error[said].as_str().is_some_and(|text| text.len() > 5),
            "{reply:?}"
        );
    }
    (reply.status, error["code"].as_str().unwrap_or_default())
}

/// Each line of what was printed is one JSON value.
fn json_lines(ended: &Ended) -> Vec<Value> {
    let lines = ended.out.iter();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}
