//! A value that is not read any more is not good any more, though link, device and driver are well.

use std::time::Duration;

use anyhow::Result;
use bulkhead_tests::{Bulkhead, Peer, Recorder};
use serde_json::Value;

#[test]
fn tags_of_a_group_that_is_not_read_in_time_are_stale_until_they_are() -> Result<()> {
    let mut peer = Peer::simulated(&[])?;
    let host = Bulkhead::start(&format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}" }}
settings = {{ unit_id = 1, timeout_ms = 60_000 }}
[[channel.group]]
name = "fast"
period = "100ms"
stale_after = 10
tags = [{{ name = "watched", address = "holding:0", type = "uint16" }}]
[[channel.group]]
name = "other"
period = "100ms"
stale_after = "never"
tags = [{{ name = "not-watched", address = "input:0", type = "uint16" }}]
"#,
        peer.address()
    ))?;
    let quality = |tag: &str, wanted: &str| -> Result<Value> {
        host.get_until(&format!("/api/v1/tags/line/{tag}"), |tag| {
            (tag["quality"] == wanted).then(|| tag.clone())
        })
    };
    quality("watched", "good")?;
    quality("not-watched", "good")?;
    let long = Duration::from_secs(3600);
    let seen = Recorder::start(host.stream_for("/api/v1/stream?channel=line", long)?);
    peer.set_faults(&["delay:4000"])?;
    let tag = quality("watched", "bad-stale")?;
    let why = "nothing was read for more than 1s, and group fast is polled each 100ms";
    assert!(tag.to_string().contains(why), "{tag:#}");
    peer.set_faults(&[])?;
    quality("watched", "good")?;
    seen.wait("stale and good again", |seen| {
        let of = |tag: &str| -> Vec<String> {
            let samples = seen
                .iter()
                .filter(|(kind, sample)| kind == "sample" && sample["tag"] == tag);
            let mut all: Vec<String> = samples
                .filter_map(|(_, sample)| Some(sample["quality"].as_str()?.to_owned()))
                .collect();
            all.dedup();
            all
        };
        assert!(of("not-watched").iter().all(|quality| quality == "good"));
        let watched = of("watched").join(" ");
        watched.ends_with("bad-stale good")
    })?;
    Ok(())
}
