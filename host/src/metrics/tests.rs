//! A snapshot of nothing that runs, its text, and what a reader of Prometheus' own makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::snapshot::*;
use super::*;
use crate::event::{Quality, WallNs};
use crate::history::{Latencies, LatencyCells};
use crate::{exit, lifecycle, reconnection};

fn timing(times: impl IntoIterator<Item = Duration>) -> Timing {
    let cells = LatencyCells::default();
    times.into_iter().for_each(|time| cells.count(time));
    Timing {
        latencies: cells.read(),
        total: cells.total(),
    }
}

fn a_group(name: &str) -> GroupNow {
    let ms = Duration::from_millis;
    GroupNow {
        name: name.to_owned(),
        period: ms(100),
        polls: 3,
        skipped: 1,
        requests: 6,
        failed: 2,
        deviation: timing([ms(1), ms(3), ms(700)]),
        deviation_most: ms(700),
        took: timing([ms(4), ms(5), Duration::from_secs(60)]),
        round_trip: Duration::from_micros(2_500),
    }
}

fn a_link(name: &str) -> LinkNow {
    LinkNow {
        name: name.to_owned(),
        up: false,
        state: reconnection::State::Reconnecting,
        dials: 5,
        failed_dials: 4,
        streams: 1,
        up_time: Duration::from_millis(1_500),
        bytes_in: 1 << 40,
        bytes_out: 12,
        dial_time: None,
        probes_sent: 2,
        probes_answered: 1,
        round_trip: Some(Duration::from_nanos(1_500)),
    }
}

fn requests(kind: &'static str) -> RequestsNow {
    let outcomes = [
        "done",
        "refused",
        "link-down",
        "failed",
        "timed-out",
        "lost",
    ];
    let count = |outcome| match outcome {
        "done" => 2,
        "timed-out" => 1,
        _ => 0,
    };
    RequestsNow {
        kind,
        outcomes: outcomes.map(|outcome| (outcome, count(outcome))).into(),
        done: 2,
        took: Duration::from_millis(3),
    }
}

fn a_channel(id: &str) -> ChannelNow {
    let kinds = exit::ExitKind::ALL.iter();
    ChannelNow {
        id: id.to_owned(),
        driver: "C:\\drivers\\mod\"bus\"\n.wasm".to_owned(),
        state: lifecycle::State::Backoff,
        qualities: vec![(Quality::Good, 0), (Quality::BadTimeout, 7)],
        devices: vec![("up", 1), ("down", 0), ("unknown", 0)],
        events: 1,
        actions: 2,
        samples: 3,
        waited: 4,
        late_answers: 5,
        kept_away: 6,
        attempts: 2,
        starts: 3,
        ends: kinds
            .map(|kind| (kind.as_str(), u64::from(*kind == exit::ExitKind::Trapped)))
            .collect(),
        running: Duration::from_secs(90),
        fuel: 1_000,
        fuel_last: 10,
        peak_memory: 65_536,
        turns: timing([5, 7, 9_000].map(Duration::from_micros)),
        mailbox_length: 1,
        mailbox_room: 1_024,
        waiting: 0,
        commands: 0,
        dead_letters: 0,
        stuck: Duration::ZERO,
        requests: ["read", "write", "command"].map(requests).into(),
        groups: vec![a_group("fast")],
        links: vec![a_link("plc")],
    }
}

fn a_sink(name: &str, outbox: Option<OutboxNow>) -> SinkNow {
    SinkNow {
        name: name.to_owned(),
        kind: "file",
        written: 9,
        refused: 1,
        missed_messages: 2,
        missed_samples: 200,
        in_trouble: true,
        lag_samples: 4,
        lag: Duration::from_secs(2),
        deliveries: 3,
        delivery_time: Duration::from_millis(6),
        outbox,
    }
}

fn an_outbox() -> OutboxNow {
    OutboxNow {
        samples: 4,
        bytes: 4_096,
        oldest: Duration::from_secs(2),
        accepted: 13,
        delivered: 9,
        dropped: vec![("slow", 0), ("age", 0), ("bytes", 1)],
        commits: 2,
        commit_time: Duration::from_millis(8),
        accepting: true,
    }
}

fn a_snapshot(channels: usize) -> Snapshot {
    Snapshot {
        host: HostNow {
            version: "0.1.0",
            started_at: WallNs(1_700_000_000_500_000_000),
            uptime: Duration::from_secs(12),
            process: Some(ProcessNow {
                processor: Duration::from_millis(120),
                resident_bytes: 1,
                virtual_bytes: 2,
                open_files: 3,
            }),
            bus_messages: 1,
            bus_samples: 2,
            streams: 0,
            streams_missed_messages: 0,
            streams_missed_samples: 0,
        },
        channels: (0..channels)
            .map(|number| a_channel(&format!("press-{number}")))
            .collect(),
        sinks: vec![a_sink("archive", Some(an_outbox())), a_sink("stdout", None)],
    }
}

fn text(snapshot: Snapshot) -> String {
    Pieces::of(snapshot).collect()
}

/// The value of one row.
fn value<'a>(text: &'a str, row: &str) -> &'a str {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
    let first = values.next().unwrap_or_else(|| panic!("no {row}"));
    assert_eq!(values.next(), None, "{row} stands there twice");
    first
}

#[test]
fn rows_say_what_was_gathered_in_base_units() {
    let text = text(a_snapshot(2));
    for (row, wanted) in [
        ("bulkhead_build_info{version=\"0.1.0\"}", "1"),
        ("process_start_time_seconds", "1700000000.5"),
        ("process_cpu_seconds_total", "0.12"),
        (
            "bulkhead_channel_state{channel=\"press-1\",state=\"backoff\"}",
            "1",
        ),
        (
            "bulkhead_channel_state{channel=\"press-1\",state=\"running\"}",
            "0",
        ),
        (
            "bulkhead_channel_restarts_total{channel=\"press-0\",kind=\"trapped\"}",
            "1",
        ),
        (
            "bulkhead_channel_restarts_total{channel=\"press-0\",kind=\"stopped\"}",
            "0",
        ),
        (
            "bulkhead_channel_tags{channel=\"press-0\",quality=\"bad-timeout\"}",
            "7",
        ),
        (
            "bulkhead_channel_requests_total{channel=\"press-0\",kind=\"write\",outcome=\"timed-out\"}",
            "1",
        ),
        (
            "bulkhead_channel_request_duration_seconds_sum{channel=\"press-0\",kind=\"read\"}",
            "0.003",
        ),
        (
            "bulkhead_channel_request_duration_seconds_count{channel=\"press-0\",kind=\"read\"}",
            "2",
        ),
        (
            "bulkhead_group_errors_total{channel=\"press-0\",group=\"fast\"}",
            "2",
        ),
        (
            "bulkhead_group_round_trip_seconds{channel=\"press-0\",group=\"fast\"}",
            "0.0025",
        ),
        ("bulkhead_link_up{channel=\"press-0\",link=\"plc\"}", "0"),
        (
            "bulkhead_link_received_bytes_total{channel=\"press-0\",link=\"plc\"}",
            "1099511627776",
        ),
        (
            "bulkhead_link_round_trip_seconds{channel=\"press-0\",link=\"plc\"}",
            "0.0000015",
        ),
        ("bulkhead_sink_failing{sink=\"stdout\"}", "1"),
        (
            "bulkhead_sink_delivery_duration_seconds_sum{sink=\"archive\"}",
            "0.006",
        ),
        (
            "bulkhead_outbox_dropped_samples_total{sink=\"archive\",reason=\"bytes\"}",
            "1",
        ),
        ("bulkhead_outbox_accepting{sink=\"archive\"}", "1"),
    ] {
        assert_eq!(value(&text, row), wanted, "{row}");
    }
    for absent in [
        "bulkhead_link_dial_seconds",
        "bulkhead_outbox_samples{sink=\"stdout\"",
    ] {
        assert!(!text.contains(absent), "{absent}: there is no such value");
    }
}

#[test]
fn histograms_are_cumulative_and_end_with_all() {
    let text = text(a_snapshot(1));
    let of = "bulkhead_group_poll_deviation_seconds";
    let rows: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| {
            let (limit, count) = line
                .strip_prefix(of)?
                .strip_prefix("_bucket{channel=\"press-0\",group=\"fast\",le=\"")?
                .split_once("\"} ")?;
            Some((limit, count.parse().unwrap()))
        })
        .collect();
    let expected = [
        ("0.000262144", 0),
        ("0.001048576", 1),
        ("0.004194304", 2),
        ("0.016777216", 2),
        ("0.067108864", 2),
        ("0.268435456", 2),
        ("1.073741824", 3),
        ("4.294967296", 3),
        ("+Inf", 3),
    ];
    assert_eq!(rows, expected);
    let labels = "{channel=\"press-0\",group=\"fast\"}";
    assert_eq!(value(&text, &format!("{of}_sum{labels}")), "0.704");
    assert_eq!(value(&text, &format!("{of}_count{labels}")), "3");
    let took = "bulkhead_group_poll_duration_seconds";
    let beyond = format!("{took}_bucket{{channel=\"press-0\",group=\"fast\",le=\"4.294967296\"}}");
    assert_eq!(
        value(&text, &beyond),
        "2",
        "a minute is beyond the last limit"
    );
    // Nothing yet is a histogram too.
    let empty = Timing {
        latencies: Latencies::default(),
        total: Duration::ZERO,
    };
    let mut snapshot = a_snapshot(1);
    snapshot.channels[0].groups[0].took = empty;
    let text = self::text(snapshot);
    assert_eq!(value(&text, &format!("{took}_count{labels}")), "0");
}

/// What a reader of the format makes of a text: by metric its type, and the rows behind it. Panics where the text breaks a rule.
fn read(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut found: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let (mut helped, mut now) = (None, String::new());
    assert!(text.ends_with('\n'), "the last line is whole");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').map(|(name, _)| name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(
                helped.take().as_deref(),
                Some(name),
                "its help stands before it"
            );
            let old = found.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            assert!(old.is_none(), "{name} stands there twice");
            now = name.to_owned();
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let (kind, rows) = found.get_mut(&now).unwrap();
            let suffixes: &[&str] = match kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                "summary" => &["_sum", "_count"],
                _ => &[""],
            };
            let suffix = line[..end].strip_prefix(now.as_str());
            assert!(
                suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
                "{now}: {line}"
            );
            rows.push(line.to_owned());
        }
    }
    found
}

#[test]
fn however_many_pieces_the_text_is_one() {
    let few = read(&text(a_snapshot(1)));
    for channels in [31, 32, 33, 100] {
        let snapshot = a_snapshot(channels);
        let pieces: Vec<String> = Pieces::of(snapshot).collect();
        assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
        let longest = pieces.iter().map(String::len).max().unwrap_or(0);
        assert!(longest < 128 * 1_024, "{longest}");
        let many = read(&pieces.concat());
        assert!(few.keys().eq(many.keys()));
        for (name, (kind, rows)) in &many {
            let (kind_before, before) = &few[name];
            assert_eq!(kind, kind_before);
            let of_channels = before[0].contains("channel=");
            let times = if of_channels { channels } else { 1 };
            assert_eq!(rows.len(), before.len() * times, "{name}");
            let different: BTreeSet<&str> = rows
                .iter()
                .filter_map(|row| row.rsplit_once(' '))
                .map(|(row, _)| row)
                .collect();
            assert_eq!(different.len(), rows.len(), "{name}: no series twice");
        }
    }
}

#[test]
fn a_host_without_channels_and_sinks_has_metrics() {
    let mut snapshot = a_snapshot(0);
    snapshot.sinks.clear();
    snapshot.host.process = None;
    let found = read(&text(snapshot));
    assert!(found.contains_key("bulkhead_build_info"));
    assert!(found.values().all(|(_, rows)| !rows.is_empty()));
    assert!(
        !found
            .keys()
            .any(|name| name.starts_with("process_cpu") || name.contains("channel"))
    );
}

#[test]
fn what_stands_in_labels_cannot_break_a_line() {
    let mut snapshot = a_snapshot(1);
    snapshot.channels[0].groups[0].name = "a\"} 7\nb\\".to_owned();
    let text = text(snapshot);
    read(&text);
    assert!(text.contains(r#"driver="C:\\drivers\\mod\"bus\"\n.wasm"} 1"#));
    assert_eq!(
        value(
            &text,
            r#"bulkhead_group_polls_total{channel="press-0",group="a\"} 7\nb\\"}"#
        ),
        "3"
    );
}

#[test]
fn the_answer_for_a_thousand_channels_is_of_the_size_that_is_said() {
    let mut snapshot = a_snapshot(0);
    let one_more = |snapshot: &mut Snapshot| {
        let before: usize = Pieces::of(snapshot.clone()).map(|piece| piece.len()).sum();
        snapshot.channels.push(a_channel("a-channel-with-a-name"));
        let after: usize = Pieces::of(snapshot.clone()).map(|piece| piece.len()).sum();
        after - before
    };
    one_more(&mut snapshot);
    let bytes = one_more(&mut snapshot);
    assert!(
        bytes < 12 * 1_024,
        "{bytes} for a channel with a group and a link"
    );
}

#[test]
fn the_reference_has_every_metric_and_no_other() {
    const REFERENCE: &str = include_str!("../../../docs/METRICS.md");
    let rows = |text: &str| -> Vec<String> {
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        rows.map(str::to_owned).collect()
    };
    let table = markdown();
    let (documented, known) = (rows(REFERENCE), rows(&table));
    let without = |these: &[String], those: &[String]| -> Vec<String> {
        let left = these.iter().filter(|row| !those.contains(row));
        left.cloned().collect()
    };
    let (missing, unknown) = (without(&known, &documented), without(&documented, &known));
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "docs/METRICS.md lacks:\n{}\nand has what the code does not know:\n{}",
        missing.join("\n"),
        unknown.join("\n")
    );
    assert!(
        REFERENCE.contains(&table),
        "its rows stand in another order than they are sent"
    );
    let different: BTreeSet<&String> = documented.iter().collect();
    assert_eq!(
        different.len(),
        documented.len(),
        "a row stands there twice"
    );
}

#[test]
fn what_is_documented_is_what_is_sent() {
    let mut snapshot = a_snapshot(1);
    snapshot.channels[0].links[0].dial_time = Some(Duration::from_millis(1));
    let text = text(snapshot);
    let found = read(&text);
    let known: BTreeMap<&str, &Family> = families().map(|family| (family.name, family)).collect();
    assert_eq!(known.len(), families().count(), "no name is used twice");
    assert!(found.keys().eq(known.keys()), "each has rows here");
    for (name, (kind, rows)) in &found {
        let family = known[name.as_str()];
        assert_eq!(kind, family.kind.as_str());
        for row in rows {
            let labels: Vec<&str> = match row
                .split_once('{')
                .and_then(|(_, rest)| rest.rsplit_once('}'))
            {
                None => Vec::new(),
                Some((labels, _)) => labels
                    .split("\",")
                    .filter_map(|pair| pair.split_once("=\""))
                    .map(|(label, _)| label)
                    .filter(|label| *label != "le")
                    .collect(),
            };
            assert_eq!(labels, family.labels, "{row}");
        }
    }
}

#[test]
fn names_follow_the_rules_of_the_field() {
    for Family {
        name,
        kind,
        labels,
        unit,
        meaning,
        about,
    } in families()
    {
        let lower = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        assert!(
            lower(name) && labels.iter().all(|label| lower(label)),
            "{name}"
        );
        assert!(
            name.starts_with("bulkhead_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        let stem = name.trim_end_matches("_total");
        for base in ["seconds", "bytes"] {
            assert_eq!(stem.ends_with(base), *unit == base, "{name} in {unit}");
        }
        assert!(labels.starts_with(about.labels()), "{name}: {labels:?}");
        assert!(
            meaning.ends_with('.') && !meaning.contains(['|', '\n', '\\']),
            "{name}"
        );
        assert!(
            !labels.contains(&"tag"),
            "{name}: so many series as there are tags"
        );
    }
}
