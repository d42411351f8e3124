//! Before anything runs: every driver is loaded once, and every channel's links and settings are checked. A reload does the same
//! with the channels that are others.
//!
//! All of it is checked, so that an operator sees every fault at once, each with its line.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::abi_config::abi_config;
use crate::clock::Clock;
use crate::config::{Channel, Checked, Fault, Faults, Host, Locations};
use crate::driver::{Budget, Driver, DriverInfo, Instance, InstanceSpec, LoadError, Verified};
use crate::engine::{Compiler, Engine, EngineError, EngineOptions, Pool};
use crate::exit::Exit;
use crate::ids::{InstanceId, LinkId};
use crate::limits::{MEMORY, START_FUEL, START_TIME, TEXT_BYTES};
use crate::link::check_tls;
use crate::recorder::Secrets;
use crate::text::shown;

/// What a start-up is doing.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A driver is being loaded; if it is not in the cache it is compiled, which may take seconds. Several may be loaded at
    /// once.
    Compiling {
        /// The file.
        driver: PathBuf,
        /// Counted from 1.
        index: usize,
        /// How many drivers there are.
        of: usize,
    },
    /// A driver is ready, or is known not to be.
    Compiled {
        /// The file.
        driver: PathBuf,
        /// Whether it came out of the cache; `None` if it came not at all.
        from_cache: Option<bool>,
        /// How long it took.
        took: Duration,
    },
    /// The channels are being started.
    Starting {
        /// How many.
        channels: usize,
    },
}

/// A driver that is ready to run, and what it says of itself.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) driver: Driver,
    /// What it says of itself; channels of one driver share it.
    pub(super) info: Arc<DriverInfo>,
    /// What its schemas mark as secret.
    pub(super) secrets: Secrets,
    /// The links without which it is useless.
    pub(super) required: Arc<[LinkId]>,
    /// What an instance of it takes of the pool.
    pub(super) needs: Needs,
}

impl Prepared {
    /// Which driver it is.
    pub(super) fn identity(&self) -> Identity {
        (self.driver.path().to_owned(), *self.driver.digest())
    }
}

/// How many memories and tables a driver has.
pub(super) type Needs = (u64, u64);

/// A driver that is loaded, what it says of itself, and what it takes of the pool.
type Loaded = (Driver, Arc<DriverInfo>, Needs);

/// The longest place that a driver may name in a fault, in bytes.
const MAX_PLACE: usize = 256;

/// A driver's file, and what its digest must be.
type File = (PathBuf, Option<[u8; 32]>);

/// The budget for instantiation, `describe` and `configure`: larger than a turn's, since it comes once.
pub(super) fn start_budget(channel: &Channel) -> Budget {
    Budget {
        fuel: channel.limits.fuel_per_turn.max(START_FUEL),
        deadline: channel.limits.turn_deadline.max(START_TIME),
    }
}

/// Checks what only the drivers can check, without starting anything: the files, the links they wish for, the settings.
/// Gives `None` if there is nothing to say.
pub async fn preflight(
    config: &Checked<Host>,
    compiler: Compiler,
    progress: &dyn Fn(Progress),
) -> Result<Option<Faults>, EngineError> {
    let (_, _, faults) = Workshop::open(config, compiler, progress).await?;
    Ok(Faults::new(config.locations.file(), faults, 0))
}

/// Channels by their places in the file: those that are ready, and the faults of the others.
pub(super) type Made = (HashMap<usize, Prepared>, Vec<Fault>);

/// A driver file with this content.
pub(super) type Identity = (PathBuf, [u8; 32]);

/// Where drivers are loaded and channels are made ready, as long as the host runs.
pub(super) struct Workshop {
    engine: Engine,
    /// What is loaded, by path and digest: channels of one driver share its code.
    loaded: Mutex<HashMap<Identity, Loaded>>,
}

impl Workshop {
    /// Makes the engine, with room for what the drivers of a configuration are made of; loads every driver and checks every
    /// channel. A channel with a fault is not among those that are ready.
    pub(super) async fn open(
        config: &Checked<Host>,
        compiler: Compiler,
        progress: &dyn Fn(Progress),
    ) -> Result<(Self, HashMap<usize, Prepared>, Vec<Fault>), EngineError> {
        let channels: Vec<(usize, &Channel)> = config.value.channels.iter().enumerate().collect();
        let files: Vec<File> = channels
            .iter()
            .map(|(_, channel)| file_of(channel))
            .collect();
        let read = read_all(&distinct(&files)).await?;
        let max_memory = channels
            .iter()
            .map(|(_, channel)| channel.limits.memory)
            .max();
        let needs = files.iter().map(|file| match read.get(file) {
            Some(Ok(verified)) => needs_of(verified),
            Some(Err(_)) | None => (0, 0),
        });
        let engine = Engine::new(&EngineOptions {
            pool: Pool::of(needs, max_memory.unwrap_or(1 << 20)).with_growth(),
            cache_dir: config.value.data_dir.join("cache"),
            compiler,
            compile: config.value.compile.clone(),
        })?;
        let workshop = Self {
            engine,
            loaded: Mutex::default(),
        };
        let locations = &config.locations;
        let (ready, faults) = workshop.check(&channels, read, locations, progress).await?;
        Ok((workshop, ready, faults))
    }

    /// Loads the drivers of some channels of a file, unless they are loaded, and checks the channels.
    pub(super) async fn make(
        &self,
        channels: &[(usize, &Channel)],
        locations: &Locations,
        progress: &dyn Fn(Progress),
    ) -> Result<Made, EngineError> {
        let files: Vec<File> = channels
            .iter()
            .map(|(_, channel)| file_of(channel))
            .collect();
        let read = read_all(&distinct(&files)).await?;
        self.check(channels, read, locations, progress).await
    }

    /// The room that there is for instances.
    pub(super) fn pool(&self) -> Pool {
        self.engine.pool()
    }

    /// Forgets drivers that no channel has.
    pub(super) fn forget_all_but(&self, used: &HashSet<Identity>) {
        self.loaded().retain(|driver, _| used.contains(driver));
    }

    async fn check(
        &self,
        channels: &[(usize, &Channel)],
        read: HashMap<File, Result<Verified, String>>,
        locations: &Locations,
        progress: &dyn Fn(Progress),
    ) -> Result<Made, EngineError> {
        let begins: HashMap<File, u64> = read
            .iter()
            .filter_map(|(file, read)| Some((file.clone(), read.as_ref().ok()?)))
            .map(|(file, verified)| (file, verified.census().memory_bytes))
            .collect();
        let too_little = |channel: &Channel, file: &File| {
            let begins = *begins.get(file)?;
            (begins > channel.limits.memory).then_some(begins)
        };
        // A driver that begins with more memory than each of its channels has is not compiled: that would fail for the same
        // reason.
        let wanted: Vec<File> = channels
            .iter()
            .map(|(_, channel)| (file_of(channel), channel))
            .filter(|(file, channel)| too_little(channel, file).is_none())
            .map(|(file, _)| file)
            .collect();
        let drivers = self.load_all(&distinct(&wanted), read, progress).await?;
        let (mut ready, mut faults) = (HashMap::new(), Vec::new());
        for (index, channel) in channels {
            let file = file_of(channel);
            let found = match drivers.get(&file) {
                _ if let Some(begins) = too_little(channel, &file) => {
                    Err(vec![too_little_memory(&file.0, begins)])
                }
                Some(Ok((driver, info, needs))) => {
                    let checked = check_channel(channel, driver, info).await;
                    checked.map(|prepared| Prepared {
                        needs: *needs,
                        ..prepared
                    })
                }
                Some(Err(reason)) => Err(vec![("driver".to_owned(), reason.clone())]),
                None => Err(vec![(
                    "driver".to_owned(),
                    "the file was not read".to_owned(),
                )]),
            };
            match found {
                Ok(prepared) => drop(ready.insert(*index, prepared)),
                Err(found) => faults.extend(locate(locations, channel, found)),
            }
        }
        Ok((ready, faults))
    }

    /// Loads drivers, several at once.
    async fn load_all(
        &self,
        wanted: &[File],
        mut read: HashMap<File, Result<Verified, String>>,
        progress: &dyn Fn(Progress),
    ) -> Result<HashMap<File, Result<Loaded, String>>, EngineError> {
        let verified: Vec<_> = wanted
            .iter()
            .enumerate()
            .filter_map(|(index, key)| Some((index, key, read.remove(key)?)))
            .collect();
        let mut loading = futures_util::stream::iter(verified)
            .map(|(index, key, file)| async move {
                let loaded = match file {
                    Ok(file) => self.load(file, (index + 1, wanted.len()), progress).await,
                    Err(reason) => Err(LoadFault::OfDriver(reason)),
                };
                (key, loaded)
            })
            .buffer_unordered(at_once());
        let mut drivers = HashMap::new();
        while let Some((key, loaded)) = loading.next().await {
            let loaded = match loaded {
                Ok(loaded) => Ok(loaded),
                Err(LoadFault::OfDriver(reason)) => Err(reason),
                Err(LoadFault::OfHost(reason)) => return Err(EngineError::Compile(reason)),
            };
            drivers.insert(key.clone(), loaded);
        }
        Ok(drivers)
    }

    async fn load(
        &self,
        file: Verified,
        (index, of): (usize, usize),
        progress: &dyn Fn(Progress),
    ) -> Result<Loaded, LoadFault> {
        let path = file.path().to_owned();
        let (identity, needs) = ((path.clone(), *file.digest()), needs_of(&file));
        let loaded = self.loaded().get(&identity).cloned();
        if let Some(loaded) = loaded {
            return Ok(loaded);
        }
        progress(Progress::Compiling {
            driver: path.clone(),
            index,
            of,
        });
        let began = Instant::now();
        let loaded = load_blocking(&self.engine, file).await;
        progress(Progress::Compiled {
            driver: path.clone(),
            from_cache: loaded.as_ref().ok().map(Driver::is_from_cache),
            took: began.elapsed(),
        });
        let driver = loaded?;
        let of_driver = |exit: Exit| {
            let path = path.display();
            LoadFault::OfDriver(format!("{path}: {exit}; {}", exit.kind.remedy()))
        };
        let instance = scratch(&driver, &describe_spec())
            .await
            .map_err(of_driver)?;
        let (_, info) = instance.describe().await.map_err(of_driver)?;
        let loaded = (driver, Arc::new(info), needs);
        self.loaded().insert(identity, loaded.clone());
        Ok(loaded)
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_of(channel: &Channel) -> File {
    (existing(&channel.driver.candidates()), channel.sha256)
}

/// Each once, in their order.
fn distinct(files: &[File]) -> Vec<File> {
    let mut seen = HashSet::new();
    files
        .iter()
        .filter(|file| seen.insert(*file))
        .cloned()
        .collect()
}

/// The fault of a channel whose driver begins with more memory than it may have, such as one with an interpreter in it.
fn too_little_memory(driver: &Path, begins: u64) -> (String, String) {
    let remedy = match (begins >> 20) + 2 {
        mib if mib <= MEMORY.most >> 20 => format!(
            "write limits = {{ memory = \"{mib}MiB\" }} or more, since it needs some to work besides"
        ),
        _ => "no channel may have that much: use another driver".to_owned(),
    };
    let message = format!(
        "{} begins with {:.1} MiB of memory, which is more than this channel may have; {remedy}",
        driver.display(),
        begins as f64 / f64::from(1 << 20),
    );
    ("limits.memory".to_owned(), message)
}

fn needs_of(file: &Verified) -> Needs {
    (file.census().memories, file.census().tables)
}

/// How many files are read, or loaded, at once.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Reads and verifies the files, before anything is made or compiled.
async fn read_all(wanted: &[File]) -> Result<HashMap<File, Result<Verified, String>>, EngineError> {
    let mut reading = futures_util::stream::iter(wanted.iter().cloned())
        .map(|file| async move {
            let (path, pinned) = file.clone();
            let read = tokio::task::spawn_blocking(move || Verified::read(&path, pinned.as_ref()));
            (file, read.await)
        })
        .buffer_unordered(at_once());
    let mut files = HashMap::new();
    while let Some((file, read)) = reading.next().await {
        let read = read
            .map_err(|error| EngineError::Compile(format!("reading a driver failed: {error}")))?;
        files.insert(file, read.map_err(|error| error.to_string()));
    }
    Ok(files)
}

/// Whose fault it is that a driver is not there.
enum LoadFault {
    OfDriver(String),
    OfHost(String),
}

fn locate(locations: &Locations, channel: &Channel, found: Vec<(String, String)>) -> Vec<Fault> {
    locations.faults(
        &channel.id,
        found
            .iter()
            .map(|(at, message)| (at.as_str(), message.clone())),
    )
}

/// The first path that exists; the first of all where none does.
fn existing(candidates: &[PathBuf; 2]) -> PathBuf {
    candidates
        .iter()
        .find(|path| path.exists())
        .unwrap_or(&candidates[0])
        .clone()
}

async fn load_blocking(engine: &Engine, file: Verified) -> Result<Driver, LoadFault> {
    let engine = engine.clone();
    tokio::task::spawn_blocking(move || Driver::from_verified(&engine, &file))
        .await
        .map_err(|error| LoadFault::OfHost(format!("loading a driver failed: {error}")))?
        .map_err(|error| match error {
            LoadError::Host { .. } => LoadFault::OfHost(error.to_string()),
            _ => LoadFault::OfDriver(error.to_string()),
        })
}

fn describe_spec() -> InstanceSpec {
    let budget = Budget {
        fuel: START_FUEL,
        deadline: START_TIME,
    };
    InstanceSpec {
        instance: scratch_id(),
        memory: 64 << 20,
        seed: 0,
        start: budget,
        turn: budget,
    }
}

fn scratch_id() -> InstanceId {
    let channel = crate::ids::ChannelId::new("scratch").expect("the name keeps to the rule");
    InstanceId {
        channel,
        incarnation: 0,
    }
}

async fn scratch(driver: &Driver, spec: &InstanceSpec) -> Result<Instance, Exit> {
    let clock = Clock::start();
    Instance::start(driver, spec.clone(), (clock.monotonic(), clock.wall())).await
}

/// Checks the links that the driver wishes for, then lets a scratch instance look at the configuration.
async fn check_channel(
    channel: &Channel,
    driver: &Driver,
    info: &Arc<DriverInfo>,
) -> Result<Prepared, Vec<(String, String)>> {
    let mut faults = check_links(channel, info);
    let config = abi_config(channel);
    let clock = Clock::start();
    let now = || (clock.monotonic(), clock.wall());
    let spec = InstanceSpec {
        instance: InstanceId {
            channel: channel.id.clone(),
            incarnation: 0,
        },
        memory: channel.limits.memory,
        seed: 0,
        start: start_budget(channel),
        turn: start_budget(channel),
    };
    let configured = match Instance::start(driver, spec, now()).await {
        Ok(instance) => instance
            .configure(&config, now())
            .await
            .map(|(_, answer)| answer),
        Err(exit) => Err(exit),
    };
    match configured {
        Ok(Ok(())) => {}
        Ok(Err(refused)) => {
            // What a driver says of its links the host has said already, with the way to grant them.
            let of_links = |at: &str| at.starts_with("links.") && !faults.is_empty();
            let refused: Vec<_> = refused
                .into_iter()
                .take(Faults::MAX)
                .filter(|fault| !of_links(&fault.at))
                .map(|fault| {
                    (
                        shown(&fault.at, MAX_PLACE),
                        shown(&fault.message, TEXT_BYTES),
                    )
                })
                .collect();
            faults.extend(refused);
        }
        Err(exit) => faults.push((
            "driver".to_owned(),
            format!("{exit}; {}", exit.kind.remedy()),
        )),
    }
    if faults.is_empty() {
        Ok(Prepared {
            driver: driver.clone(),
            info: info.clone(),
            required: required(channel, info),
            needs: (0, 0),
            secrets: Secrets::marked_by(&[
                &info.settings_schema,
                &info.device_schema,
                &info.tag_schema,
            ]),
        })
    } else {
        Err(faults)
    }
}

/// The links without which the driver is useless, by their places.
fn required(channel: &Channel, info: &DriverInfo) -> Arc<[LinkId]> {
    let wished = |name: &str| {
        info.links
            .iter()
            .any(|wish| wish.required && wish.name == name)
    };
    (0u32..)
        .zip(&channel.links)
        .filter(|(_, link)| wished(&link.name))
        .map(|(number, _)| LinkId(number))
        .collect()
}

fn check_links(channel: &Channel, info: &DriverInfo) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for wish in &info.links {
        match channel.links.iter().find(|link| link.name == wish.name) {
            None if wish.required => faults.push((
                "driver".to_owned(),
                format!(
                    "the driver {} needs a link named `{}` ({}); add `links.{} = {{ connect = \"tcp://host:port\" }}`",
                    info.name,
                    wish.name,
                    wish.kinds.join(" or "),
                    wish.name
                ),
            )),
            Some(link) if !wish.kinds.iter().any(|kind| kind == link.connect.kind()) => faults.push((
                format!("link {}", link.name),
                format!(
                    "the driver {} takes {} here, not {}; change `{}`",
                    info.name,
                    wish.kinds.join(" or "),
                    link.connect.kind(),
                    link.connect.key()
                ),
            )),
            None | Some(_) => {}
        }
    }
    for link in &channel.links {
        if let Some(tls) = &link.tls
            && let Err(fault) = check_tls(tls)
        {
            faults.push((format!("link {}", link.name), fault.to_string()));
        }
        if !info.links.iter().any(|wish| wish.name == link.name) {
            let wished: Vec<&str> = info.links.iter().map(|wish| wish.name.as_str()).collect();
            let wished = if wished.is_empty() {
                "no link".to_owned()
            } else {
                wished.join(", ")
            };
            faults.push((
                format!("link {}", link.name),
                format!(
                    "the driver {} uses {wished}; rename this link or remove it",
                    info.name
                ),
            ));
        }
    }
    faults
}
