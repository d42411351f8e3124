//! What channels have gone through: their histories and statistics.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::{ApiError, App, wire};
use crate::history::{self, Latencies, Past, Statistics, What, bucket_limit};
use crate::sink::Time;

pub(super) async fn history(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<wire::History>, ApiError> {
    let channel = app.channel(&name)?;
    let (history, durable) = channel.history().await.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "store-failed",
            error.to_string(),
            "check the disk under data_dir",
        )
    })?;
    let history::History {
        events,
        dropped,
        unreadable,
    } = history;
    Ok(Json(wire::History {
        channel: channel.id().to_string(),
        events: events.into_iter().map(past).collect(),
        dropped,
        unreadable,
        durable,
    }))
}

fn past(past: Past) -> wire::Past {
    wire::Past {
        number: past.number,
        at: Time(past.at).to_string(),
        at_ns: past.at.0,
        incarnation: past.incarnation,
        what: match past.what {
            What::State { from, to, cause } => wire::PastWhat::State {
                from,
                state: to,
                reason: cause,
            },
            What::Exit {
                kind,
                during,
                sentence,
            } => wire::PastWhat::Exit {
                exit: kind,
                during,
                message: sentence,
            },
            What::Warning { sentence } => wire::PastWhat::Warning { message: sentence },
        },
    }
}

pub(super) fn statistics(statistics: &Statistics, fuel_last_turn: u64) -> wire::Statistics {
    wire::Statistics {
        since: Time(statistics.since).to_string(),
        since_ns: statistics.since.0,
        lives: statistics.lives,
        exits: statistics.exits.clone(),
        running_ms: u64::try_from(statistics.running.as_millis()).unwrap_or(u64::MAX),
        fuel: statistics.fuel,
        fuel_last_turn,
        fuel_max_turn: statistics.fuel_max_turn,
        peak_memory_bytes: statistics.peak_memory,
        turn_latency: latency(&statistics.latencies),
    }
}

fn latency(latencies: &Latencies) -> wire::Latency {
    let nanos = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let quantile = |share| latencies.quantile(share).map(nanos);
    let buckets = latencies.0.iter().enumerate();
    wire::Latency {
        turns: latencies.count(),
        p50_ns: quantile(0.5),
        p99_ns: quantile(0.99),
        p999_ns: quantile(0.999),
        buckets: buckets
            .filter(|(_, turns)| **turns > 0)
            .map(|(bucket, turns)| wire::Bucket {
                below_ns: bucket_limit(bucket).map(nanos),
                turns: *turns,
            })
            .collect(),
    }
}
