//! The metrics of sinks, and of the outboxes before them.

use super::family::{About, Family, Kind, Rows};
use super::snapshot::{OutboxNow, SinkNow};

const fn sink(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&SinkNow, &mut Rows<'_>),
) -> Family {
    let about = About::Sink(read);
    Family {
        name,
        kind,
        labels: about.labels(),
        unit,
        meaning,
        about,
    }
}

/// With further labels.
const fn labelled(family: Family, labels: &'static [&'static str]) -> Family {
    Family { labels, ..family }
}

fn outbox<T>(sink: &SinkNow, read: impl Fn(&OutboxNow) -> T) -> Option<T> {
    sink.outbox.as_ref().map(read)
}

pub(super) const OF_SINKS: &[Family] = &[
    labelled(
        sink(
            "bulkhead_sink_info",
            Kind::Gauge,
            "1",
            "Always 1; the label says what kind of sink it is.",
            |now, rows| rows.labelled(&[now.kind], 1u32),
        ),
        &["sink", "kind"],
    ),
    sink(
        "bulkhead_sink_failing",
        Kind::Gauge,
        "0 or 1",
        "1 while the sink cannot deliver; `bulkhead status` says why.",
        |now, rows| rows.value(now.in_trouble),
    ),
    sink(
        "bulkhead_sink_written_samples_total",
        Kind::Counter,
        "samples",
        "Samples that were delivered: the other side has said so, where it says anything.",
        |now, rows| rows.value(now.written),
    ),
    sink(
        "bulkhead_sink_refused_samples_total",
        Kind::Counter,
        "samples",
        "Samples that the other side will never take, and that were set aside.",
        |now, rows| rows.value(now.refused),
    ),
    sink(
        "bulkhead_sink_missed_messages_total",
        Kind::Counter,
        "messages",
        "Batches and events that found the sink's queue full, and were dropped.",
        |now, rows| rows.value(now.missed_messages),
    ),
    sink(
        "bulkhead_sink_missed_samples_total",
        Kind::Counter,
        "samples",
        "Samples in those.",
        |now, rows| rows.value(now.missed_samples),
    ),
    sink(
        "bulkhead_sink_lag_samples",
        Kind::Gauge,
        "samples",
        "Samples that wait to be delivered.",
        |now, rows| rows.value(now.lag_samples),
    ),
    sink(
        "bulkhead_sink_lag_seconds",
        Kind::Gauge,
        "seconds",
        "The age of the oldest of them; 0 where none waits.",
        |now, rows| rows.value(now.lag),
    ),
    sink(
        "bulkhead_sink_delivery_duration_seconds",
        Kind::Summary,
        "seconds",
        "How long deliveries took, until the other side had them.",
        |now, rows| rows.summary(&[], now.deliveries, now.delivery_time),
    ),
    sink(
        "bulkhead_outbox_samples",
        Kind::Gauge,
        "samples",
        "Samples that wait in the outbox before the sink. Sinks without an outbox are left out, here and below.",
        |now, rows| rows.value_of(outbox(now, |outbox| outbox.samples)),
    ),
    sink(
        "bulkhead_outbox_size_bytes",
        Kind::Gauge,
        "bytes",
        "What they take.",
        |now, rows| rows.value_of(outbox(now, |outbox| outbox.bytes)),
    ),
    sink(
        "bulkhead_outbox_oldest_seconds",
        Kind::Gauge,
        "seconds",
        "The age of the oldest of them; 0 where none waits.",
        |now, rows| rows.value_of(outbox(now, |outbox| outbox.oldest)),
    ),
    sink(
        "bulkhead_outbox_accepting",
        Kind::Gauge,
        "0 or 1",
        "0 while nothing is accepted: the disk is full, or the outbox is and blocks.",
        |now, rows| rows.value_of(outbox(now, |outbox| outbox.accepting)),
    ),
    sink(
        "bulkhead_outbox_accepted_samples_total",
        Kind::Counter,
        "samples",
        "Samples that were accepted since the outbox was made: they will be delivered, whatever becomes of the host.",
        |now, rows| rows.value_of(outbox(now, |outbox| outbox.accepted)),
    ),
    sink(
        "bulkhead_outbox_delivered_samples_total",
        Kind::Counter,
        "samples",
        "Those of them that the other side has acknowledged.",
        |now, rows| rows.value_of(outbox(now, |outbox| outbox.delivered)),
    ),
    labelled(
        sink(
            "bulkhead_outbox_dropped_samples_total",
            Kind::Counter,
            "samples",
            "Samples that will not be delivered, since the outbox was made: they came too fast (`slow`), grew too old (`age`), found no room \
             (`bytes`), were taken out by somebody (`purged`), cannot be read any more (`damaged`), or the other side will never take them \
             (`refused`).",
            |now, rows| {
                for (reason, count) in now.outbox.iter().flat_map(|outbox| &outbox.dropped) {
                    rows.labelled(&[reason], *count);
                }
            },
        ),
        &["sink", "reason"],
    ),
    sink(
        "bulkhead_outbox_commit_duration_seconds",
        Kind::Summary,
        "seconds",
        "How long the commits took in which samples were accepted.",
        |now, rows| {
            if let Some(outbox) = &now.outbox {
                rows.summary(&[], outbox.commits, outbox.commit_time);
            }
        },
    ),
];
