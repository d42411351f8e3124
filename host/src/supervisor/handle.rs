//! How doors speak to a channel.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::life::Command;
use crate::channel::{Answer, Ask, ChannelStatus, Mail, Request, RequestError, Shared};
use crate::config;
use crate::event::{MonotonicNs, Sample, Value};
use crate::history::{History, Statistics};
use crate::ids::{ChannelId, RequestId, TagId};
use crate::lifecycle::{self, Denied, Order};
use crate::store::StoreError;
use crate::tags::{self, TagTable};

/// The longest that a request may wait.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a reader of a history waits for the newest events to be on the disk.
const FLUSH: Duration = Duration::from_secs(5);

/// A channel, as doors see it.
pub struct ChannelHandle {
    pub(super) shared: Arc<Shared>,
    mailbox: mpsc::Sender<Mail>,
    commands: mpsc::Sender<Command>,
    requests: Arc<AtomicU64>,
    tags_by_name: HashMap<String, TagId>,
    /// What its driver can do.
    can: Vec<&'static str>,
}

impl ChannelHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        can: Vec<&'static str>,
        mailbox: mpsc::Sender<Mail>,
        commands: mpsc::Sender<Command>,
        requests: Arc<AtomicU64>,
    ) -> Self {
        let tags_by_name = (0u32..)
            .zip(shared.tags().tags().iter())
            .map(|(id, tag)| (tag.name.clone(), TagId(id)))
            .collect();
        Self {
            shared,
            mailbox,
            commands,
            requests,
            tags_by_name,
            can,
        }
    }

    /// Its name.
    pub fn id(&self) -> &ChannelId {
        self.shared.id()
    }

    /// Its configuration.
    pub fn config(&self) -> &config::Channel {
        self.shared.config()
    }

    /// How it is.
    pub fn status(&self) -> ChannelStatus {
        self.shared.status()
    }

    /// What it is doing.
    pub fn state(&self) -> lifecycle::State {
        self.shared.state()
    }

    /// For how long its task has made no progress in the host's own code, if it hangs.
    pub fn late(&self, now: MonotonicNs) -> Option<Duration> {
        self.shared.pulse().late(now)
    }

    /// Follows how it is. Counters stand still in what is seen here.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<ChannelStatus> {
        self.shared.watch()
    }

    /// Its tags.
    pub fn tags(&self) -> &TagTable {
        self.shared.tags()
    }

    /// The tag of this name.
    pub fn tag_id(&self, name: &str) -> Option<TagId> {
        self.tags_by_name.get(name).copied()
    }

    /// Why a tag is as it is: from the channel down to the tag.
    pub fn reasons(&self, tag: TagId) -> Vec<String> {
        self.shared.reasons(tag)
    }

    /// What it has done since it was first seen.
    pub fn statistics(&self) -> Statistics {
        self.shared.chronicle().statistics()
    }

    /// What has happened to it, and whether all of that is on the disk: what is not is not told yet.
    pub async fn history(&self) -> Result<(History, bool), StoreError> {
        // Asked again, since what could not be kept before must not be taken for kept.
        self.shared.chronicle().ask();
        let flushed = tokio::time::timeout(FLUSH, self.shared.store().flush()).await;
        let durable = matches!(flushed, Ok(Ok(())));
        let chronicle = self.shared.chronicle().clone();
        let history = tokio::task::spawn_blocking(move || chronicle.history()).await;
        let history = history.map_err(|error| StoreError::Task {
            reason: error.to_string(),
        })??;
        Ok((history, durable))
    }

    /// Starts it.
    pub async fn start(&self) -> Result<(), Denied> {
        self.order(Order::Start).await
    }

    /// Asks it to stop. Returns when that is under way.
    pub async fn stop(&self) -> Result<(), Denied> {
        self.order(Order::Stop).await
    }

    /// Asks it to stop, and to begin again then. Returns when that is under way.
    pub async fn restart(&self) -> Result<(), Denied> {
        self.order(Order::Restart).await
    }

    /// Forgets earlier attempts to restart it; starts it if it is broken or waits for the next.
    pub async fn reset(&self) -> Result<(), Denied> {
        self.order(Order::Reset).await
    }

    async fn order(&self, order: Order) -> Result<(), Denied> {
        let (reply, answer) = oneshot::channel();
        let gone = |shared: &Shared| Denied {
            state: shared.state(),
            input: order.into(),
            why: "belongs to a host that is stopping; nothing needs to be done",
        };
        if self
            .commands
            .send(Command::Order { order, reply })
            .await
            .is_err()
        {
            return Err(gone(&self.shared));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(gone(&self.shared)),
        }
    }

    /// Reads tags from the device, now. The samples come in the order asked for, in engineering units.
    pub async fn read(
        &self,
        tags: Vec<TagId>,
        timeout: Duration,
    ) -> Result<Vec<Sample>, RequestError> {
        let mut unique = Vec::with_capacity(tags.len());
        for tag in &tags {
            let config = self.tag(*tag)?;
            if config.access == config::Access::Write {
                return Err(RequestError::NotReadable {
                    tag: config.name.clone(),
                });
            }
            if !unique.contains(tag) {
                unique.push(*tag);
            }
        }
        if unique.is_empty() {
            return Ok(Vec::new());
        }
        match self.request(Ask::Read(unique.into()), timeout).await? {
            Answer::Read(samples) => Ok(tags
                .iter()
                .filter_map(|tag| samples.iter().find(|sample| sample.tag == *tag).cloned())
                .collect()),
            Answer::Write(_) => Err(RequestError::Restarted),
        }
    }

    /// Writes a tag, in engineering units. Gives what was read back, where that was asked for.
    pub async fn write(
        &self,
        tag: TagId,
        value: Value,
        read_back: bool,
        timeout: Duration,
    ) -> Result<Option<Value>, RequestError> {
        let config = self.tag(tag)?;
        if !config.access.is_writable() {
            return Err(RequestError::NotWritable {
                tag: config.name.clone(),
            });
        }
        let value = tags::to_device(config, value)?;
        match self
            .request(
                Ask::Write {
                    tag,
                    value,
                    read_back,
                },
                timeout,
            )
            .await?
        {
            Answer::Write(read) => Ok(read),
            Answer::Read(_) => Err(RequestError::Restarted),
        }
    }

    fn tag(&self, tag: TagId) -> Result<&config::Tag, RequestError> {
        self.shared
            .tags()
            .tags()
            .get(tag.index())
            .ok_or_else(|| RequestError::NoSuchTag {
                channel: self.id().to_string(),
                tag: tag.to_string(),
            })
    }

    async fn request(&self, ask: Ask, timeout: Duration) -> Result<Answer, RequestError> {
        let timeout = timeout.min(MAX_TIMEOUT);
        let deadline = self.shared.clock().monotonic().after(timeout);
        let answer = self.submit(ask, timeout)?;
        match tokio::time::timeout_at(self.shared.clock().instant(deadline), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RequestError::Restarted),
            Err(_) => Err(RequestError::TimedOut { after: timeout }),
        }
    }

    /// Puts a request into the mailbox, as it is: neither tags nor values are checked here. The answer may come late, while
    /// the channel is between two drivers; whoever waits for it keeps the time.
    pub fn submit(
        &self,
        ask: Ask,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Result<Answer, RequestError>>, RequestError> {
        let kind = match &ask {
            Ask::Read(_) => "read",
            Ask::Write { .. } => "write",
        };
        if !self.can.contains(&kind) {
            return Err(RequestError::NotSupported {
                channel: self.id().to_string(),
                kind,
            });
        }
        let state = self.shared.state();
        match state {
            lifecycle::State::Stopped | lifecycle::State::Stopping | lifecycle::State::Broken => {
                let why = self.shared.status().reason;
                return Err(RequestError::NotRunning {
                    channel: self.id().to_string(),
                    state,
                    why,
                });
            }
            // In the others a driver takes it, or soon will: it waits in the mailbox, for as long as its deadline allows.
            lifecycle::State::Starting
            | lifecycle::State::Running
            | lifecycle::State::Degraded
            | lifecycle::State::Restarting
            | lifecycle::State::Backoff => {}
        }
        let (reply, answer) = oneshot::channel();
        let clock = self.shared.clock();
        let deadline = clock.monotonic().after(timeout);
        let id = RequestId(self.requests.fetch_add(1, Ordering::Relaxed) + 1);
        let request = Request {
            id,
            ask,
            deadline,
            timeout,
            reply,
        };
        match self.mailbox.try_send(Mail::Request(request)) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(RequestError::Busy {
                channel: self.id().to_string(),
            }),
            Err(TrySendError::Closed(_)) => Err(RequestError::Restarted),
        }
    }
}
