//! The host as a whole: start, registry, stop.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flight::Flight;
use super::handle::ChannelHandle;
use super::life::{Command, Life};
use super::prepare::{self, Prepared, Progress};
use super::watchdog::Watchdog;
use crate::audit::{Audit, AuditError};
use crate::bus::Bus;
use crate::channel::{Connections, Shared, SharedParts, mailbox};
use crate::clock::Clock;
use crate::config::{self, Checked, Faults};
use crate::engine::{Compiler, EngineError};
use crate::event::WallNs;
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
    inner: Arc<Inner>,
}

struct Inner {
    channels: Vec<Arc<ChannelHandle>>,
    by_name: HashMap<String, usize>,
    commands: Vec<mpsc::Sender<Command>>,
    bus: Bus,
    clock: Clock,
    store: Store,
    audit: Arc<Audit>,
    started_at: WallNs,
    lives: TaskTracker,
    links: TaskTracker,
    limiter: Arc<Mutex<Limiter>>,
    dials: DialRate,
    /// Watches as long as the host is there.
    _watchdog: Option<Watchdog>,
    /// Ends what goes on beside the channels.
    stopping: CancellationToken,
    flight: Option<Flight>,
}

impl Host {
    /// Locks `data_dir`, loads the drivers, checks every channel, starts those that are enabled.
    pub async fn start(
        config: Checked<config::Host>,
        compiler: Compiler,
        progress: &dyn Fn(Progress),
    ) -> Result<Self, StartError> {
        Self::start_with_bus(config, compiler, Bus::new(), progress).await
    }

    /// As [`Host::start`], on a bus that consumers have already subscribed to, so that they miss nothing.
    pub async fn start_with_bus(
        config: Checked<config::Host>,
        compiler: Compiler,
        bus: Bus,
        progress: &dyn Fn(Progress),
    ) -> Result<Self, StartError> {
        let data_dir: PathBuf = config.value.data_dir.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&data_dir))
            .await
            .map_err(|error| StoreError::Folder {
                path: config.value.data_dir.clone(),
                reason: error.to_string(),
            })??;
        let (mut ready, faults) = prepare::prepare(&config, compiler, progress).await?;
        if let Some(faults) = Faults::new(config.locations.file(), faults, 0) {
            return Err(StartError::Config(faults));
        }
        progress(Progress::Starting {
            channels: config.value.channels.len(),
        });
        let ids: Vec<_> = config
            .value
            .channels
            .iter()
            .map(|channel| channel.id.clone())
            .collect();
        store.reserve_incarnations(ids).await?;

        let flight = match config.value.recorder {
            0 => None,
            bytes => {
                let archive =
                    Archive::open(&config.value.data_dir).map_err(|error| StoreError::Folder {
                        path: config.value.data_dir.clone(),
                        reason: error.to_string(),
                    })?;
                let recorder = Recorder::new(bytes, config.value.channels.len());
                Some(Flight::new(recorder, archive))
            }
        };
        let data_dir = config.value.data_dir.clone();
        let audit = tokio::task::spawn_blocking(move || Audit::open(&data_dir)).await;
        let audit = audit.map_err(|error| StoreError::Folder {
            path: config.value.data_dir.clone(),
            reason: error.to_string(),
        })??;
        let any_link = |channel: &config::Channel| !channel.links.is_empty();
        if config.value.channels.iter().any(any_link) {
            network::look().await;
        }
        let clock = Clock::start();
        let mut inner = Inner {
            channels: Vec::with_capacity(config.value.channels.len()),
            by_name: HashMap::new(),
            commands: Vec::new(),
            bus,
            clock,
            store,
            audit: Arc::new(audit),
            started_at: clock.wall(),
            lives: TaskTracker::new(),
            links: TaskTracker::new(),
            limiter: Arc::new(Mutex::new(Limiter::new(config.value.restarts))),
            dials: DialRate::new(config.value.dials),
            _watchdog: None,
            stopping: CancellationToken::new(),
            flight,
        };
        let requests = Arc::new(AtomicU64::new(0));
        for (index, channel) in config.value.channels.into_iter().enumerate() {
            if let Some(prepared) = ready.remove(&index) {
                inner.add(index, channel, prepared, &requests);
            }
        }
        let watched = inner.channels.iter();
        let watched = watched.map(|channel| Arc::downgrade(&channel.shared));
        inner._watchdog = Some(Watchdog::start(watched.collect()));
        let watched: Vec<_> = inner
            .channels
            .iter()
            .map(|channel| channel.shared.clone())
            .collect();
        let stopping = inner.stopping.clone();
        let journals: Vec<Arc<Journal>> = watched
            .iter()
            .flat_map(|channel| channel.journals().iter().cloned())
            .collect();
        inner.lives.spawn(async move {
            let keeping = keep_statistics(&watched);
            stopping.run_until_cancelled(keeping).await;
        });
        if !journals.is_empty() {
            let stopping = inner.stopping.clone();
            inner.lives.spawn(async move {
                let watching = network::watch(|change| {
                    for journal in &journals {
                        journal.network_changed(change);
                    }
                });
                stopping.run_until_cancelled(watching).await;
            });
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The channels, in the order of the file.
    pub fn channels(&self) -> &[Arc<ChannelHandle>] {
        &self.inner.channels
    }

    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<&Arc<ChannelHandle>> {
        self.inner
            .by_name
            .get(name)
            .map(|index| &self.inner.channels[*index])
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
        for commands in &self.inner.commands {
            // A full queue means that the task is busy with commands; a closed one that it has ended.
            drop(
                tokio::time::timeout_at(
                    clock.instant(deadline),
                    commands.send(Command::Shutdown(deadline)),
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
        for channel in &self.inner.channels {
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
    fn add(
        &mut self,
        index: usize,
        channel: config::Channel,
        prepared: Prepared,
        requests: &Arc<AtomicU64>,
    ) {
        let enabled = channel.enabled;
        let config = Arc::new(channel);
        let (mail, mailbox) = mailbox(config.limits.mailbox);
        let (commands, orders) = mpsc::channel(COMMANDS);
        let chronicle = Chronicle::open(config.id.clone(), self.store.clone(), self.clock);
        let keeper = Keeper {
            store: self.store.clone(),
            bus: self.bus.clone(),
            chronicle: chronicle.clone(),
        };
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
        let shared = Arc::new(Shared::new(SharedParts {
            index,
            config: config.clone(),
            bus: self.bus.clone(),
            clock: self.clock,
            store: self.store.clone(),
            chronicle,
            journals,
        }));
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
        let offer = prepared.offer.clone();
        let life = Life {
            shared: shared.clone(),
            prepared,
            mailbox,
            connections,
            flight: self.flight.clone(),
            commands: orders,
            limiter: self.limiter.clone(),
        };
        self.lives.spawn(life.run());
        self.by_name
            .insert(config.id.to_string(), self.channels.len());
        self.commands.push(commands.clone());
        self.channels.push(Arc::new(ChannelHandle::new(
            shared,
            offer,
            mail,
            commands,
            requests.clone(),
            self.audit.clone(),
        )));
    }
}

/// Has the store take the statistics of all channels, now and then.
async fn keep_statistics(channels: &[Arc<Shared>]) {
    loop {
        tokio::time::sleep(KEEP_STATISTICS).await;
        for channel in channels {
            keep_now(channel);
        }
    }
}

fn keep_now(channel: &Shared) {
    channel.chronicle().ask();
    for journal in channel.journals() {
        journal.ask();
    }
}
