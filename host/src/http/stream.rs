//! `GET /stream`: samples and events as they come, as server-sent events.
//!
//! Each event has a name (`sample`, `state`, `exit`, `link`, `device`, `alarm`, `warning`, `dropped`, `gap`, `end`) and one JSON object.
//! `link-event` comes only where it is asked for with `kind=link-event`: all that the histories of links hold, as it happens.
//! With `snapshot=true` the last known value of every tag that is meant comes first, as `snapshot` events.
//!
//! **A reader that comes back** says what it has seen last, in `Last-Event-ID` as browsers do by themselves, or in
//! `last_event_id=`. It gets everything that it has missed, in order and once, through the filter that it gives now, and goes on
//! live. What it has missed is in the bus's backlog, which is bounded ([`crate::limits::BACKLOG_MESSAGES`] and its neighbours).
//! Comments that come where nothing is sent carry an id too, so that a reader of something rare is not taken for one that is
//! far behind.
//!
//! **A `gap` event** stands where messages are missing, and says how many messages and samples, of all channels: because the
//! reader was slower than the channels for too long (`too-slow`), because it came back too late (`too-late`), or because the host was
//! restarted in between (`host-restarted`), when nobody knows how many. A reader that comes back to its place without a gap gets no
//! snapshot. One that comes back to a gap gets what is left of the backlog, then the snapshot, so that no value goes backwards.
//!
//! A comment comes every few seconds, so that both sides learn of a dead connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::event_id::EventId;
use super::filter::{Parameters, tag_filter};
use super::happened::{LINK_EVENT, in_stream};
use super::{ApiError, App, Inner, tags, wire};
use crate::bus::{Bus, ChannelEvent, Heard, Message, Reader as BusReader};
use crate::event::{Batch, Layout, TagFilter};
use crate::ids::{ChannelId, TagId};
use crate::sink::{Record, Time};

/// Streams at once.
pub(super) const MAX_STREAMS: usize = 64;
/// Between two comments, where nothing else is sent.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Tags of a snapshot that are sent at once.
const SNAPSHOT_PIECE: u32 = 512;

/// Those that are sent where none are asked for.
const KINDS: [&str; 8] = [
    "sample", "state", "exit", "link", "device", "alarm", "warning", "dropped",
];

pub(super) async fn open(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let known = [
        "channel",
        "group",
        "tag",
        "kind",
        "snapshot",
        "last_event_id",
    ];
    let parameters = Parameters::read(query.as_deref(), &known)?;
    let kinds = kinds(&parameters)?;
    let (filter, named) = tag_filter(&parameters)?;
    let snapshot = parameters.flag("snapshot")?;
    let last_seen = last_seen(&headers, &parameters)?;
    let permit = app.inner.streams.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_STREAMS} streams are open already");
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-streams",
            message,
            "close one, or try again later",
        )
    })?;
    // First the place in the stream, then the snapshot: what changes in between is seen twice, not never.
    let place = Place::find(app.host().bus(), last_seen)?;
    for name in named {
        app.channel(name)?;
    }
    let snapshot = match snapshot && kinds.contains(&"sample") && !place.is_whole {
        true => app
            .host()
            .channels()
            .iter()
            .filter(|channel| filter.admits_channel(channel.id().as_str()))
            .map(|channel| channel.id().clone())
            .collect(),
        false => VecDeque::new(),
    };
    let reader = Reader {
        inner: app.inner.clone(),
        place,
        kinds,
        filter,
        wanted: HashMap::new(),
        snapshot,
        begun: None,
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

/// What a reader says that it has seen last. The header counts before the parameter, since browsers keep the address as it was.
fn last_seen(headers: &HeaderMap, parameters: &Parameters) -> Result<Option<EventId>, ApiError> {
    let header = headers
        .get("last-event-id")
        .map(|given| given.to_str().unwrap_or("?"))
        .filter(|given| !given.is_empty());
    let given = match header {
        Some(given) => Some(given),
        None => parameters.one("last_event_id")?,
    };
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    given.parse().map(Some).map_err(|_| {
        let shown: String = given.chars().take(40).collect();
        ApiError::bad_request(
            format!("`{shown}` is no id of an event of this stream"),
            "give the id of the last event that was seen, or leave it out",
        )
    })
}

/// Where a reader is in what goes over the bus.
struct Place {
    run: u64,
    reader: BusReader,
    /// The message whose first samples were sent before the reader came back, and how many.
    begun: Option<(u64, usize)>,
    /// Whether the reader has seen everything up to here.
    is_whole: bool,
    /// Whether it was here in an earlier run of the host, which it has not been told yet.
    is_of_another_run: bool,
    /// Up to where it was away. A gap before that is there because it came back too late.
    away_until: u64,
}

impl Place {
    fn find(bus: &Bus, last_seen: Option<EventId>) -> Result<Self, ApiError> {
        let here = bus.listen();
        let away_until = here.place();
        let mut found = Self {
            run: bus.run(),
            reader: here,
            begun: None,
            is_whole: false,
            is_of_another_run: false,
            away_until,
        };
        let Some(id) = last_seen else {
            return Ok(found);
        };
        if id.run != found.run {
            found.is_of_another_run = true;
            return Ok(found);
        }
        let after = id.message.saturating_sub(u64::from(id.samples.is_some()));
        let known = bus.resume(after).filter(|_| id.message <= away_until);
        found.reader = known.ok_or_else(|| {
            ApiError::bad_request(
                format!("event {id} has not been sent yet"),
                "give the id of the last event that was seen, or leave it out",
            )
        })?;
        found.begun = id
            .samples
            .and_then(|samples| Some((id.message, usize::try_from(samples).ok()?)));
        found.is_whole = !found.reader.has_missed();
        Ok(found)
    }

    /// Whether it has caught up with what was sent while it was away.
    fn is_back(&self) -> bool {
        self.reader.place() >= self.away_until
    }

    fn id(&self, message: u64) -> EventId {
        EventId {
            run: self.run,
            message,
            samples: None,
        }
    }

    /// Everything up to here was sent or is not meant.
    fn mark(&self, out: &mut Vec<u8>) {
        identify(out, self.id(self.reader.place()));
    }
}

/// Which tags of a channel are meant, under one of its configurations.
struct Meant {
    layout: Arc<Layout>,
    tags: Vec<bool>,
}

/// One reader of the stream.
struct Reader {
    inner: Arc<Inner>,
    place: Place,
    kinds: Vec<&'static str>,
    filter: TagFilter,
    /// Which tags of each channel are meant, as far as anything was heard of it.
    wanted: HashMap<ChannelId, Meant>,
    /// The channels whose snapshot is still to be sent.
    snapshot: VecDeque<ChannelId>,
    /// How far the first of them has come: the tag to go on with, and the configuration that it is one of.
    begun: Option<(Arc<Layout>, u32)>,
    greeted: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next piece, which is never empty, and whether more will come.
    async fn next(&mut self) -> (Bytes, bool) {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.greeted, true) {
            out.extend_from_slice(b": bulkhead\nretry: 1000\n");
            // Whoever is to get a snapshot has seen nothing before that is done.
            if self.snapshot.is_empty()
                && self.place.begun.is_none()
                && !self.place.is_of_another_run
            {
                self.place.mark(&mut out);
            }
            out.push(b'\n');
            return (out.into(), true);
        }
        if std::mem::take(&mut self.place.is_of_another_run) {
            self.gap(&mut out, (None, None), "host-restarted");
            if self.snapshot.is_empty() {
                self.place.mark(&mut out);
                out.push(b'\n');
            }
            return (out.into(), true);
        }
        let stop = self.inner.stop.clone();
        let heartbeat = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(heartbeat);
        loop {
            self.go_on_with_snapshot(&mut out);
            if !out.is_empty() {
                break;
            }
            // Nothing else here lets others run while there is more to read than is meant.
            tokio::task::coop::consume_budget().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => return (ended(), false),
                () = &mut heartbeat => {
                    out.extend_from_slice(b": still here\n");
                    if self.snapshot.is_empty() {
                        self.place.mark(&mut out);
                    }
                    out.push(b'\n');
                }
                heard = self.place.reader.next() => self.tell(&mut out, heard),
            }
        }
        (out.into(), true)
    }

    fn tell(&mut self, out: &mut Vec<u8>, heard: Heard) {
        match heard {
            Heard::Message(number, Message::Samples(batch)) => self.samples(out, number, &batch),
            Heard::Message(number, Message::Event(happened)) => {
                self.happened(out, number, &happened);
            }
            Heard::Gap {
                messages,
                samples,
                until,
            } => {
                let reason = match until.saturating_sub(messages) < self.place.away_until {
                    true => "too-late",
                    false => "too-slow",
                };
                identify(out, self.place.id(until));
                self.gap(out, (Some(messages), samples), reason);
            }
        }
    }

    fn gap(&self, out: &mut Vec<u8>, missed: (Option<u64>, Option<u64>), reason: &str) {
        let now = self.inner.host.clock().wall();
        let gap = wire::Gap {
            gap: missed.0,
            samples: missed.1,
            reason: reason.to_owned(),
            server_time: Time(now).to_string(),
            server_time_ns: now.0,
        };
        event(out, "gap", &gap);
    }

    /// The next piece of the snapshot, if there is one and it is its turn.
    fn go_on_with_snapshot(&mut self, out: &mut Vec<u8>) {
        while out.is_empty() && !self.snapshot.is_empty() && self.place.is_back() {
            self.snapshot_piece(out);
            if self.snapshot.is_empty() {
                self.place.mark(out);
                out.push(b'\n');
            }
        }
    }

    fn snapshot_piece(&mut self, out: &mut Vec<u8>) {
        let Some(id) = self.snapshot.front() else {
            return;
        };
        let Some(channel) = self.inner.host.channel(id.as_str()) else {
            self.snapshot.pop_front();
            return;
        };
        let wanted = meant(&mut self.wanted, &self.filter, channel.layout());
        let layout = channel.layout();
        // After a reload another tag stands there: what comes twice is no harm, what is left out would be.
        let begun = self.begun.take();
        let begun = begun.filter(|(known, _)| Arc::ptr_eq(known, layout));
        let from = begun.map_or(0, |(_, from)| from);
        let next = from + SNAPSHOT_PIECE;
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
        if next as usize >= channel.tags().tags().len() {
            self.snapshot.pop_front();
        } else {
            self.begun = Some((layout.clone(), next));
        }
    }

    fn samples(&mut self, out: &mut Vec<u8>, number: u64, batch: &Batch) {
        let channel = batch.layout.channel.as_str();
        if !self.kinds.contains(&"sample") || !self.filter.admits_channel(channel) {
            return;
        }
        let wanted = meant(&mut self.wanted, &self.filter, &batch.layout);
        let sent = match self.place.begun {
            Some((begun, sent)) if begun == number => sent,
            _ => 0,
        };
        let mut meant = (1u32..)
            .zip(batch.numbered())
            .skip(sent)
            .filter(|(_, (_, sample))| wanted.get(sample.tag.index()) == Some(&true))
            .filter_map(|(count, numbered)| Some((count, Record::of(batch, numbered)?)))
            .peekable();
        while let Some((count, record)) = meant.next() {
            let id = EventId {
                samples: meant.peek().map(|_| count),
                ..self.place.id(number)
            };
            identify(out, id);
            event(out, "sample", &record);
        }
    }

    fn happened(&self, out: &mut Vec<u8>, number: u64, happened: &Arc<ChannelEvent>) {
        if !self
            .filter
            .admits_channel(happened.instance.channel.as_str())
        {
            return;
        }
        let (kind, what) = in_stream(&happened.what, &happened.instance);
        if self.kinds.contains(&kind) {
            let shown = wire::ChannelEvent {
                channel: happened.instance.channel.to_string(),
                incarnation: happened.instance.incarnation,
                at: Time(happened.at).to_string(),
                at_ns: happened.at.0,
                what,
            };
            identify(out, self.place.id(number));
            event(out, kind, &shown);
        }
    }
}

/// Which tags of a channel are meant. A reload gives it another configuration, and with it other tags.
fn meant<'m>(
    known: &'m mut HashMap<ChannelId, Meant>,
    filter: &TagFilter,
    layout: &Arc<Layout>,
) -> &'m [bool] {
    let anew = || Meant {
        layout: layout.clone(),
        tags: filter.tags_of(layout),
    };
    let meant = known.entry(layout.channel.clone()).or_insert_with(anew);
    if !Arc::ptr_eq(&meant.layout, layout) {
        *meant = anew();
    }
    &meant.tags
}

/// The id of what follows.
fn identify(out: &mut Vec<u8>, id: EventId) {
    out.extend_from_slice(format!("id: {id}\n").as_bytes());
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
