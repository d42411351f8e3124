//! The host as a whole: start, stop, and what its channels share.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flight::Flight;
use super::handle::{ChannelHandle, HandleParts};
use super::life::{Command, Life, Renewal};
use super::pace::Pace;
use super::prepare::{Prepared, Progress, Workshop};
use super::registry::{Channels, Registry};
use super::watchdog::Watchdog;
use crate::audit::{Audit, AuditError};
use crate::bus::Bus;
use crate::channel::{Connections, Kept, Mail, Shared, SharedParts, mailbox};
use crate::clock::Clock;
use crate::config::{self, Checked, Faults};
use crate::engine::{Compiler, EngineError};
use crate::event::{MonotonicNs, WallNs};
use crate::history::Chronicle;
use crate::lifecycle::{Machine, Order};
use crate::link::{DialRate, Journal, Keeper};
use crate::network;
use crate::recorder::{Archive, Recorder};
use crate::restart::Limiter;
use crate::store::{Store, StoreError};

/// Commands that may wait for a channel.
const COMMANDS: usize = 16;
/// How often statistics go to the disk where nothing else happens.
const KEEP_STATISTICS: Duration = Duration::from_secs(60);

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `data_dir` cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The drivers find fault with the configuration.
    #[error(transparent)]
    Config(Faults),
}

/// A running host. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) channels: Registry,
    pub(super) clock: Clock,
    pub(super) store: Store,
    /// Makes drivers and channels ready.
    pub(super) workshop: Workshop,
    /// Held while the channels become others.
    pub(super) changing: tokio::sync::Mutex<Changing>,
    /// Ends what goes on beside the channels.
    pub(super) stopping: CancellationToken,
    bus: Bus,
    audit: Arc<Audit>,
    started_at: WallNs,
    lives: TaskTracker,
    links: TaskTracker,
    limiter: Arc<Mutex<Limiter>>,
    dials: DialRate,
    requests: Arc<AtomicU64>,
    /// Watches as long as the host is there.
    _watchdog: Watchdog,
    flight: Option<Flight>,
}

/// What a reload changes besides the channels.
pub(super) struct Changing {
    /// The configuration of the host itself; without channels.
    pub(super) config: config::Host,
    /// The place in the host's tables of the next channel that is added. None is ever given twice.
    pub(super) next_index: usize,
    /// Channels that were removed and had not stopped in time, each with what is closed when its task ends.
    pub(super) leaving: Vec<(String, oneshot::Receiver<()>)>,
}

impl Host {
    /// Locks `data_dir`, loads the drivers, checks every channel, starts those that are enabled.
    pub async fn start(
        config: Checked<config::Host>,
        compiler: Compiler,
        progress: &dyn Fn(Progress),
    ) -> Result<Self, StartError> {
        let store = Self::open_store(&config.value).await?;
        Self::start_with(config, compiler, (store, Bus::new()), progress).await
    }

    /// Locks `data_dir`, and opens what stands in it.
    pub async fn open_store(config: &config::Host) -> Result<Store, StartError> {
        let data_dir: PathBuf = config.data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&data_dir)).await;
        let opened = opened.map_err(|error| StoreError::Folder {
            path: config.data_dir.clone(),
            reason: error.to_string(),
        })?;
        Ok(opened?)
    }

    /// As [`Host::start`], with a store that is open and a bus that consumers have already subscribed to, so that they miss nothing.
    pub async fn start_with(
        mut config: Checked<config::Host>,
        compiler: Compiler,
        (store, bus): (Store, Bus),
        progress: &dyn Fn(Progress),
    ) -> Result<Self, StartError> {
        let (workshop, mut ready, faults) = Workshop::open(&config, compiler, progress).await?;
        if let Some(faults) = Faults::new(config.locations.file(), faults, 0) {
            return Err(StartError::Config(faults));
        }
        progress(Progress::Starting {
            channels: config.value.channels.len(),
        });
        let channels = std::mem::take(&mut config.value.channels);
        let config = config.value;
        let ids: Vec<_> = channels.iter().map(|channel| channel.id.clone()).collect();
        store.reserve_incarnations(Vec::clone(&ids)).await?;
        let epochs = store.raise_epochs(ids).await?;

        let flight = match config.recorder {
            0 => None,
            bytes => {
                let archive =
                    Archive::open(&config.data_dir).map_err(|error| StoreError::Folder {
                        path: config.data_dir.clone(),
                        reason: error.to_string(),
                    })?;
                let recorder = Recorder::new(bytes, channels.len());
                Some(Flight::new(recorder, archive))
            }
        };
        let data_dir = config.data_dir.clone();
        let audit = tokio::task::spawn_blocking(move || Audit::open(&data_dir)).await;
        let audit = audit.map_err(|error| StoreError::Folder {
            path: config.data_dir.clone(),
            reason: error.to_string(),
        })??;
        network::look().await;
        let clock = Clock::start();
        let registry = Registry::default();
        let inner = Inner {
            clock,
            store,
            workshop,
            stopping: CancellationToken::new(),
            bus,
            audit: Arc::new(audit),
            started_at: clock.wall(),
            lives: TaskTracker::new(),
            links: TaskTracker::new(),
            limiter: Arc::new(Mutex::new(Limiter::new(config.restarts))),
            dials: DialRate::new(config.dials),
            requests: Arc::new(AtomicU64::new(0)),
            _watchdog: Watchdog::start(registry.weak()),
            flight,
            changing: tokio::sync::Mutex::new(Changing {
                config,
                next_index: channels.len(),
                leaving: Vec::new(),
            }),
            channels: registry,
        };
        let all =
            channels
                .into_iter()
                .enumerate()
                .zip(epochs)
                .filter_map(|((index, channel), epoch)| {
                    Some(((index, epoch), channel, ready.remove(&index)?))
                });
        let all = all
            .map(|(place, channel, prepared)| inner.add(place, channel, prepared))
            .collect();
        inner.channels.set(all);
        inner.watch();
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The channels that there are now, in the order of the file. A reload makes another list.
    pub fn channels(&self) -> Arc<Channels> {
        self.inner.channels.now()
    }

    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<Arc<ChannelHandle>> {
        self.channels().named(name).cloned()
    }

    /// Where samples and events come out.
    pub fn bus(&self) -> &Bus {
        &self.inner.bus
    }

    /// Who wrote what.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.inner.audit
    }

    /// When it started.
    pub fn started_at(&self) -> WallNs {
        self.inner.started_at
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Asks every channel to stop, waits for them, and ends what is left at the end of `grace`.
    pub async fn stop(&self, grace: Duration) {
        let clock = self.inner.clock;
        let deadline = clock.monotonic().after(grace);
        self.inner.stopping.cancel();
        // A reload that is under way may still bring channels.
        let changing = self.inner.changing.lock();
        let changing = tokio::time::timeout_at(clock.instant(deadline), changing).await;
        let channels = self.channels();
        for channel in &*channels {
            // A full queue means that the task is busy with commands; a closed one that it has ended.
            drop(
                tokio::time::timeout_at(
                    clock.instant(deadline),
                    channel.command(Command::Shutdown(deadline)),
                )
                .await,
            );
        }
        self.inner.lives.close();
        self.inner.links.close();
        // The lives drop their instances at the deadline themselves; the second more is for the dropping.
        let last = clock.instant(deadline.after(Duration::from_secs(1)));
        if tokio::time::timeout_at(last, self.inner.lives.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.inner.lives.len(),
                "channels did not stop in time"
            );
        }
        if tokio::time::timeout_at(last, self.inner.links.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.inner.links.len(),
                "connections did not close in time"
            );
        }
        drop(changing);
        for channel in &*channels {
            keep_now(&channel.shared);
        }
        let audit = self.inner.audit.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || audit.close()).await {
            tracing::error!(%error, "the audit log could not be closed");
        }
        if let Err(error) = self.inner.store.settle().await {
            tracing::error!(%error, "the store could not be settled");
        }
    }
}

impl Inner {
    /// A channel that there was not: its task begins, in an epoch of its own. It is in no list yet.
    pub(super) fn add(
        &self,
        (index, epoch): (usize, u64),
        channel: config::Channel,
        prepared: Prepared,
    ) -> Arc<ChannelHandle> {
        let enabled = channel.enabled;
        let config = Arc::new(channel);
        let (mail, mailbox) = mailbox(config.limits.mailbox);
        let (commands, orders) = mpsc::channel(COMMANDS);
        let chronicle = Chronicle::open(config.id.clone(), self.store.clone(), self.clock);
        let keeper = self.keeper(&chronicle);
        let journals: Arc<[_]> = config
            .links
            .iter()
            .map(|link| {
                let link = Arc::new(link.clone());
                Journal::open(config.id.clone(), link, self.clock, Some(keeper.clone()))
            })
            .collect();
        let connections = Connections::new(
            &config,
            self.clock,
            mail.clone(),
            self.dials.clone(),
            journals.clone(),
            self.links.clone(),
        );
        let shared = self.share((index, 0, epoch), config, chronicle, journals, None);
        if let Some(aside) = self.store.set_aside() {
            let sentence = format!(
                "the host's database was damaged: what was known of this channel, its saved state included, was set aside with it in {}",
                aside.display()
            );
            shared.chronicle().warned(self.started_at, 0, &sentence);
        }
        let start = |machine: &mut Machine, now| machine.order(Order::Start, now, now);
        if enabled && let Err(denied) = shared.steer(start, |_| "the host starts".to_owned()) {
            tracing::error!(instance = %shared.instance(), %denied, "the channel cannot start");
        }
        let handle = self.handle(&shared, &prepared, (mail, commands), Arc::default());
        let life = Life {
            shared,
            prepared,
            mailbox,
            connections,
            flight: self.flight.clone(),
            commands: orders,
            limiter: self.limiter.clone(),
            removal: None,
            renewal: None,
            renewed: false,
            rests: false,
            ended_in_order: false,
        };
        self.lives.spawn(life.run());
        handle
    }

    /// What a channel is, with another configuration, and how its task goes over to that. Its handle is in no list yet.
    pub(super) fn renewal(
        &self,
        old: &ChannelHandle,
        channel: config::Channel,
        prepared: Prepared,
        deadline: MonotonicNs,
    ) -> (Arc<ChannelHandle>, Command, oneshot::Receiver<()>) {
        let before = old.shared.config();
        let config = Arc::new(channel);
        let chronicle = old.shared.chronicle().clone();
        let keeper = self.keeper(&chronicle);
        let journals: Arc<[_]> = config
            .links
            .iter()
            .map(|link| {
                let known = old.shared.journals().iter();
                let mut known = known.filter(|journal| journal.name() == link.name);
                let now = Arc::new(link.clone());
                match known.next() {
                    Some(journal) => {
                        journal.reconfigure(now);
                        journal.clone()
                    }
                    None => Journal::open(config.id.clone(), now, self.clock, Some(keeper.clone())),
                }
            })
            .collect();
        let meaning_stays = before.driver == config.driver
            && before.sha256 == config.sha256
            && before.settings == config.settings
            && *old.driver() == prepared.identity();
        let other = (before.limits.mailbox != config.limits.mailbox)
            .then(|| mailbox(config.limits.mailbox));
        let mail = match &other {
            Some((mail, _)) => mail.clone(),
            None => old.mail().clone(),
        };
        let edition = old.shared.edition() + 1;
        let place = (old.shared.index(), edition, old.shared.epoch());
        let kept = Some(old.shared.kept());
        let shared = self.share(place, config, chronicle, journals, kept);
        let ways = (mail, old.commands_in().clone());
        let handle = self.handle(&shared, &prepared, ways, old.pace().clone());
        let (done, is_done) = oneshot::channel();
        let renewal = Renewal {
            shared,
            prepared,
            meaning_stays,
            mailbox: other,
            deadline,
            done,
        };
        (handle, Command::Renew(Box::new(renewal)), is_done)
    }

    fn keeper(&self, chronicle: &Arc<Chronicle>) -> Keeper {
        Keeper {
            store: self.store.clone(),
            bus: self.bus.clone(),
            chronicle: chronicle.clone(),
        }
    }

    fn share(
        &self,
        (index, edition, epoch): (usize, u64, u64),
        config: Arc<config::Channel>,
        chronicle: Arc<Chronicle>,
        journals: Arc<[Arc<Journal>]>,
        kept: Option<Kept>,
    ) -> Arc<Shared> {
        Arc::new(Shared::new(SharedParts {
            index,
            edition,
            epoch,
            config,
            bus: self.bus.clone(),
            clock: self.clock,
            store: self.store.clone(),
            chronicle,
            journals,
            kept,
        }))
    }

    fn handle(
        &self,
        shared: &Arc<Shared>,
        prepared: &Prepared,
        (mail, commands): (mpsc::Sender<Mail>, mpsc::Sender<Command>),
        pace: Arc<Pace>,
    ) -> Arc<ChannelHandle> {
        Arc::new(ChannelHandle::new(HandleParts {
            shared: shared.clone(),
            info: prepared.info.clone(),
            driver: prepared.identity(),
            needs: prepared.needs,
            mailbox: mail,
            commands,
            requests: self.requests.clone(),
            audit: self.audit.clone(),
            pace,
        }))
    }

    /// What goes on beside the channels, until the host stops.
    fn watch(&self) {
        let (channels, stopping) = (self.channels.clone(), self.stopping.clone());
        self.lives.spawn(async move {
            let keeping = keep_statistics(&channels);
            stopping.run_until_cancelled(keeping).await;
        });
        let (channels, stopping) = (self.channels.clone(), self.stopping.clone());
        self.lives.spawn(async move {
            let watching = network::watch(|change| {
                for channel in &*channels.now() {
                    for journal in channel.journals() {
                        journal.network_changed(change);
                    }
                }
            });
            stopping.run_until_cancelled(watching).await;
        });
    }
}

/// Has the store take the statistics of all channels, now and then.
async fn keep_statistics(channels: &Registry) {
    loop {
        tokio::time::sleep(KEEP_STATISTICS).await;
        for channel in &*channels.now() {
            keep_now(&channel.shared);
        }
    }
}

/// Has the store take the statistics of a channel.
pub(super) fn keep_now(channel: &Shared) {
    channel.chronicle().ask();
    for journal in channel.journals().iter() {
        journal.ask();
    }
}
