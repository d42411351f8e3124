//! Sinks on a bus, without a host.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::file::FileDestination;
use super::runner::Runner;
use super::source::{Filter, Memory, Source};
use super::status::Shared;
use super::*;
use crate::bus::{Bus, Message, Missed};
use crate::clock::Clock;
use crate::config::{self, Origin, Rotation, SinkKind};
use crate::event::{Batch, Quality, Sample, TagFilter, Value, WallNs};
use crate::ids::{InstanceId, TagId};

const CONFIG: &str = r#"
    [[channel]]
    id = "press-3"
    driver = "modbus.wasm"
    [[channel.group]]
    name = "fast"
    period = "100ms"
    tags = [{ name = "temp", address = "40001", type = "int64" }]
    [[sink]]
    kind = "file"
    path = "samples.jsonl"
"#;

fn configured(folder: &std::path::Path) -> config::Host {
    let origin = Origin {
        name: "test.toml".into(),
        folder: folder.into(),
    };
    config::parse(CONFIG, &origin).unwrap().value
}

fn publish(bus: &Bus, host: &config::Host, sequences: std::ops::RangeInclusive<u64>) {
    let instance = Arc::new(InstanceId {
        channel: host.channels[0].id.clone(),
        incarnation: 7,
    });
    let layout = Arc::new(host.channels[0].layout());
    for sequence in sequences {
        let sample = Sample {
            tag: TagId(0),
            value: Some(Value::Int(i64::MAX)),
            quality: Quality::Good,
            source_time: None,
        };
        let batch = Batch {
            instance: instance.clone(),
            layout: layout.clone(),
            epoch: 2,
            sequence,
            offsets: None,
            server_time: WallNs(1),
            samples: vec![sample],
        };
        bus.publish(&Message::Samples(Arc::new(batch)));
    }
}

fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn what_was_published_before_the_end_is_in_the_file() {
    let folder = folder("drain");
    let host = configured(&folder);
    let bus = Bus::new();
    let sinks = Sinks::start(&host.sinks, &bus, Clock::start(), Look::Json, &folder);
    let watch = sinks.watch();
    publish(&bus, &host, 1..=500);
    assert_eq!(
        sinks.drain(Duration::from_secs(60)).await,
        Drained::default()
    );
    let lines = lines(&folder.join("samples.jsonl"));
    let sequences: Vec<u64> = lines
        .iter()
        .map(|line| line["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, (1..=500).collect::<Vec<u64>>());
    let expected = serde_json::json!({
        "channel": "press-3", "tag": "temp", "device": "press-3", "value": i64::MAX, "quality": "good",
        "server_time": "1970-01-01T00:00:00.000000001Z", "server_time_ns": 1, "incarnation": 7, "epoch": 2, "sequence": 1,
    });
    assert_eq!(lines[0], expected);
    assert_eq!(
        (
            watch.statuses()[0].written,
            watch.statuses()[0].trouble.as_deref()
        ),
        (500, None)
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_gap_stands_where_messages_are_missing() {
    let folder = folder("gap");
    let host = configured(&folder);
    let bus = Bus::new();
    let clock = Clock::start();
    let subscription = bus.subscribe(2);
    let shared = Arc::new(Shared::new(
        "archive",
        "file",
        subscription.missed(),
        None,
        None,
        clock,
    ));
    let (stop, path) = (CancellationToken::new(), folder.join("samples.jsonl"));
    let memory = Memory {
        subscription,
        filter: Filter::new(TagFilter::default()),
        clock,
        stop: stop.clone(),
    };
    let runner = Runner {
        source: Source::Memory(memory),
        destination: FileDestination::new(&path, Rotation::default(), false, "archive"),
        batch: 5_000,
        linger: Duration::ZERO,
        clock,
        stop: stop.clone(),
        closed: CancellationToken::new(),
        last: None,
        reminded: None,
        shared: shared.clone(),
    };
    publish(&bus, &host, 1..=5);
    stop.cancel();
    runner.run().await;
    let lines = lines(&folder.join("samples.jsonl"));
    let sequence = |line: &serde_json::Value| line["sequence"].as_u64();
    assert_eq!(
        (sequence(&lines[0]), sequence(&lines[1])),
        (Some(1), Some(2))
    );
    let gap = &lines[2];
    assert_eq!(
        (
            gap["gap"].as_u64(),
            gap["samples"].as_u64(),
            gap["sink"].as_str()
        ),
        (Some(3), Some(3), Some("archive"))
    );
    assert_eq!(lines.len(), 3);
    let missed = Missed {
        messages: 3,
        samples: 3,
    };
    assert_eq!(shared.status().missed, missed);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_sink_that_cannot_write_says_what_is_lost_when_the_host_stops() {
    let folder = folder("lost");
    let mut host = configured(&folder);
    host.sinks[0].kind = SinkKind::File {
        path: folder.join("missing").join("samples.jsonl"),
        rotation: Rotation::default(),
    };
    let bus = Bus::new();
    let sinks = Sinks::start(&host.sinks, &bus, Clock::start(), Look::Json, &folder);
    publish(&bus, &host, 1..=3);
    let watch = sinks.watch();
    let drained = sinks.drain(Duration::from_secs(60)).await;
    assert_eq!(drained.lost, [("file".to_owned(), 3)]);
    assert_eq!(watch.statuses()[0].written, 0);
    std::fs::remove_dir_all(folder).unwrap();
}
