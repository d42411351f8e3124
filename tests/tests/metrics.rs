//! What Prometheus makes of `GET /metrics`: a real one (from Debian) scrapes the host, and its own query language says what moved.
//!
//! That each number stands where it should is checked beside the code (`host/src/metrics`), without a host; here it is that they move with
//! what happens, and that the format is one which `promtool` finds nothing wrong with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_tests::{Bulkhead, Folder, PATIENCE, Peer, Running, paths};
use serde_json::{Value, json};

/// How often Prometheus scrapes.
const INTERVAL: &str = "250ms";

/// A Prometheus that scrapes one host. Dropping it kills it.
struct Prometheus {
    // Dropped first: the folder is removed only when nobody writes to it any more.
    running: Running,
    url: String,
    agent: ureq::Agent,
    _folder: Folder,
}

impl Prometheus {
    /// One that scrapes what listens there, such as `127.0.0.1:7070`.
    fn start(target: &str) -> Result<Self> {
        let folder = Folder::new()?;
        let config = format!(
            "global: {{ scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL} }}\n\
             scrape_configs:\n  - job_name: bulkhead\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"
        );
        folder.write("prometheus.yml", config)?;
        let running = Running::start(
            Command::new("prometheus")
                .current_dir(folder.path())
                .arg("--config.file=prometheus.yml")
                .arg("--storage.tsdb.path=samples")
                .arg("--web.listen-address=127.0.0.1:0"),
        )
        .context("`cargo xtask test` installs Prometheus (apt-get install prometheus)")?;
        let address = running.err().wait_for(0, |line| {
            let (_, rest) = line.split_once("msg=\"Listening on\" address=")?;
            rest.split_whitespace().next().map(str::to_owned)
        })?;
        // Until then it answers 503.
        running.err().wait_for(0, |line| {
            line.contains("Server is ready to receive web requests")
                .then_some(())
        })?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Ok(Self {
            running,
            url: format!("http://{address}"),
            agent,
            _folder: folder,
        })
    }

    /// The values of a query, now.
    fn ask(&self, query: &str) -> Result<Vec<f64>> {
        let mut answer = self
            .agent
            .get(format!("{}/api/v1/query", self.url))
            .query("query", query)
            .call()?;
        let text = answer.body_mut().read_to_string()?;
        let body: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(body["status"] == "success", "{query}: {body}");
        let results = body["data"]["result"].as_array().context("results")?;
        let value = |result: &Value| result["value"][1].as_str()?.parse().ok();
        let values: Option<Vec<f64>> = results.iter().map(value).collect();
        values.with_context(|| format!("{query}: {body}"))
    }

    /// Asks again and again until there is one value, and it is as wanted.
    fn until(&self, query: &str, wanted: impl Fn(f64) -> bool) -> Result<f64> {
        const STEP: Duration = Duration::from_millis(50);
        let mut last = Vec::new();
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            last = self.ask(query)?;
            if let [value] = last[..]
                && wanted(value)
            {
                return Ok(value);
            }
            std::thread::sleep(STEP);
        }
        bail!(
            "{query} never was as expected; at last: {last:?}\n{}",
            self.running.printed()
        )
    }
}

/// The text, as the host gives it.
fn scraped(host: &Bulkhead) -> Result<String> {
    let reply = host.get("/metrics")?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(reply.body.as_str().context("a text")?.to_owned())
}

/// `promtool` has nothing to say about it.
fn is_clean(text: &str) -> Result<()> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("`cargo xtask test` installs promtool (apt-get install prometheus)")?;
    let mut input = promtool.stdin.take().context("its standard input")?;
    // It reads everything before it says anything, so neither waits for the other.
    input.write_all(text.as_bytes())?;
    drop(input);
    let ended = promtool.wait_with_output()?;
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        ended.status.success() && said.is_empty(),
        "promtool check metrics: {}\n{said}",
        ended.status
    );
    Ok(())
}

/// The metrics in a text: the type of each.
fn families(text: &str) -> BTreeMap<&str, &str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|rest| rest.split_once(' ')).collect()
}

/// The value of one row in a text.
fn value(text: &str, row: &str) -> Result<f64> {
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
    let number = found.with_context(|| format!("no {row} in:\n{text}"))?;
    number.parse().with_context(|| format!("{row}: {number}"))
}

/// A device, and a driver that ends with the first write.
fn config(peer: &Peer) -> String {
    format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}", base_delay = "50ms", max_delay = "100ms" }}
settings = {{ unit_id = 1, timeout_ms = 1000 }}
[[channel.group]]
name = "fast"
period = "50ms"
tags = [
    {{ name = "level", address = "holding:250", type = "uint16", access = "rw" }},
    {{ name = "other", address = "holding:251", type = "uint16" }},
]

[[channel]]
id = "falls"
driver = "$GUESTS/traps.wasm"
settings = {{ when = "write" }}
restart = {{ jitter = 0, first_delay = "10ms" }}
[[channel.tag]]
name = "number"
address = "n"
type = "float64"
access = "rw"

[[sink]]
kind = "file"
path = "samples.jsonl"
"#,
        peer.address()
    )
}

#[test]
fn prometheus_scrapes_the_host_and_sees_what_happens_to_it() -> Result<()> {
    let mut peer = Peer::simulated(&[])?;
    let host = Bulkhead::start(&config(&peer))?;
    let target = host.url.trim_start_matches("http://").to_owned();
    let prometheus = Prometheus::start(&target)?;
    let is = |wanted: f64| move |value: f64| value.total_cmp(&wanted).is_eq();
    let more = |than: f64| move |value: f64| value > than;

    // All is well.
    prometheus.until("up", is(1.0))?;
    for (query, least) in [
        (
            "bulkhead_group_polls_total{channel=\"line\",group=\"fast\"}",
            5.0,
        ),
        (
            "bulkhead_group_requests_total{channel=\"line\",group=\"fast\"}",
            5.0,
        ),
        (
            "bulkhead_group_poll_deviation_seconds_count{channel=\"line\"}",
            5.0,
        ),
        (
            "bulkhead_group_poll_deviation_seconds_sum{channel=\"line\"}",
            0.0,
        ),
        (
            "bulkhead_group_poll_duration_seconds_count{channel=\"line\"}",
            5.0,
        ),
        ("bulkhead_group_round_trip_seconds{channel=\"line\"}", 0.0),
        (
            "bulkhead_channel_turn_duration_seconds_count{channel=\"line\"}",
            5.0,
        ),
        (
            "bulkhead_channel_turn_duration_seconds_sum{channel=\"line\"}",
            0.0,
        ),
        ("bulkhead_channel_samples_total{channel=\"line\"}", 10.0),
        ("bulkhead_channel_fuel_total{channel=\"line\"}", 1_000.0),
        (
            "bulkhead_channel_peak_memory_bytes{channel=\"line\"}",
            65_535.0,
        ),
        (
            "bulkhead_link_received_bytes_total{channel=\"line\",link=\"plc\"}",
            50.0,
        ),
        (
            "bulkhead_link_sent_bytes_total{channel=\"line\",link=\"plc\"}",
            50.0,
        ),
        ("bulkhead_bus_samples_total", 5.0),
        ("bulkhead_sink_written_samples_total{sink=\"file\"}", 5.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_cpu_seconds_total", 0.0),
        ("bulkhead_uptime_seconds", 0.0),
        // What was scraped is counted by Prometheus itself.
        ("scrape_samples_scraped", 100.0),
    ] {
        prometheus.until(query, more(least))?;
    }
    for (query, wanted) in [
        ("bulkhead_link_up{channel=\"line\",link=\"plc\"}", 1.0),
        (
            "bulkhead_link_state{channel=\"line\",state=\"connected\"}",
            1.0,
        ),
        ("bulkhead_link_connections_total{channel=\"line\"}", 1.0),
        (
            "bulkhead_channel_state{channel=\"line\",state=\"running\"}",
            1.0,
        ),
        ("sum(bulkhead_channel_state{channel=\"line\"})", 1.0),
        (
            "bulkhead_channel_tags{channel=\"line\",quality=\"good\"}",
            2.0,
        ),
        ("bulkhead_group_errors_total{channel=\"line\"}", 0.0),
        ("sum(bulkhead_channel_restarts_total)", 0.0),
        ("bulkhead_channel_starts_total{channel=\"line\"}", 1.0),
        ("bulkhead_sink_failing{sink=\"file\"}", 0.0),
        ("count(bulkhead_build_info{version!=\"\"})", 1.0),
    ] {
        prometheus.until(query, is(wanted))?;
    }
    is_clean(&scraped(&host)?)?;

    // The device says no; then it is itself again.
    peer.set_faults(&["exception:4"])?;
    prometheus.until("bulkhead_group_errors_total{channel=\"line\"}", more(2.0))?;
    prometheus.until(
        "bulkhead_channel_tags{channel=\"line\",quality=\"good\"}",
        is(0.0),
    )?;
    peer.set_faults(&[])?;
    prometheus.until(
        "bulkhead_channel_tags{channel=\"line\",quality=\"good\"}",
        is(2.0),
    )?;

    // Writes, one of which ends its driver.
    let write = |path: &str| host.post(path, &json!({ "value": 7, "timeout_ms": 50_000 }));
    assert_eq!(write("/api/v1/tags/line/level/write")?.status, 200);
    assert_ne!(write("/api/v1/tags/falls/number/write")?.status, 200);
    for (query, wanted) in [
        (
            "bulkhead_channel_requests_total{channel=\"line\",kind=\"write\",outcome=\"done\"}",
            1.0,
        ),
        (
            "bulkhead_channel_request_duration_seconds_count{channel=\"line\",kind=\"write\"}",
            1.0,
        ),
        (
            "bulkhead_channel_requests_total{channel=\"falls\",kind=\"write\",outcome=\"lost\"}",
            1.0,
        ),
        (
            "bulkhead_channel_restarts_total{channel=\"falls\",kind=\"trapped\"}",
            1.0,
        ),
        ("sum(bulkhead_channel_restarts_total)", 1.0),
        ("bulkhead_channel_starts_total{channel=\"falls\"}", 2.0),
    ] {
        prometheus.until(query, is(wanted))?;
    }

    // The device goes away, and comes back.
    let port = peer.port;
    peer.end()?;
    prometheus.until("bulkhead_link_up{channel=\"line\",link=\"plc\"}", is(0.0))?;
    prometheus.until(
        "bulkhead_link_state{channel=\"line\",state=\"reconnecting\"}",
        is(1.0),
    )?;
    prometheus.until(
        "bulkhead_link_failed_dials_total{channel=\"line\"}",
        more(1.0),
    )?;
    prometheus.until(
        "bulkhead_channel_tags{channel=\"line\",quality=\"bad-not-connected\"}",
        is(2.0),
    )?;
    is_clean(&scraped(&host)?)?;
    let _peer = Peer::simulated_at(port, &[])?;
    prometheus.until("bulkhead_link_up{channel=\"line\",link=\"plc\"}", is(1.0))?;
    prometheus.until("bulkhead_link_connections_total{channel=\"line\"}", is(2.0))?;

    // The host goes away.
    assert_eq!(host.stop()?.code(), Some(0));
    prometheus.until("up", is(0.0))?;
    Ok(())
}

#[test]
fn every_metric_of_a_running_host_is_documented_and_none_of_a_tag() -> Result<()> {
    let peer = Peer::simulated(&[])?;
    let host = Bulkhead::start(&config(&peer))?;
    host.get_until("/api/v1/tags/line/level", |tag| {
        (tag["quality"] == "good").then_some(())
    })?;
    let text = scraped(&host)?;
    is_clean(&text)?;
    let reference = std::fs::read_to_string(paths::root().join("docs/METRICS.md"))?;
    let documented: BTreeMap<&str, &str> = reference
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split_once(" |")?.0))
        })
        .collect();
    let sent = families(&text);
    for (name, kind) in &sent {
        assert_eq!(documented.get(name), Some(kind), "{name}");
    }
    // What this host has not: an outbox, a heartbeat.
    let absent: BTreeSet<&str> = documented
        .keys()
        .filter(|name| !sent.contains_key(*name) && !name.contains("_outbox_"))
        .copied()
        .collect();
    assert_eq!(absent, BTreeSet::from(["bulkhead_link_round_trip_seconds"]));
    assert!(
        !text.contains("=\"level\"") && !text.contains("tag=\""),
        "{text}"
    );
    Ok(())
}

#[test]
fn counters_begin_at_zero_with_the_host_however_the_last_one_ended() -> Result<()> {
    let peer = Peer::simulated(&[])?;
    let toml = config(&peer);
    let host = Bulkhead::start(&toml)?;
    host.get_until("/api/v1/channels/line", |channel| {
        (channel["counters"]["turns"].as_u64()? > 50).then_some(())
    })?;
    let turns = "bulkhead_channel_turn_duration_seconds_count{channel=\"line\"}";
    let starts = "bulkhead_channel_starts_total{channel=\"line\"}";
    let dials = "bulkhead_link_dials_total{channel=\"line\",link=\"plc\"}";
    let before = scraped(&host)?;
    assert!(value(&before, turns)? > 50.0);
    let mut folder = host.kill()?;
    for ending in ["killed", "stopped"] {
        let host = Bulkhead::start_in(folder, &toml, &[])?;
        host.get_until("/api/v1/tags/line/level", |tag| {
            (tag["quality"] == "good").then_some(())
        })?;
        let text = scraped(&host)?;
        let shown = host.get("/api/v1/channels/line")?.body;
        assert!(shown["statistics"]["lives"].as_u64() > Some(1), "{shown:#}");
        for row in [starts, dials] {
            assert!(
                (value(&text, row)? - 1.0).abs() < 0.5,
                "{ending}: {row}\n{text}"
            );
        }
        assert!(value(&text, turns)? > 0.0, "{ending}");
        folder = host.stop_gently()?;
    }
    Ok(())
}
