//! Before anything runs: every driver is loaded once, and every channel's links and settings are checked.
//!
//! All of it is checked, so that an operator sees every fault at once, each with its line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::abi_config::abi_config;
use crate::clock::Clock;
use crate::config::{Channel, Checked, Fault, Faults, Host, Locations};
use crate::driver::{Budget, Driver, DriverInfo, Instance, InstanceSpec, LoadError};
use crate::engine::{Engine, EngineError, EngineOptions};
use crate::exit::Exit;
use crate::ids::InstanceId;

/// What a start-up is doing.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A driver is being loaded; if it is not in the cache it is compiled, which may take seconds.
    Compiling {
        /// The file.
        driver: PathBuf,
        /// Counted from 1.
        index: usize,
        /// How many drivers there are.
        of: usize,
    },
    /// A driver is ready.
    Compiled {
        /// The file.
        driver: PathBuf,
        /// Whether it came out of the cache.
        from_cache: bool,
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
    pub(super) config: Arc<crate::bindings::config::ChannelConfig>,
    /// What the driver can do.
    pub(super) can: Vec<&'static str>,
}

/// A driver's file, and what its digest must be.
type File = (PathBuf, Option<[u8; 32]>);

/// The budget for instantiation, `describe` and `configure`: larger than a turn's, since it comes once.
pub(super) fn start_budget(channel: &Channel) -> Budget {
    Budget {
        fuel: channel.limits.fuel_per_turn.max(2_000_000_000),
        deadline: channel.limits.turn_deadline.max(Duration::from_secs(10)),
    }
}

/// The engine for a configuration.
pub(super) fn engine(config: &Host) -> Result<Engine, EngineError> {
    let max_memory = config
        .channels
        .iter()
        .map(|channel| channel.limits.memory)
        .max();
    Engine::new(&EngineOptions {
        instances: u32::try_from(config.channels.len()).unwrap_or(u32::MAX),
        max_memory: max_memory.unwrap_or(1 << 20),
        cache_dir: Some(config.data_dir.join("cache")),
    })
}

/// Checks what only the drivers can check, without starting anything: the files, the links they wish for, the settings.
/// Gives `None` if there is nothing to say.
pub async fn preflight(
    config: &Checked<Host>,
    progress: impl Fn(Progress),
) -> Result<Option<Faults>, EngineError> {
    let engine = engine(&config.value)?;
    let (_, faults) = prepare(&engine, config, &progress).await;
    Ok(Faults::new(config.locations.file(), faults, 0))
}

/// Loads every driver and checks every channel. A channel with a fault has no entry.
pub(super) async fn prepare(
    engine: &Engine,
    config: &Checked<Host>,
    progress: &impl Fn(Progress),
) -> (HashMap<usize, Prepared>, Vec<Fault>) {
    let mut drivers: HashMap<File, Result<(Driver, DriverInfo), String>> = HashMap::new();
    let mut wanted: Vec<File> = Vec::new();
    let mut paths = Vec::with_capacity(config.value.channels.len());
    for channel in &config.value.channels {
        let path = existing(&channel.driver.candidates());
        let key = (path, channel.sha256);
        if !wanted.contains(&key) {
            wanted.push(key.clone());
        }
        paths.push(key);
    }
    for (index, key) in wanted.iter().enumerate() {
        let loaded = load(engine, key, (index + 1, wanted.len()), progress).await;
        drivers.insert(key.clone(), loaded);
    }
    let mut ready = HashMap::new();
    let mut faults = Vec::new();
    for (index, (channel, key)) in config.value.channels.iter().zip(&paths).enumerate() {
        let found = match &drivers[key] {
            Ok((driver, info)) => check_channel(channel, driver, info).await,
            Err(reason) => Err(vec![("driver".to_owned(), reason.clone())]),
        };
        match found {
            Ok(prepared) => drop(ready.insert(index, prepared)),
            Err(found) => faults.extend(locate(&config.locations, channel, found)),
        }
    }
    (ready, faults)
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

async fn load(
    engine: &Engine,
    key: &File,
    (index, of): (usize, usize),
    progress: &impl Fn(Progress),
) -> Result<(Driver, DriverInfo), String> {
    let path = key.0.clone();
    progress(Progress::Compiling {
        driver: path.clone(),
        index,
        of,
    });
    let began = Instant::now();
    let (misses, _) = engine.cache_misses_and_hits();
    let driver = load_blocking(engine, &path, key.1).await?;
    let from_cache = engine.cache_misses_and_hits().0 == misses;
    progress(Progress::Compiled {
        driver: path,
        from_cache,
        took: began.elapsed(),
    });
    let fault = |exit: Exit| {
        let path = key.0.display();
        format!("{path}: {exit}; {}", exit.kind.remedy())
    };
    let instance = scratch(&driver, &describe_spec()).await.map_err(fault)?;
    let (_, info) = instance.describe().await.map_err(fault)?;
    Ok((driver, info))
}

async fn load_blocking(
    engine: &Engine,
    path: &Path,
    sha256: Option<[u8; 32]>,
) -> Result<Driver, String> {
    let (engine, path) = (engine.clone(), path.to_owned());
    tokio::task::spawn_blocking(move || Driver::load(&engine, &path, sha256.as_ref()))
        .await
        .map_err(|error| format!("loading failed: {error}"))?
        .map_err(|error: LoadError| error.to_string())
}

fn describe_spec() -> InstanceSpec {
    let budget = Budget {
        fuel: 2_000_000_000,
        deadline: Duration::from_secs(10),
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
    info: &DriverInfo,
) -> Result<Prepared, Vec<(String, String)>> {
    let mut faults = check_links(channel, info);
    let config = Arc::new(abi_config(channel));
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
                .map(|fault| (fault.at, fault.message))
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
            config,
            can: info.can.clone(),
        })
    } else {
        Err(faults)
    }
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
                    "the driver {} takes {} here, not {}; change `connect`",
                    info.name,
                    wish.kinds.join(" or "),
                    link.connect.kind()
                ),
            )),
            None | Some(_) => {}
        }
    }
    for link in &channel.links {
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
