//! Another configuration for a running host: what is another is looked for, checked as a whole, and only then taken up.
//!
//! - A channel that is as it was is not touched.
//! - One that has changed stops its driver in order and goes on with the next incarnation (`reconfigured`) under the new configuration.
//!   Connections over links that are as they were stay open, and tags that are as they were keep their values and their
//!   quality, unless the driver or its settings are others: then nobody knows what either would mean.
//! - What only a restart of the host can take up is refused by name. A configuration with any fault changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::handle::ChannelHandle;
use super::host::{Changing, Host, keep_now};
use super::life::{Command, STOP_GRACE};
use super::prepare::{Prepared, Progress};
use crate::config::{self, Checked, Difference, Faults};
use crate::engine::EngineError;
use crate::ids::ChannelId;
use crate::store::StoreError;

/// How much longer than its driver has to stop a channel is waited for.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Reads the configuration anew, as it is on the disk now.
type Read = dyn Fn() -> Result<Checked<config::Host>, ReloadError> + Send + Sync;

/// Reloads a host from where its configuration stands. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    host: Host,
    read: Arc<Read>,
}

impl Reloader {
    /// For this host; `read` blocks.
    pub fn new(
        host: Host,
        read: impl Fn() -> Result<Checked<config::Host>, ReloadError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            host,
            read: Arc::new(read),
        }
    }

    /// Reads the configuration and takes it up, or, with `dry_run`, only says what is another in it. Goes on to its end also where nobody
    /// waits for it.
    pub async fn reload(&self, dry_run: bool) -> Result<Reloaded, ReloadError> {
        let Self { host, read } = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let reloading = tokio::task::spawn_blocking(move || {
            let config = read()?;
            let progress = |now: Progress| {
                if let Progress::Compiling { driver, .. } = now {
                    tracing::info!(driver = %driver.display(), "loading a driver");
                }
            };
            runtime.block_on(host.reload(config, dry_run, &progress))
        });
        let reloaded = reloading.await;
        reloaded.unwrap_or_else(|error| Err(ReloadError::Unreadable(error.to_string())))
    }
}

/// What a reload has done, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What is another in the new configuration.
    pub difference: Difference,
    /// Whether it has been taken up.
    pub applied: bool,
    /// Channels that had not gone over to it in time; they do when their drivers have stopped.
    pub late: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Another one is under way.
    #[error("another reload is under way; wait for it to end")]
    Busy,
    /// The host stops.
    #[error("the host is stopping, and takes up nothing new")]
    Stopping,
    /// Only a restart can take it up.
    #[error(
        "{} cannot change while the host runs; restart the host for that, or leave them as they were",
        .0.join(", ")
    )]
    NeedsRestart(Vec<String>),
    /// A channel of this name was removed, and its driver has not stopped yet.
    #[error(
        "channel {0} was removed a moment ago, and its driver has not stopped yet; reload again in a while"
    )]
    StillLeaving(String),
    /// The memories of the drivers were given their greatest size when the host was started.
    #[error(
        "`limits.memory` of {} is greater than {}, which is the most that this host was started for; restart the host, which \
         makes room for it, or lower the limit",
        .channels.join(", "),
        config::show_size(*.most)
    )]
    MemoryNeedsRestart {
        /// The channels.
        channels: Vec<String>,
        /// The largest limit that there was at the start, in bytes.
        most: u64,
    },
    /// There is no room for the drivers.
    #[error(
        "the channels do not fit into this host as it was started: {0}; restart the host, which makes room for them"
    )]
    NoRoom(String),
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It has faults, or the drivers find some.
    #[error(transparent)]
    Config(Faults),
    /// The drivers could not be loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The disk says no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A channel that is to go over to its other configuration.
struct Moving {
    handle: Arc<ChannelHandle>,
    is_done: oneshot::Receiver<()>,
}

impl Host {
    /// Takes up another configuration, or, with `dry_run`, only says what is another in it. Nothing is changed where there is any fault. Not to
    /// be dropped half way: whoever may go away runs it in a task of its own.
    pub async fn reload(
        &self,
        config: Checked<config::Host>,
        dry_run: bool,
        progress: &dyn Fn(Progress),
    ) -> Result<Reloaded, ReloadError> {
        let inner = &self.inner;
        let mut changing = inner.changing.try_lock().map_err(|_| ReloadError::Busy)?;
        let now = self.channels();
        let difference = Difference::between(
            &changing.config,
            now.iter().map(|channel| &**channel.config()),
            &config.value,
        );
        if !difference.of_host.is_empty() {
            return Err(ReloadError::NeedsRestart(difference.of_host));
        }
        // Before the drivers are asked: none of them could be given such a memory.
        let most = inner.workshop.pool().max_memory();
        let too_large = |channel: &&config::Channel| channel.limits.memory > most;
        let channels = config.value.channels.iter().filter(too_large);
        let channels: Vec<String> = channels.map(|channel| channel.id.to_string()).collect();
        if !channels.is_empty() {
            return Err(ReloadError::MemoryNeedsRestart { channels, most });
        }
        changing.leaving.retain_mut(|(_, ended)| {
            // Nothing is ever sent: it is closed when the task ends.
            ended.try_recv() == Err(oneshot::error::TryRecvError::Empty)
        });
        let mut leaving = changing.leaving.iter().map(|(name, _)| name);
        if let Some(name) = leaving.find(|name| difference.added.contains(name)) {
            return Err(ReloadError::StillLeaving(name.clone()));
        }
        let used = now.iter().map(|channel| channel.driver().clone());
        inner.workshop.forget_all_but(&used.collect());
        let others: HashSet<&str> = (difference.added.iter())
            .chain(difference.changed.iter().map(|changed| &changed.channel))
            .map(String::as_str)
            .collect();
        let channels = config.value.channels.iter().enumerate();
        let wanted: Vec<(usize, &config::Channel)> = channels
            .filter(|(_, channel)| others.contains(channel.id.as_str()))
            .collect();
        let making = inner.workshop.make(&wanted, &config.locations, progress);
        let made = inner.stopping.run_until_cancelled(making).await;
        let (mut ready, faults) = made.ok_or(ReloadError::Stopping)??;
        if let Some(faults) = Faults::new(config.locations.file(), faults, 0) {
            return Err(ReloadError::Config(faults));
        }
        let needs = config
            .value
            .channels
            .iter()
            .enumerate()
            .map(|(place, channel)| {
                let made = ready.get(&place).map(|prepared| prepared.needs);
                made.or_else(|| Some(now.named(channel.id.as_str())?.needs()))
                    .unwrap_or_default()
            });
        let largest = config
            .value
            .channels
            .iter()
            .map(|channel| channel.limits.memory)
            .max();
        if let Some(why) = inner.workshop.pool().refuses(needs, largest.unwrap_or(0)) {
            return Err(ReloadError::NoRoom(why));
        }
        if dry_run || difference.is_empty() {
            return Ok(Reloaded {
                difference,
                applied: false,
                late: Vec::new(),
            });
        }
        let added = wanted
            .iter()
            .map(|(_, channel)| channel.id.clone())
            .collect();
        inner.store.reserve_incarnations(added).await?;
        let now = self.channels();
        let new = wanted.iter().map(|(_, channel)| &channel.id);
        let new: Vec<_> = new
            .filter(|id| now.named(id.as_str()).is_none())
            .cloned()
            .collect();
        let raised = inner.store.raise_epochs(new.clone()).await?;
        let epochs = new.into_iter().zip(raised).collect();
        if inner.stopping.is_cancelled() {
            return Err(ReloadError::Stopping);
        }
        let late = self
            .take_up(
                config.value,
                &difference,
                &mut ready,
                &epochs,
                &mut changing,
            )
            .await;
        Ok(Reloaded {
            difference,
            applied: true,
            late,
        })
    }

    /// Everything has been checked: removes, adds and changes channels. Gives those that were late.
    async fn take_up(
        &self,
        config: config::Host,
        difference: &Difference,
        ready: &mut HashMap<usize, Prepared>,
        epochs: &HashMap<ChannelId, u64>,
        changing: &mut Changing,
    ) -> Vec<String> {
        let inner = &self.inner;
        let deadline = inner.clock.monotonic().after(STOP_GRACE);
        let now = self.channels();
        let mut moving = Vec::new();
        let mut orders = Vec::new();
        let mut leaving = Vec::new();
        for name in &difference.removed {
            if let Some(channel) = now.named(name) {
                let (ending, ended) = oneshot::channel();
                orders.push((channel.clone(), Command::Remove(deadline, ending)));
                leaving.push((channel.clone(), ended));
            }
        }
        let mut added = HashMap::new();
        let mut names = Vec::with_capacity(config.channels.len());
        for (place, channel) in config.channels.into_iter().enumerate() {
            let name = channel.id.to_string();
            let known = now.named(&name);
            match (known, ready.remove(&place)) {
                (Some(old), Some(prepared)) => {
                    let (handle, renewal, is_done) =
                        inner.renewal(old, channel, prepared, deadline);
                    orders.push((old.clone(), renewal));
                    // The old one stays in the list until its task has gone over.
                    moving.push(Moving { handle, is_done });
                }
                (Some(_same), None) => {}
                (None, Some(prepared)) => drop(added.insert(name.clone(), (channel, prepared))),
                (None, None) => {
                    tracing::error!(
                        channel = name,
                        "a new channel was not made ready, and is left out"
                    );
                }
            }
            names.push(name);
        }
        self.list(&names, &mut HashMap::new());
        join_all(orders.into_iter().map(|(channel, command)| async move {
            channel.command(command).await;
        }))
        .await;
        let last = inner.clock.instant(deadline.after(LAST_GRACE));
        let moved = moving
            .into_iter()
            .map(|Moving { handle, is_done }| async move {
                let done = tokio::time::timeout_at(last, is_done).await;
                // From now on its task answers to the new one, or will.
                let name = handle.id().to_string();
                inner.channels.replace(handle);
                (!matches!(done, Ok(Ok(())))).then_some(name)
            });
        let left = leaving.into_iter().map(|(channel, mut ended)| async move {
            let in_time = tokio::time::timeout_at(last, &mut ended).await.is_ok();
            keep_now(&channel.shared);
            (!in_time).then(|| (channel.id().to_string(), ended))
        });
        let (moved, left) = tokio::join!(join_all(moved), join_all(left));
        changing.leaving.extend(left.into_iter().flatten());
        // What is new begins when what has gone has let go of its devices.
        let mut begun = HashMap::new();
        for name in &names {
            if let Some((channel, prepared)) = added.remove(name) {
                let epoch = epochs.get(&channel.id).copied().unwrap_or_default();
                let handle = inner.add((changing.next_index, epoch), channel, prepared);
                begun.insert(name.clone(), handle);
                changing.next_index += 1;
            }
        }
        self.list(&names, &mut begun);
        let mut late: Vec<String> = moved.into_iter().flatten().collect();
        late.extend(changing.leaving.iter().map(|(name, _)| name.clone()));
        changing.config = config::Host {
            channels: Vec::new(),
            ..config
        };
        tracing::info!(
            added = difference.added.len(),
            removed = difference.removed.len(),
            changed = difference.changed.len(),
            unchanged = difference.unchanged,
            "the configuration was reloaded"
        );
        late
    }

    /// From now on there are the channels of these names, in this order: those that there were, and those that have begun.
    fn list(&self, names: &[String], begun: &mut HashMap<String, Arc<ChannelHandle>>) {
        let now = self.channels();
        let known = |name: &String| begun.remove(name).or_else(|| now.named(name).cloned());
        self.inner
            .channels
            .set(names.iter().filter_map(known).collect());
    }
}
