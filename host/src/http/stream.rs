//! `GET /stream`: samples and events as they come, as server-sent events.
//!
//! Each event has a name (`sample`, `state`, `exit`, `link`, `device`, `alarm`, `warning`, `dropped`, `gap`, `end`) and one JSON object.
//! `link-event` comes only where it is asked for with `kind=link-event`: all that the histories of links hold, as it happens.
//! With `snapshot=true` the last known value of every tag that is meant comes first, as `snapshot` events.
//!
//! A reader that is slower than the channels misses messages: a `gap` event says how many, before what comes next. A
//! comment comes every few seconds, so that both sides learn of a dead connection. There is no replay: a
//! reader that comes back asks for a snapshot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::filter::{Parameters, TagFilter};
use super::{ApiError, App, channels, tags, wire};
use crate::bus::{Batch, ChannelEvent, Happened, Message, Received, Subscription};
use crate::ids::{ChannelId, InstanceId, TagId};
use crate::sink::{Record, Time};

/// Streams at once.
pub(super) const MAX_STREAMS: usize = 64;
/// Messages that may wait for one reader.
const QUEUE: usize = 1_024;
/// Between two comments, where nothing else is sent.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Tags of a snapshot that are sent at once.
const SNAPSHOT_PIECE: u32 = 512;

/// Those that are sent where none are asked for.
const KINDS: [&str; 8] = [
    "sample", "state", "exit", "link", "device", "alarm", "warning", "dropped",
];
/// What stands in the histories of links, and says more of them than `link`.
const LINK_EVENT: &str = "link-event";

pub(super) async fn open(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let parameters = Parameters::read(query.as_deref(), &["channel", "tag", "kind", "snapshot"])?;
    let kinds = kinds(&parameters)?;
    let filter = TagFilter::read(&parameters)?;
    let snapshot = parameters.flag("snapshot")?;
    let permit = app.inner.streams.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_STREAMS} streams are open already");
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-streams",
            message,
            "close one, or try again later",
        )
    })?;
    // First the subscription, then the snapshot: what changes in between is seen twice, not never.
    let subscription = app.host().bus().subscribe(QUEUE);
    let mut wanted = HashMap::new();
    for name in filter.channels() {
        app.channel(name)?;
    }
    for channel in app.channels() {
        if filter.admits_channel(channel.id().as_str()) {
            let tags = channel.tags().tags().iter();
            wanted.insert(
                channel.id().clone(),
                tags.map(|tag| filter.admits(channel.id().as_str(), &tag.name))
                    .collect(),
            );
        }
    }
    let snapshot = match snapshot && kinds.contains(&"sample") {
        true => app
            .host()
            .channels()
            .iter()
            .map(|channel| channel.id().clone())
            .collect(),
        false => VecDeque::new(),
    };
    let reader = Reader {
        app,
        subscription,
        kinds,
        wanted,
        snapshot,
        snapshot_from: 0,
        greeted: false,
        _permit: permit,
    };
    let body = Body::from_stream(stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        let piece = reader.next().await;
        let reader = piece.1.then_some(reader);
        Some((Ok::<_, std::convert::Infallible>(piece.0), reader))
    }));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn kinds(parameters: &Parameters) -> Result<Vec<&'static str>, ApiError> {
    let given = parameters.list("kind")?;
    if given.is_empty() {
        return Ok(KINDS.to_vec());
    }
    let mut all = KINDS.to_vec();
    all.push(LINK_EVENT);
    let known = |given: &str| all.iter().copied().find(|kind| *kind == given);
    given
        .into_iter()
        .map(|kind| {
            let shown: String = kind.chars().take(40).collect();
            let remedy = format!("use {}", all.join(", "));
            known(kind)
                .ok_or_else(|| ApiError::bad_request(format!("there is no kind `{shown}`"), remedy))
        })
        .collect()
}

/// One reader of the stream.
struct Reader {
    app: App,
    subscription: Subscription,
    kinds: Vec<&'static str>,
    /// The channels that are meant, and which of their tags.
    wanted: HashMap<ChannelId, Vec<bool>>,
    /// The channels whose snapshot is still to be sent, and the tag to go on with.
    snapshot: VecDeque<ChannelId>,
    snapshot_from: u32,
    greeted: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next piece, which is never empty, and whether more will come.
    async fn next(&mut self) -> (Bytes, bool) {
        if !std::mem::replace(&mut self.greeted, true) {
            return (Bytes::from_static(b": bulkhead\nretry: 1000\n\n"), true);
        }
        let mut out = Vec::new();
        while out.is_empty() && !self.snapshot.is_empty() {
            self.snapshot_piece(&mut out);
        }
        let stop = self.app.inner.stop.clone();
        let heartbeat = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(heartbeat);
        while out.is_empty() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return (ended(), false),
                received = self.subscription.next() => match received {
                    None => return (ended(), false),
                    Some(Received::Gap(missed)) => {
                        let now = self.app.host().clock().wall();
                        let gap = Gap { gap: missed, server_time: Time(now), server_time_ns: now.0 };
                        event(&mut out, "gap", &gap);
                    }
                    Some(Received::Message(Message::Samples(batch))) => self.samples(&mut out, &batch),
                    Some(Received::Message(Message::Event(happened))) => self.happened(&mut out, &happened),
                },
                () = &mut heartbeat => out.extend_from_slice(b": still here\n\n"),
            }
        }
        (out.into(), true)
    }

    fn snapshot_piece(&mut self, out: &mut Vec<u8>) {
        let Some(id) = self.snapshot.front() else {
            return;
        };
        let (Some(channel), Some(wanted)) =
            (self.app.host().channel(id.as_str()), self.wanted.get(id))
        else {
            self.snapshot.pop_front();
            return;
        };
        let from = self.snapshot_from;
        self.snapshot_from += SNAPSHOT_PIECE;
        let piece = (0u32..)
            .zip(channel.tags().tags().iter())
            .skip(from as usize)
            .take(SNAPSHOT_PIECE as usize);
        for (id, config) in piece {
            if wanted.get(id as usize) == Some(&true)
                && let Some(tag) = tags::summary(&channel, TagId(id), config)
            {
                event(out, "snapshot", &tag);
            }
        }
        if self.snapshot_from as usize >= channel.tags().tags().len() {
            self.snapshot.pop_front();
            self.snapshot_from = 0;
        }
    }

    fn samples(&self, out: &mut Vec<u8>, batch: &Batch) {
        if !self.kinds.contains(&"sample") {
            return;
        }
        let channel = &batch.instance.channel;
        let Some(wanted) = self.wanted.get(channel) else {
            return;
        };
        for sample in &batch.samples {
            if wanted.get(sample.tag.index()) == Some(&true)
                && let Some(record) = Record::of(batch, sample)
            {
                event(out, "sample", &record);
            }
        }
    }

    fn happened(&self, out: &mut Vec<u8>, happened: &Arc<ChannelEvent>) {
        if !self.wanted.contains_key(&happened.instance.channel) {
            return;
        }
        let (kind, what) = wire_happened(&happened.what, &happened.instance);
        if self.kinds.contains(&kind) {
            let shown = wire::ChannelEvent {
                channel: happened.instance.channel.to_string(),
                incarnation: happened.instance.incarnation,
                at: Time(happened.at).to_string(),
                at_ns: happened.at.0,
                what,
            };
            event(out, kind, &shown);
        }
    }
}

#[derive(Serialize)]
struct Gap {
    gap: u64,
    server_time: Time,
    server_time_ns: u64,
}

fn wire_happened(what: &Happened, instance: &InstanceId) -> (&'static str, wire::Happened) {
    match what {
        Happened::State { state, reason } => (
            "state",
            wire::Happened::State {
                state: state.to_string(),
                reason: reason.clone(),
            },
        ),
        Happened::Exit(exit) => (
            "exit",
            wire::Happened::Exit(channels::wire_exit(exit, instance)),
        ),
        Happened::Link { link, up, detail } => (
            "link",
            wire::Happened::Link {
                link: link.clone(),
                up: *up,
                detail: detail.clone(),
            },
        ),
        Happened::LinkEvent {
            link,
            connection,
            event,
            cause,
        } => (
            LINK_EVENT,
            wire::Happened::LinkEvent {
                link: link.clone(),
                connection: *connection,
                event: (*event).to_owned(),
                cause: cause.clone(),
            },
        ),
        Happened::Device {
            device,
            condition,
            why,
        } => (
            "device",
            wire::Happened::Device {
                device: device.clone(),
                condition: (*condition).to_owned(),
                why: why.clone(),
            },
        ),
        Happened::Alarm {
            code,
            active,
            message,
        } => (
            "alarm",
            wire::Happened::Alarm {
                code: code.clone(),
                active: *active,
                message: message.clone(),
            },
        ),
        Happened::Warning { sentence } => (
            "warning",
            wire::Happened::Warning {
                message: sentence.clone(),
            },
        ),
        Happened::Dropped { count, what } => (
            "dropped",
            wire::Happened::Dropped {
                count: *count,
                what: (*what).to_owned(),
            },
        ),
    }
}

/// One event. JSON has no line ends, so one `data` line is enough.
pub(super) fn event(out: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, data)
        .expect("the API's own shapes have text for keys, and a buffer takes everything");
    out.extend_from_slice(b"\n\n");
}

fn ended() -> Bytes {
    Bytes::from_static(b"event: end\ndata: {\"reason\":\"the host is stopping\"}\n\n")
}
