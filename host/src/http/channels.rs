//! Channels: list, show, start, stop, restart, reset.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};

use super::filter::Parameters;
use super::{ApiError, App, devices, past, wire};
use crate::channel::{ChannelStatus, Counters, Punctuality};
use crate::exit::Exit;
use crate::history::{Latencies, bucket_limit};
use crate::ids::InstanceId;
use crate::lifecycle::Denied;
use crate::sink::Time;
use crate::supervisor::ChannelHandle;

/// Channels on one page.
const MAX_PAGE: usize = 1_000;

pub(super) async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::ChannelPage>, ApiError> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "cursor"])?;
    let limit = parameters.number("limit", MAX_PAGE, 1..=MAX_PAGE)?;
    let channels = app.channels();
    let from = app.page_begins(&parameters)?.channel.min(channels.len());
    let page = &channels[from..channels.len().min(from + limit)];
    let next = from + page.len();
    Ok(Json(wire::ChannelPage {
        channels: page
            .iter()
            .map(|channel| summary(channel, channel.status()))
            .collect(),
        next_cursor: (next < channels.len()).then(|| app.next_cursor(next, 0)),
    }))
}

pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<wire::ChannelDetail>, ApiError> {
    Ok(Json(detail(app.channel(&name)?)))
}

pub(super) async fn start(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<wire::ChannelDetail>, ApiError> {
    let channel = app.channel(&name)?;
    answered(channel, channel.start().await)
}

pub(super) async fn stop(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<wire::ChannelDetail>, ApiError> {
    let channel = app.channel(&name)?;
    answered(channel, channel.stop().await)
}

pub(super) async fn restart(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<wire::ChannelDetail>, ApiError> {
    let channel = app.channel(&name)?;
    answered(channel, channel.restart().await)
}

pub(super) async fn reset(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<wire::ChannelDetail>, ApiError> {
    let channel = app.channel(&name)?;
    answered(channel, channel.reset().await)
}

fn answered(
    channel: &ChannelHandle,
    step: Result<(), Denied>,
) -> Result<Json<wire::ChannelDetail>, ApiError> {
    match step {
        Ok(()) => Ok(Json(detail(channel))),
        Err(denied) => Err(ApiError::denied(channel.id().as_str(), &denied)),
    }
}

impl App {
    pub(super) fn channel(&self, name: &str) -> Result<&ChannelHandle, ApiError> {
        let shown: String = name.chars().take(100).collect();
        self.channels()
            .named(name)
            .map(|channel| &**channel)
            .ok_or_else(|| ApiError::no_such_channel(&shown))
    }
}

fn summary(channel: &ChannelHandle, status: ChannelStatus) -> wire::Channel {
    let (good, total) = channel.tags().count_good();
    let config = channel.config();
    let links = status
        .links
        .into_iter()
        .zip(&config.links)
        .map(|(link, config)| wire::Link {
            name: link.name,
            connect: config.connect.to_string(),
            up: link.up,
            wanted: link.wanted,
            detail: link.detail,
        });
    wire::Channel {
        id: channel.id().to_string(),
        driver: config.driver.to_string(),
        state: status.state.to_string(),
        reason: status.reason,
        since: Time(status.since).to_string(),
        since_ns: status.since.0,
        incarnation: status.incarnation,
        attempts: status.attempts,
        next_attempt: status.next_attempt.map(|at| Time(at).to_string()),
        next_attempt_ns: status.next_attempt.map(|at| at.0),
        tags: wire::TagCounts { good, total },
        links: links.collect(),
        waiting: channel.waiting(),
    }
}

fn detail(channel: &ChannelHandle) -> wire::ChannelDetail {
    let mut status = channel.status();
    let config = channel.config();
    let known = std::mem::take(&mut status.devices)
        .into_iter()
        .zip(&config.devices);
    let last_exit = status
        .last_exit
        .take()
        .map(|(at, incarnation, exit)| wire::LastExit {
            at: Time(at).to_string(),
            at_ns: at.0,
            incarnation,
            exit: wire_exit(
                &exit,
                &InstanceId {
                    channel: channel.id().clone(),
                    incarnation,
                },
            ),
        });
    wire::ChannelDetail {
        statistics: past::statistics(&channel.statistics(), status.counters.fuel_last),
        counters: counters(&status.counters),
        last_exit,
        devices: known
            .map(|(device, config)| devices::shown(device, config))
            .collect(),
        groups: config
            .groups
            .iter()
            .zip(channel.punctuality())
            .map(|(group, punctuality)| wire::Group {
                name: group.name.clone(),
                period_ms: u64::try_from(group.period.as_millis()).unwrap_or(u64::MAX),
                tags: group.tags.len(),
                punctuality: wire_punctuality(&punctuality),
            })
            .collect(),
        channel: summary(channel, status),
    }
}

fn wire_punctuality(punctuality: &Punctuality) -> wire::Punctuality {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let quantile = |of: &Latencies, share| of.quantile(share).map(nanos);
    let Punctuality {
        polls,
        skipped,
        requests,
        failed,
        deviation,
        deviation_most,
        took,
        round_trip,
        // Only where rates are made of it: in metrics.
        deviation_total: _,
        took_total: _,
    } = punctuality;
    wire::Punctuality {
        polls: *polls,
        skipped: *skipped,
        requests: *requests,
        failed: *failed,
        deviation_p50_ns: quantile(deviation, 0.5),
        deviation_p99_ns: quantile(deviation, 0.99),
        deviation_most_ns: nanos(*deviation_most),
        deviations: (deviation.0.iter().enumerate())
            .filter(|(_, polls)| **polls > 0)
            .map(|(bucket, polls)| wire::Deviations {
                below_ns: bucket_limit(bucket).map(nanos),
                polls: *polls,
            })
            .collect(),
        took_p50_ns: quantile(took, 0.5),
        took_p99_ns: quantile(took, 0.99),
        round_trip_ns: nanos(*round_trip),
    }
}

fn counters(counters: &Counters) -> BTreeMap<String, u64> {
    // Taken apart, so that a new counter is not forgotten here.
    let Counters {
        turns,
        events,
        actions,
        samples,
        polls,
        poll_requests,
        poll_failures,
        polls_skipped,
        requests,
        waited,
        late_answers,
        kept_away,
        faults,
        bytes_in,
        bytes_out,
        fuel_last,
        peak_memory,
    } = *counters;
    let all = [
        ("turns", turns),
        ("events", events),
        ("actions", actions),
        ("samples", samples),
        ("polls", polls),
        ("poll_requests", poll_requests),
        ("poll_failures", poll_failures),
        ("polls_skipped", polls_skipped),
        ("requests", requests),
        ("waited", waited),
        ("late_answers", late_answers),
        ("kept_away", kept_away),
        ("faults", faults),
        ("bytes_in", bytes_in),
        ("bytes_out", bytes_out),
        ("fuel_last_turn", fuel_last),
        ("peak_memory_bytes", peak_memory),
    ];
    all.into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// The end of a life as JSON.
pub(super) fn wire_exit(exit: &Exit, instance: &InstanceId) -> wire::Exit {
    wire::Exit {
        instance: instance.to_string(),
        exit: exit.kind.to_string(),
        during: exit.during.as_str().to_owned(),
        message: exit.sentence.clone(),
        remedy: exit.kind.remedy().to_owned(),
        fuel: exit.fuel,
        bundle: exit.bundle.as_ref().map(|path| path.display().to_string()),
        backtrace: exit
            .backtrace
            .iter()
            .map(|frame| wire::Frame {
                function: frame.function.clone(),
                source: frame.source.clone(),
            })
            .collect(),
        events: exit
            .events
            .iter()
            .map(|told| wire::Told {
                event: told.kind.to_owned(),
                target: told.target.clone(),
            })
            .collect(),
        events_left_out: exit.events_left_out,
    }
}
