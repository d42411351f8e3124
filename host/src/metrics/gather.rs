//! From the handles to a snapshot.
//!
//! Read, never written. No lock is held for longer than it takes to copy what is behind it, none over two of these, and the table of tags is
//! counted a piece at a time. Blocks for as long as the kernel takes to tell of the process, so it wants a thread of its own.

use std::time::Duration;

use super::process;
use super::snapshot::{
    ChannelNow, GroupNow, HostNow, LinkNow, OutboxNow, RequestsNow, SinkNow, Snapshot, Timing,
};
use crate::channel::{LinkStatus, Punctuality};
use crate::config;
use crate::event::{GapReason, MonotonicNs, Quality};
use crate::exit::ExitKind;
use crate::history::{Latencies, Statistics};
use crate::link::Journal;
use crate::sink::SinkStatus;
use crate::supervisor::{Answers, ChannelHandle, Channels, Host};

/// What there is to say of the host, of these channels and of these sinks, now.
pub fn gather(host: &Host, channels: &Channels, sinks: Vec<SinkStatus>) -> Snapshot {
    let now = host.clock().monotonic();
    let (published, readers) = (host.bus().published(), host.bus().readers());
    Snapshot {
        host: HostNow {
            version: env!("CARGO_PKG_VERSION"),
            started_at: host.started_at(),
            uptime: Duration::from_nanos(now.0),
            process: process::now(),
            bus_messages: published.messages,
            bus_samples: published.samples,
            streams: readers.open,
            streams_missed_messages: readers.missed_messages,
            streams_missed_samples: readers.missed_samples,
        },
        channels: channels.iter().map(|handle| channel(handle, now)).collect(),
        sinks: sinks.into_iter().map(sink).collect(),
    }
}

fn channel(handle: &ChannelHandle, now: MonotonicNs) -> ChannelNow {
    let status = handle.status();
    let config = handle.config();
    let (statistics, began) = (handle.statistics(), handle.began());
    let (mailbox_length, mailbox_room) = handle.mailbox();
    let condition = |wanted: &'static str| {
        let such = |device: &&crate::channel::DeviceStatus| device.condition == wanted;
        (wanted, status.devices.iter().filter(such).count() as u64)
    };
    let groups = config.groups.iter().zip(handle.punctuality());
    let links = handle.journals().iter().zip(&status.links);
    ChannelNow {
        id: handle.id().to_string(),
        driver: config.driver.to_string(),
        state: status.state,
        qualities: qualities(&handle.tags().count_by_quality()),
        devices: ["up", "down", "unknown"].map(condition).into(),
        events: status.counters.events,
        actions: status.counters.actions,
        samples: status.counters.samples,
        waited: status.counters.waited,
        late_answers: status.counters.late_answers,
        kept_away: status.counters.kept_away,
        attempts: status.attempts,
        starts: statistics.lives.saturating_sub(began.lives),
        ends: ends(&statistics, began),
        running: statistics.running.saturating_sub(began.running),
        fuel: statistics.fuel.saturating_sub(began.fuel),
        fuel_last: status.counters.fuel_last,
        peak_memory: status.counters.peak_memory,
        turns: Timing {
            latencies: since(&statistics.latencies, &began.latencies),
            total: handle.turn_time(),
        },
        mailbox_length,
        mailbox_room,
        waiting: handle.waiting(),
        commands: handle.commands_under_way().len(),
        dead_letters: handle.dead_letters().len(),
        stuck: handle.late(now).unwrap_or_default(),
        requests: handle.answers().into_iter().map(requests).collect(),
        groups: groups.map(|(config, now)| group(config, now)).collect(),
        links: links
            .map(|(journal, status)| link(journal, status))
            .collect(),
    }
}

/// Those that some tag has, and `good`.
fn qualities(counts: &[u64]) -> Vec<(Quality, u64)> {
    let all = Quality::ALL.iter().zip(counts);
    all.filter(|(quality, count)| **count > 0 || **quality == Quality::Good)
        .map(|(quality, count)| (*quality, *count))
        .collect()
}

fn ends(now: &Statistics, began: &Statistics) -> Vec<(&'static str, u64)> {
    let count = |of: &Statistics, kind: &str| of.exits.get(kind).copied().unwrap_or(0);
    let since = |kind: &ExitKind| {
        let name = kind.as_str();
        (name, count(now, name).saturating_sub(count(began, name)))
    };
    ExitKind::ALL.iter().map(since).collect()
}

fn since(now: &Latencies, began: &Latencies) -> Latencies {
    let mut since = *now;
    for (count, before) in since.0.iter_mut().zip(&began.0) {
        *count = count.saturating_sub(*before);
    }
    since
}

fn requests(answers: Answers) -> RequestsNow {
    RequestsNow {
        kind: answers.kind,
        done: answers.done(),
        outcomes: answers.outcomes.into(),
        took: answers.took,
    }
}

fn group(config: &config::Group, now: Punctuality) -> GroupNow {
    GroupNow {
        name: config.name.clone(),
        period: config.period,
        polls: now.polls,
        skipped: now.skipped,
        requests: now.requests,
        failed: now.failed,
        deviation: Timing {
            latencies: now.deviation,
            total: now.deviation_total,
        },
        deviation_most: now.deviation_most,
        took: Timing {
            latencies: now.took,
            total: now.took_total,
        },
        round_trip: now.round_trip,
    }
}

fn link(journal: &Journal, status: &LinkStatus) -> LinkNow {
    let report = journal.report();
    let (now, began) = (report.statistics, journal.began());
    LinkNow {
        name: status.name.clone(),
        up: status.up,
        state: report.state,
        dials: now.dials.saturating_sub(began.dials),
        failed_dials: now.failed_dials.saturating_sub(began.failed_dials),
        streams: now.streams.saturating_sub(began.streams),
        up_time: now.up.saturating_sub(began.up),
        bytes_in: now.bytes_in.saturating_sub(began.bytes_in),
        bytes_out: now.bytes_out.saturating_sub(began.bytes_out),
        dial_time: now.dial_time,
        probes_sent: now.probes.sent.saturating_sub(began.probes.sent),
        probes_answered: now.probes.answered.saturating_sub(began.probes.answered),
        round_trip: now.probes.round_trip,
    }
}

fn sink(status: SinkStatus) -> SinkNow {
    SinkNow {
        name: status.name,
        kind: status.kind,
        written: status.written,
        refused: status.refused,
        missed_messages: status.missed.messages,
        missed_samples: status.missed.samples,
        in_trouble: status.trouble.is_some(),
        lag_samples: status.lag_samples,
        lag: status.lag,
        deliveries: status.deliveries,
        delivery_time: status.delivery_time,
        outbox: status.outbox.map(|outbox| OutboxNow {
            samples: outbox.counts.samples,
            bytes: outbox.counts.bytes,
            oldest: outbox.oldest,
            accepted: outbox.counts.accepted,
            delivered: outbox.counts.delivered,
            dropped: GapReason::ALL
                .iter()
                .zip(outbox.counts.dropped)
                .map(|(reason, count)| (reason.as_str(), count))
                .collect(),
            commits: outbox.commits,
            commit_time: outbox.commit_time,
            accepting: outbox.accepting,
        }),
    }
}
