//! `GET /status`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;

use super::{App, wire};
use crate::sink::Time;

pub(super) async fn show(State(app): State<App>) -> Json<wire::Status> {
    let host = app.host();
    let mut channels = BTreeMap::new();
    let mut tags = wire::TagCounts::default();
    for channel in app.channels() {
        *channels
            .entry(channel.status().state.to_string())
            .or_default() += 1;
        let (good, total) = channel.tags().count_good();
        tags.good += good;
        tags.total += total;
    }
    let started_at = host.started_at();
    let sinks = app
        .inner
        .sinks
        .statuses()
        .into_iter()
        .map(|sink| wire::Sink {
            name: sink.name,
            kind: sink.kind.to_owned(),
            written_samples: sink.written,
            rate_per_s: sink.rate,
            lag_samples: sink.lag_samples,
            lag_ms: u64::try_from(sink.lag.as_millis()).unwrap_or(u64::MAX),
            refused_samples: sink.refused,
            outbox: sink.outbox.is_some(),
            connection: sink.connection.map(|connection| wire::SinkConnection {
                connected: connection.connected,
                connections: connection.connections,
                messages: connection.messages,
                acknowledged: connection.acknowledged,
                duplicates: connection.duplicates,
                last_error: connection.last_error,
            }),
            dropped_messages: sink.missed.messages,
            dropped_samples: sink.missed.samples,
            trouble: sink.trouble,
        });
    let readers = host.bus().readers();
    Json(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: Time(started_at).to_string(),
        started_at_ns: started_at.0,
        uptime_ms: host.clock().monotonic().0 / 1_000_000,
        channels,
        tags,
        sinks: sinks.collect(),
        streams: wire::Streams {
            open: readers.open,
            missed_messages: readers.missed_messages,
            missed_samples: readers.missed_samples,
        },
    })
}
