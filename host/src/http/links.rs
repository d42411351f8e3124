//! Links: list, show, events, test, reconnect.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;

use super::filter::Parameters;
use super::{ApiError, App, wire};
use crate::clock::Clock;
use crate::event::{MonotonicNs, WallNs};
use crate::link::{Journal, LinkReport, LinkState};
use crate::sink::Time;
use crate::supervisor::ChannelHandle;

/// Links on one page.
const MAX_PAGE: usize = 1_000;

pub(super) async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::LinkPage>, ApiError> {
    let parameters = Parameters::read(query.as_deref(), &["channel", "limit", "cursor"])?;
    let limit = parameters.number("limit", MAX_PAGE, 1..=MAX_PAGE)?;
    let wanted = parameters.list("channel")?;
    for name in &wanted {
        app.channel(name)?;
    }
    let handles = app.channels();
    let begins = app.page_begins(&parameters)?;
    let mut skip = begins.item;
    let mut links: Vec<wire::LinkSummary> = Vec::new();
    for (place, channel) in handles.iter().enumerate().skip(begins.channel) {
        let skipped = std::mem::take(&mut skip);
        if !wanted.is_empty() && !wanted.contains(&channel.id().as_str()) {
            continue;
        }
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        for (item, journal) in (0u64..).zip(channel.journals().iter()).skip(skipped) {
            if links.len() == limit {
                let next_cursor = Some(app.next_cursor(place, item));
                return Ok(Json(wire::LinkPage { links, next_cursor }));
            }
            links.push(summary(&app, channel, journal, &journal.report()));
        }
    }
    Ok(Json(wire::LinkPage {
        links,
        next_cursor: None,
    }))
}

pub(super) async fn show(
    State(app): State<App>,
    Path((channel, link)): Path<(String, String)>,
) -> Result<Json<wire::LinkDetail>, ApiError> {
    let journal = app.link(&channel, &link)?;
    let report = journal.report();
    let moment = Moment::now(app.host().clock());
    let config = journal.link();
    let connections = report.connections.iter().map(|connection| {
        let since = moment.date(connection.since);
        wire::LinkConnection {
            connection: connection.id.0,
            state: connection.state.kind().to_string(),
            since: Time(since).to_string(),
            since_ns: since.0,
            peer: peer(&connection.state),
            reason: reason(&connection.state),
        }
    });
    let statistics = &report.statistics;
    let probes = &statistics.probes;
    let heard = report.heard.map(|at| moment.date(at));
    Ok(Json(wire::LinkDetail {
        link: summary(&app, app.channel(&channel)?, journal, &report),
        connections: connections.collect(),
        policy: wire::LinkPolicy {
            connect_timeout_ms: ms(config.connect_timeout),
            base_delay_ms: ms(config.redial.delays.base),
            max_delay_ms: ms(config.redial.delays.max),
            steady_after_ms: ms(config.redial.steady_after),
            heartbeat_interval_ms: ms(config.heartbeat.interval),
            lost_after_ms: ms(config.heartbeat.lost_after),
        },
        statistics: wire::LinkStatistics {
            since: Time(statistics.since).to_string(),
            since_ns: statistics.since.0,
            dials: statistics.dials,
            failed_dials: statistics.failed_dials,
            streams: statistics.streams,
            up_ms: ms(statistics.up),
            bytes_in: statistics.bytes_in,
            bytes_out: statistics.bytes_out,
            heard: heard.map(|at| Time(at).to_string()),
            heard_ns: heard.map(|at| at.0),
            dial_ns: statistics.dial_time.map(ns),
            probes_sent: probes.sent,
            probes_answered: probes.answered,
            round_trip_ns: probes.round_trip.map(ns),
            round_trip_mean_ns: probes.mean.map(ns),
            healthy: report.healthy,
        },
    }))
}

pub(super) async fn events(
    State(app): State<App>,
    Path((channel, link)): Path<(String, String)>,
) -> Result<Json<wire::LinkHistory>, ApiError> {
    let journal = app.link(&channel, &link)?;
    let history = app.channel(&channel)?.link_history(journal).await;
    let (history, durable) = history.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "store-failed",
            error.to_string(),
            "check the disk under data_dir",
        )
    })?;
    let events = history.events.into_iter().map(|past| wire::LinkPast {
        number: past.number,
        at: Time(past.at).to_string(),
        at_ns: past.at.0,
        incarnation: past.incarnation,
        connection: past.connection,
        event: past.kind.as_str().to_owned(),
        cause: past.cause,
        left_out: past.left_out,
    });
    Ok(Json(wire::LinkHistory {
        channel,
        link,
        events: events.collect(),
        dropped: history.dropped,
        unreadable: history.unreadable,
        left_out: journal.report().left_out,
        durable,
    }))
}

pub(super) async fn test(
    State(app): State<App>,
    Path((channel, link)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<wire::LinkTest>, ApiError> {
    let request: wire::LinkTestRequest = match body.is_empty() {
        true => wire::LinkTestRequest::default(),
        false => serde_json::from_slice(&body).map_err(|error| {
            ApiError::bad_request(
                format!("the body is not understood: {error}"),
                "write {} or {\"dial\":true}",
            )
        })?,
    };
    let journal = app.link(&channel, &link)?;
    let trial = crate::link::test(app.channel(&channel)?.id(), journal, request.dial).await;
    let steps = trial.steps.iter().map(|step| {
        let (ok, sentence) = match &step.outcome {
            Ok(found) => (true, found),
            Err(wrong) => (false, wrong),
        };
        let (message, remedy) = match sentence.split_once("; ") {
            Some((message, remedy)) if !ok => (message, Some(remedy)),
            _ => (sentence.as_str(), None),
        };
        wire::LinkTestStep {
            step: step.name.to_owned(),
            ok,
            message: message.to_owned(),
            remedy: remedy.map(str::to_owned),
            took_ns: ns(step.took),
        }
    });
    Ok(Json(wire::LinkTest {
        ok: trial.is_good(),
        dialled: trial.dialled,
        steps: steps.collect(),
        channel,
        link,
    }))
}

pub(super) async fn reconnect(
    State(app): State<App>,
    Path((channel, link)): Path<(String, String)>,
) -> Result<Json<wire::LinkReconnect>, ApiError> {
    let connections = app.link(&channel, &link)?.reconnect();
    if connections == 0 {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "not-opened",
            format!(
                "no connection over link {link} of channel {channel} is open: its driver wants none"
            ),
            "start the channel, whose driver opens it, or look at why it does not",
        ));
    }
    tracing::info!(channel, link, connections, "an operator asked for a redial");
    Ok(Json(wire::LinkReconnect {
        channel,
        link,
        connections,
    }))
}

impl App {
    fn link(&self, channel: &str, link: &str) -> Result<&Arc<Journal>, ApiError> {
        let handle = self.channel(channel)?;
        let found = handle
            .journals()
            .iter()
            .find(|journal| journal.name() == link);
        found.ok_or_else(|| {
            let shown: String = link.chars().take(100).collect();
            ApiError::new(
                StatusCode::NOT_FOUND,
                "no-such-link",
                format!("channel {channel} has no link {shown}"),
                "`bulkhead link list` or GET /api/v1/links shows those there are",
            )
        })
    }
}

fn summary(
    app: &App,
    channel: &ChannelHandle,
    journal: &Journal,
    report: &LinkReport,
) -> wire::LinkSummary {
    let moment = Moment::now(app.host().clock());
    let config = journal.link();
    let worst = report
        .connections
        .iter()
        .find(|connection| connection.state.kind() == report.state);
    let since = worst.map(|connection| moment.date(connection.since));
    let (attempts, next) = match worst.map(|connection| &connection.state) {
        Some(LinkState::Reconnecting { attempt, until, .. }) => {
            (*attempt, Some(moment.date(*until)))
        }
        Some(LinkState::Failed { .. }) => (config.redial.max_attempts.unwrap_or(0), None),
        _ => (0, None),
    };
    wire::LinkSummary {
        channel: channel.id().to_string(),
        link: config.name.clone(),
        connect: config.connect.to_string(),
        state: report.state.to_string(),
        reason: worst.and_then(|connection| reason(&connection.state)),
        peer: worst.and_then(|connection| peer(&connection.state)),
        since: since.map(|at| Time(at).to_string()),
        since_ns: since.map(|at| at.0),
        attempts,
        max_attempts: config.redial.max_attempts,
        next_attempt: next.map(|at| Time(at).to_string()),
        next_attempt_ns: next.map(|at| at.0),
    }
}

fn reason(state: &LinkState) -> Option<String> {
    state.reason().map(|reason| reason.sentence().to_owned())
}

fn peer(state: &LinkState) -> Option<String> {
    match state {
        LinkState::Connected { peer, .. } => Some(peer.clone()),
        _ => None,
    }
}

/// Both clocks at one moment, to date what was measured.
struct Moment {
    wall: WallNs,
    monotonic: MonotonicNs,
}

impl Moment {
    fn now(clock: Clock) -> Self {
        Self {
            wall: clock.wall(),
            monotonic: clock.monotonic(),
        }
    }

    fn date(&self, at: MonotonicNs) -> WallNs {
        match at >= self.monotonic {
            true => WallNs(self.wall.0.saturating_add(at.0 - self.monotonic.0)),
            false => WallNs(self.wall.0.saturating_sub(self.monotonic.0 - at.0)),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
