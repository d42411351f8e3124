//! Tags: list, show, read.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use futures_util::future::join_all;

use super::filter::{Parameters, tag_filter};
use super::{ApiError, App, wire};
use crate::channel::RequestError;
use crate::config::{self, Access, Part};
use crate::event::{Sample, Value, WallNs};
use crate::ids::TagId;
use crate::sink::{JsonValue, Time};
use crate::supervisor::ChannelHandle;
use crate::tags::TagState;

/// Tags on one page.
const MAX_PAGE: usize = 10_000;
const DEFAULT_PAGE: usize = 1_000;
/// Tags that may be read with one request.
const MAX_READ: usize = 1_000;
const DEFAULT_TIMEOUT_MS: u64 = 5_000;
const MAX_TIMEOUT_MS: u64 = 300_000;

pub(super) async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::TagPage>, ApiError> {
    let parameters = Parameters::read(
        query.as_deref(),
        &["channel", "group", "tag", "limit", "cursor"],
    )?;
    let limit = parameters.number("limit", DEFAULT_PAGE, 1..=MAX_PAGE)?;
    let (filter, named) = tag_filter(&parameters)?;
    for name in named {
        app.channel(name)?;
    }
    let channels = app.channels();
    let begins = app.page_begins(&parameters)?;
    let mut from = usize::try_from(begins.item).unwrap_or(usize::MAX);
    let mut tags: Vec<wire::Tag> = Vec::new();
    for (place, channel) in channels.iter().enumerate().skip(begins.channel) {
        let skip = std::mem::take(&mut from);
        if !filter.admits_channel(channel.id().as_str()) {
            continue;
        }
        let layout = channel.layout();
        let groups = filter.groups_of(layout);
        for (id, config) in (0u32..).zip(channel.tags().tags().iter()).skip(skip) {
            if !filter.means(layout, groups.as_deref(), TagId(id)) {
                continue;
            }
            if tags.len() == limit {
                let next_cursor = Some(app.next_cursor(place, id.into()));
                return Ok(Json(wire::TagPage { tags, next_cursor }));
            }
            tags.extend(summary(channel, TagId(id), config));
        }
    }
    Ok(Json(wire::TagPage {
        tags,
        next_cursor: None,
    }))
}

pub(super) async fn show(
    State(app): State<App>,
    Path((channel, tag)): Path<(String, String)>,
) -> Result<Json<wire::TagDetail>, ApiError> {
    let (channel, id, config) = app.tag(&channel, &tag)?;
    let gone = || ApiError::no_such_tag(channel.id().as_str(), &config.name);
    let summary = summary(channel, id, config).ok_or_else(gone)?;
    let group = channel
        .config()
        .groups
        .iter()
        .find(|group| group.tags.contains(&id));
    let treatment = &*config.treatment;
    Ok(Json(wire::TagDetail {
        tag: summary,
        address: config.address.to_string(),
        description: config.description.to_string(),
        group: group.map(|group| group.name.clone()),
        period_ms: group.map(|group| ms(group.period)),
        scale: treatment.scale,
        offset: treatment.offset,
        mask: match treatment.part {
            Some(Part::Mask(mask)) => Some(format!("{mask:#x}")),
            _ => None,
        },
        bit: match treatment.part {
            Some(Part::Bit(bit)) => Some(bit),
            _ => None,
        },
        clamp: treatment.clamp.map(|clamp| [clamp.low, clamp.high]),
        limits: treatment.limits.map(|limits| [limits.low, limits.high]),
        report: treatment.report.as_str().to_owned(),
        deadband: treatment.deadband,
        interval_ms: treatment
            .report
            .is_by_interval()
            .then(|| ms(treatment.interval)),
        max_silence_ms: treatment.max_silence.map(ms),
        write_interval_ms: treatment.write_interval_ms.map(std::num::NonZero::get),
        reasons: channel.reasons(id),
    }))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn read(
    State(app): State<App>,
    Path((channel, tag)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<wire::Reading>, ApiError> {
    let (channel, id, _) = app.tag(&channel, &tag)?;
    let request: wire::ReadRequest = if body.is_empty() {
        wire::ReadRequest::default()
    } else {
        json(&body)?
    };
    let samples = channel.read(vec![id], timeout(request.timeout_ms)?).await?;
    let sample = samples.first().ok_or_else(unanswered)?;
    Ok(Json(reading(channel, sample, app.host().clock().wall())))
}

pub(super) async fn read_many(
    State(app): State<App>,
    body: Bytes,
) -> Result<Json<wire::ReadManyAnswer>, ApiError> {
    let request: wire::ReadManyRequest = json(&body)?;
    if !(1..=MAX_READ).contains(&request.tags.len()) {
        let message = format!("{} tags are given", request.tags.len());
        return Err(ApiError::bad_request(
            message,
            format!("give 1 to {MAX_READ} at once"),
        ));
    }
    let timeout = timeout(request.timeout_ms)?;

    let mut results: Vec<Option<wire::ReadResult>> = Vec::with_capacity(request.tags.len());
    let mut wanted: HashMap<&str, Wanted<'_>> = HashMap::new();
    for (at, reference) in request.tags.iter().enumerate() {
        match readable(&app, reference) {
            Ok((channel, id)) => {
                let wanted = wanted.entry(channel.id().as_str()).or_insert(Wanted {
                    channel,
                    tags: Vec::new(),
                });
                wanted.tags.push((at, id));
                results.push(None);
            }
            Err(error) => results.push(Some(failed(reference, error))),
        }
    }
    let asked = wanted.into_values().map(async |Wanted { channel, tags }| {
        let ids = tags.iter().map(|(_, id)| *id).collect();
        (channel, tags, channel.read(ids, timeout).await)
    });
    for (channel, tags, answer) in join_all(asked).await {
        let now = app.host().clock().wall();
        for (at, id) in tags {
            let result = match &answer {
                Ok(samples) => samples
                    .iter()
                    .find(|sample| sample.tag == id)
                    .map(|sample| wire::ReadResult::Done(reading(channel, sample, now)))
                    .unwrap_or_else(|| failed(&request.tags[at], unanswered())),
                Err(error) => failed(&request.tags[at], error.clone().into()),
            };
            results[at] = Some(result);
        }
    }
    Ok(Json(wire::ReadManyAnswer {
        results: results.into_iter().flatten().collect(),
    }))
}

impl App {
    pub(super) fn tag(
        &self,
        channel: &str,
        tag: &str,
    ) -> Result<(&ChannelHandle, TagId, &config::Tag), ApiError> {
        let channel = self.channel(channel)?;
        let found = channel
            .tag_id(tag)
            .and_then(|id| Some((id, channel.tags().tags().get(id.index())?)));
        let (id, config) = found.ok_or_else(|| {
            let shown: String = tag.chars().take(200).collect();
            ApiError::no_such_tag(channel.id().as_str(), &shown)
        })?;
        Ok((channel, id, config))
    }
}

/// What is to be read from one channel.
struct Wanted<'a> {
    channel: &'a ChannelHandle,
    /// Where in the results, and which tag.
    tags: Vec<(usize, TagId)>,
}

/// The tag behind `channel/tag`.
pub(super) fn tag_of<'a>(
    app: &'a App,
    reference: &str,
) -> Result<(&'a ChannelHandle, TagId), ApiError> {
    let shown: String = reference.chars().take(200).collect();
    let (channel, tag) = reference.split_once('/').ok_or_else(|| {
        ApiError::bad_request(
            format!("`{shown}` names no tag"),
            "write channel/tag, as in press-3/temp",
        )
    })?;
    app.tag(channel, tag).map(|(channel, id, _)| (channel, id))
}

/// The tag behind `channel/tag`, if it may be read: one that may not must not fail the others of its channel.
fn readable<'a>(app: &'a App, reference: &str) -> Result<(&'a ChannelHandle, TagId), ApiError> {
    let (channel, id) = tag_of(app, reference)?;
    match channel.tags().tags().get(id.index()) {
        Some(config) if config.access == Access::Write => Err(RequestError::NotReadable {
            tag: config.name.to_string(),
        }
        .into()),
        // One by one, so that it does not fail the others of its channel.
        _ => match channel.refusal_of_locked(id) {
            Some(refusal) => Err(refusal.into()),
            None => Ok((channel, id)),
        },
    }
}

/// A tag and its last value.
pub(super) fn summary(
    channel: &ChannelHandle,
    id: TagId,
    config: &config::Tag,
) -> Option<wire::Tag> {
    let TagState {
        value,
        quality,
        reason,
        source_time,
        server_time,
    } = channel.tags().state(id)?;
    let device = channel.config().devices.get(config.device.index());
    Some(wire::Tag {
        channel: channel.id().to_string(),
        tag: config.name.to_string(),
        device: device.map(|device| device.name.clone()).unwrap_or_default(),
        data_type: config.data_type.to_string(),
        access: config.access.as_str().to_owned(),
        unit: config.treatment.unit.clone(),
        value: value.as_ref().map_or(serde_json::Value::Null, json_value),
        quality: quality.to_string(),
        reason: reason.map(|reason| reason.to_string()),
        source_time: source_time.map(|time| Time(time).to_string()),
        source_time_ns: source_time.map(|time| time.0),
        server_time: server_time.map(|time| Time(time).to_string()),
        server_time_ns: server_time.map(|time| time.0),
    })
}

fn reading(channel: &ChannelHandle, sample: &Sample, now: WallNs) -> wire::Reading {
    let config = channel.tags().tags().get(sample.tag.index());
    wire::Reading {
        channel: channel.id().to_string(),
        tag: config
            .map(|config| config.name.to_string())
            .unwrap_or_default(),
        value: sample
            .value
            .as_ref()
            .map_or(serde_json::Value::Null, json_value),
        unit: config
            .map(|config| config.treatment.unit.clone())
            .unwrap_or_default(),
        quality: sample.quality.to_string(),
        source_time: sample.source_time.map(|time| Time(time).to_string()),
        source_time_ns: sample.source_time.map(|time| time.0),
        server_time: Time(now).to_string(),
        server_time_ns: now.0,
    }
}

/// A value as JSON; see `sink::record`.
pub(super) fn json_value(value: &Value) -> serde_json::Value {
    serde_json::to_value(JsonValue(value)).expect("a value has no keys and no failing parts")
}

fn failed(reference: &str, error: ApiError) -> wire::ReadResult {
    let reference = reference.chars().take(200).collect();
    wire::ReadResult::Failed {
        reference,
        error: error.into_body(),
    }
}

fn unanswered() -> ApiError {
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        "failed",
        "the driver answered without this tag",
        "report it to the driver's author",
    )
}

pub(super) fn timeout(given: Option<u64>) -> Result<Duration, ApiError> {
    let millis = given.unwrap_or(DEFAULT_TIMEOUT_MS);
    if !(1..=MAX_TIMEOUT_MS).contains(&millis) {
        return Err(ApiError::bad_request(
            format!("`timeout_ms` is {millis}"),
            format!("give a number from 1 to {MAX_TIMEOUT_MS}"),
        ));
    }
    Ok(Duration::from_millis(millis))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let wrong = |why: &str| {
        ApiError::bad_request(
            format!("the body is not what this path takes: {why}"),
            "send JSON as the documentation of the API shows",
        )
    };
    // serde would take an array for an object, its fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is no object"));
    }
    serde_json::from_slice(body).map_err(|error| wrong(&error.to_string()))
}
