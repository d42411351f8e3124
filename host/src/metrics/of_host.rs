//! The metrics of the host as a whole: its process, its bus.

use super::family::{About, Family, Kind, Rows};
use super::snapshot::{HostNow, ProcessNow};

const fn of(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&HostNow, &mut Rows<'_>),
) -> Family {
    Family {
        name,
        kind,
        labels: &[],
        unit,
        meaning,
        about: About::Host(read),
    }
}

fn process<T>(host: &HostNow, read: impl Fn(&ProcessNow) -> T) -> Option<T> {
    host.process.as_ref().map(read)
}

pub(super) const OF_HOST: &[Family] = &[
    Family {
        name: "bulkhead_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        unit: "1",
        meaning: "Always 1; the label says which version of the host runs.",
        about: About::Host(|host, rows| rows.labelled(&[host.version], 1u32)),
    },
    of(
        "bulkhead_uptime_seconds",
        Kind::Gauge,
        "seconds",
        "How long the host has been running, on a clock that never jumps.",
        |host, rows| rows.value(host.uptime),
    ),
    of(
        "process_start_time_seconds",
        Kind::Gauge,
        "seconds",
        "When the host started, in seconds since 1970.",
        |host, rows| rows.value(std::time::Duration::from_nanos(host.started_at.0)),
    ),
    of(
        "process_cpu_seconds_total",
        Kind::Counter,
        "seconds",
        "Processor time that the host has used, of all its threads.",
        |host, rows| rows.value_of(process(host, |process| process.processor)),
    ),
    of(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "bytes",
        "Memory of the host that is in use now.",
        |host, rows| rows.value_of(process(host, |process| process.resident_bytes)),
    ),
    of(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "bytes",
        "Address space that the host has reserved; most of it is room for drivers and costs nothing.",
        |host, rows| rows.value_of(process(host, |process| process.virtual_bytes)),
    ),
    of(
        "process_open_fds",
        Kind::Gauge,
        "files",
        "Files and sockets that the host has open.",
        |host, rows| rows.value_of(process(host, |process| process.open_files)),
    ),
    of(
        "bulkhead_bus_messages_total",
        Kind::Counter,
        "messages",
        "Batches and events that channels have published.",
        |host, rows| rows.value(host.bus_messages),
    ),
    of(
        "bulkhead_bus_samples_total",
        Kind::Counter,
        "samples",
        "Samples in those batches: what the tags' rules let through.",
        |host, rows| rows.value(host.bus_samples),
    ),
    of(
        "bulkhead_streams_open",
        Kind::Gauge,
        "streams",
        "Readers of `GET /api/v1/stream`.",
        |host, rows| rows.value(host.streams),
    ),
    of(
        "bulkhead_streams_missed_messages_total",
        Kind::Counter,
        "messages",
        "Batches and events that such readers missed, since they were too slow or came back too late.",
        |host, rows| rows.value(host.streams_missed_messages),
    ),
    of(
        "bulkhead_streams_missed_samples_total",
        Kind::Counter,
        "samples",
        "Samples in those, as far as they are known.",
        |host, rows| rows.value(host.streams_missed_samples),
    ),
];
