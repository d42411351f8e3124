//! The HTTP API: what is known of the host's channels and tags, and what may be asked of them.
//!
//! - `server`: connections: how many, how slow, how they end. `patience`: a peer that does not read is given up.
//! - `guard`: who may ask at all.
//! - `health`, `status`, `audit`, `reload`, `channels`, `past`, `commands`, `dead_letters`, `devices`, `links`, `metrics`, `tags`, `writes`, `stream`: the answers. `filter`: which tags are
//!   meant. `page`: where a list goes on. `event_id`,
//!   `happened`: parts of `stream`.
//! - `wire`: the shapes of the answers, one to one with JSON; `value`: a JSON value as one that a tag takes.
//! - `error`: what a refusal looks like.
//!
//! ```text
//! GET  /livez                                       GET  /readyz      (also under /api/v1/health/live and /ready)
//! GET  /metrics                                     (Prometheus, text format 0.0.4)
//! GET  /api/v1/status
//! GET  /api/v1/channels?limit=&cursor=              GET  /api/v1/channels/{channel}
//! GET  /api/v1/channels/{channel}/history
//! POST /api/v1/channels/{channel}/start | stop | restart | reset
//! GET  /api/v1/channels/{channel}/commands
//! POST /api/v1/channels/{channel}/commands/{name}   {"payload":{"slot":2},"timeout_ms":30000}   (or server-sent events)
//! DELETE /api/v1/channels/{channel}/commands/{request}
//! GET  /api/v1/channels/{channel}/devices
//! POST /api/v1/channels/{channel}/devices/{device}/lock   {"why":"being mended"}
//! POST /api/v1/channels/{channel}/devices/{device}/unlock
//! GET  /api/v1/dead-letters?channel=&limit=&cursor=   GET  /api/v1/dead-letters/{channel}/{number}
//! POST /api/v1/dead-letters/{channel}/{number}/retry | drop
//! GET  /api/v1/links?channel=&limit=&cursor=        GET  /api/v1/links/{channel}/{link}
//! GET  /api/v1/links/{channel}/{link}/events
//! POST /api/v1/links/{channel}/{link}/test {"dial":true} | reconnect
//! GET  /api/v1/tags?channel=&group=&tag=&limit=&cursor=   GET  /api/v1/tags/{channel}/{tag}
//! POST /api/v1/tags/{channel}/{tag}/read  {"timeout_ms":5000}
//! POST /api/v1/tags/{channel}/{tag}/write {"value":21.5,"read_back":true,"timeout_ms":5000,"by":"anna"}
//! POST /api/v1/tags/read                  {"tags":["press-3/temp"],"timeout_ms":5000}
//! POST /api/v1/tags/write                 {"writes":[{"tag":"press-3/temp","value":21.5}],"read_back":false,"timeout_ms":5000,"by":"anna"}
//! GET  /api/v1/outbox    GET /api/v1/outbox/{sink}    GET /api/v1/outbox/{sink}/export   (JSON lines)
//! POST /api/v1/outbox/{sink}/purge         {}
//! GET  /api/v1/audit?limit=&before=
//! POST /api/v1/reload                     {"dry_run":true}
//! GET  /api/v1/stream?channel=&group=&tag=&kind=&snapshot=true&last_event_id=   (server-sent events; or `Last-Event-ID`)
//! ```
//!
//! Values and times look as `sink::record` says. A refusal is `{"error":{"code","message","remedy"}}`.
//!
//! **Closed by default.** An API that writes to plants has neither TLS nor tokens yet, so it listens on loopback only,
//! answers only to requests that name a loopback host (a web page that rebinds its own name to 127.0.0.1 names its own),
//! only to origins that are itself, and takes writes only as `application/json`, which no page may send elsewhere
//! without asking first, and no answer here ever allows it.
//!
//! **Bounded.** Connections, streams, heads, bodies, pages, timeouts and the time that a peer may take all have limits; each
//! stands where it is kept.

mod audit;
mod channels;
mod commands;
mod dead_letters;
mod devices;
mod error;
mod event_id;
mod filter;
mod guard;
mod happened;
mod health;
mod links;
mod metrics;
mod outbox;
mod page;
mod past;
mod patience;
mod reload;
mod server;
mod status;
mod stream;
mod tags;
mod value;
pub mod wire;
mod writes;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::sink::SinkWatch;
use crate::supervisor::{Channels, Host, Reloader};
use error::ApiError;

pub use server::{ListenError, Listener};
pub(crate) use value::from_json;

/// What the API speaks for.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

/// The same for one request: with the channels that there were when it came.
struct App {
    inner: Arc<Inner>,
    channels: Arc<Channels>,
}

impl FromRef<Api> for App {
    fn from_ref(api: &Api) -> Self {
        Self {
            inner: api.inner.clone(),
            channels: api.inner.host.channels(),
        }
    }
}

struct Inner {
    host: Host,
    reloader: Reloader,
    sinks: SinkWatch,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Api {
    /// The API of a host; `sinks` tells how its sinks are. Streams end when `stop` is cancelled.
    pub fn new(host: Host, reloader: Reloader, sinks: SinkWatch, stop: CancellationToken) -> Self {
        let streams = Arc::new(Semaphore::new(stream::MAX_STREAMS));
        Self {
            inner: Arc::new(Inner {
                host,
                reloader,
                sinks,
                streams,
                stop,
            }),
        }
    }

    /// The API as a service, to be reached under `port`.
    pub fn router(self, port: u16) -> Router {
        let api = Router::new()
            .route("/status", get(status::show))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .route("/channels", get(channels::list))
            .route("/channels/{channel}", get(channels::show))
            .route("/channels/{channel}/history", get(past::history))
            .route("/channels/{channel}/start", post(channels::start))
            .route("/channels/{channel}/stop", post(channels::stop))
            .route("/channels/{channel}/restart", post(channels::restart))
            .route("/channels/{channel}/reset", post(channels::reset))
            .route("/channels/{channel}/commands", get(commands::list))
            .route(
                "/channels/{channel}/commands/{command}",
                post(commands::give).delete(commands::cancel),
            )
            .route("/channels/{channel}/devices", get(devices::list))
            .route(
                "/channels/{channel}/devices/{device}/lock",
                post(devices::lock),
            )
            .route(
                "/channels/{channel}/devices/{device}/unlock",
                post(devices::unlock),
            )
            .route("/dead-letters", get(dead_letters::list))
            .route("/dead-letters/{channel}/{number}", get(dead_letters::show))
            .route(
                "/dead-letters/{channel}/{number}/retry",
                post(dead_letters::retry),
            )
            .route(
                "/dead-letters/{channel}/{number}/drop",
                post(dead_letters::discard),
            )
            .route("/links", get(links::list))
            .route("/links/{channel}/{link}", get(links::show))
            .route("/links/{channel}/{link}/events", get(links::events))
            .route("/links/{channel}/{link}/test", post(links::test))
            .route("/links/{channel}/{link}/reconnect", post(links::reconnect))
            .route("/tags", get(tags::list))
            .route("/tags/read", post(tags::read_many))
            .route("/tags/write", post(writes::write_many))
            .route("/tags/{channel}/{tag}", get(tags::show))
            .route("/tags/{channel}/{tag}/read", post(tags::read))
            .route("/tags/{channel}/{tag}/write", post(writes::write))
            .route("/outbox", get(outbox::list))
            .route("/outbox/{sink}", get(outbox::show))
            .route("/outbox/{sink}/purge", post(outbox::purge))
            .route("/outbox/{sink}/export", get(outbox::export))
            .route("/audit", get(audit::list))
            .route("/reload", post(reload::reload))
            .route("/stream", get(stream::open))
            .with_state(self.clone());
        let probes = Router::new()
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(metrics::show))
            .with_state(self);
        guard::guarded(probes.nest("/api/v1", api), port)
    }
}

impl App {
    fn host(&self) -> &Host {
        &self.inner.host
    }

    fn channels(&self) -> &Channels {
        &self.channels
    }
}
