//! `bench languages`: one driver in each language, side by side: its size, what it takes to compile and to start, a reading, memory.
//!
//! The drivers are `channels/line` and `channels/line-python`, which do the same. The floor is the one in Rust.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bulkhead::bindings::actions::Action;
use bulkhead::bindings::config::{ChannelConfig, Device, Group, Link, Tag};
use bulkhead::bindings::events::{Event, Happening, Opened, Poll, Received, Start, StartReason};
use bulkhead::config::CompileLimits;
use bulkhead::driver::{Budget, Driver, Instance, InstanceSpec};
use bulkhead::engine::{Compiler, Engine, EngineOptions, Pool};
use bulkhead::event::{MonotonicNs, WallNs};
use bulkhead::ids::{ChannelId, InstanceId};
use tokio::time::Instant;

use crate::host::{driver, root};
use crate::report::{each_ns, quantile};

/// Readings of one round, and rounds, of which the median counts.
const READINGS: usize = 500;
const ROUNDS: usize = 15;

/// More than either needs.
const MEMORY: u64 = 256 << 20;
const BUDGET: Budget = Budget {
    fuel: 2_000_000_000,
    deadline: Duration::from_secs(60),
};

struct Figures {
    driver: &'static str,
    size_mib: f64,
    compile_s: f64,
    load_from_cache_ms: f64,
    start_us: f64,
    reading_us: f64,
    reading_fuel: u64,
    memory_mib: f64,
}

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let all = runtime.block_on(measure())?;
    if json {
        for one in &all {
            println!(
                r#"{{"bench":"languages","driver":"{}","size_mib":{:.2},"compile_s":{:.2},"load_from_cache_ms":{:.1},"start_us":{:.1},"reading_us":{:.2},"reading_fuel":{},"memory_mib":{:.2}}}"#,
                one.driver,
                one.size_mib,
                one.compile_s,
                one.load_from_cache_ms,
                one.start_us,
                one.reading_us,
                one.reading_fuel,
                one.memory_mib
            );
        }
        return Ok(());
    }
    println!(
        "{:<12} {:>9} {:>10} {:>12} {:>10} {:>11} {:>13} {:>11}",
        "driver", "size", "compile", "from cache", "start", "a reading", "its fuel", "memory"
    );
    for one in &all {
        println!(
            "{:<12} {:>5.2} MiB {:>8.2} s {:>9.1} ms {:>7.1} us {:>8.2} us {:>13} {:>7.2} MiB",
            one.driver,
            one.size_mib,
            one.compile_s,
            one.load_from_cache_ms,
            one.start_us,
            one.reading_us,
            one.reading_fuel,
            one.memory_mib
        );
    }
    Ok(())
}

async fn measure() -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for name in ["line", "line-python"] {
        eprintln!("bench: {name}");
        all.push(one(name).await?);
    }
    Ok(all)
}

async fn one(name: &'static str) -> Result<Figures> {
    let path = driver(name)?;
    let cache = root()?.join("target/bench-languages");
    fs::remove_dir_all(&cache).ok();
    let engine = Engine::new(&EngineOptions {
        pool: Pool::even(4, MEMORY),
        cache_dir: cache.clone(),
        compiler: Compiler::InProcess,
        compile: CompileLimits::default(),
    })?;
    let (compiled, compile) = load(&engine, &path)?;
    ensure!(!compiled.is_from_cache(), "the cache was empty");
    let (_, load_from_cache) = load(&engine, &path)?;
    let (mut starts, mut readings) = (Vec::new(), Vec::new());
    let (mut fuel, mut memory) = (0, 0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut life = Life::begin(&compiled).await?;
        starts.push(each_ns(began.elapsed(), 1) / 1e3);
        life = life.reading().await?;
        let began = Instant::now();
        for _ in 0..READINGS {
            life = life.reading().await?;
        }
        readings.push(each_ns(began.elapsed(), READINGS) / 1e3);
        fuel = life.fuel;
        memory = life.instance.stats().peak_memory;
    }
    fs::remove_dir_all(&cache).ok();
    Ok(Figures {
        driver: name,
        size_mib: fs::metadata(&path)?.len() as f64 / f64::from(1 << 20),
        compile_s: compile.as_secs_f64(),
        load_from_cache_ms: load_from_cache.as_secs_f64() * 1e3,
        start_us: quantile(&mut starts, 0.5),
        reading_us: quantile(&mut readings, 0.5),
        reading_fuel: fuel,
        memory_mib: memory as f64 / f64::from(1 << 20),
    })
}

fn load(engine: &Engine, path: &Path) -> Result<(Driver, Duration)> {
    let began = Instant::now();
    let driver = Driver::load(engine, path, None)?;
    Ok((driver, began.elapsed()))
}

/// A driver whose line is up.
struct Life {
    instance: Instance,
    now: u64,
    cycle: u64,
    /// What the last reading took.
    fuel: u64,
}

impl Life {
    async fn begin(driver: &Driver) -> Result<Self> {
        let spec = InstanceSpec {
            instance: InstanceId {
                channel: ChannelId::new("bench")?,
                incarnation: 1,
            },
            memory: MEMORY,
            seed: 7,
            start: BUDGET,
            turn: BUDGET,
        };
        let now = (MonotonicNs(1), WallNs(1));
        let instance = Instance::start(driver, spec, now).await.map_err(ended)?;
        let (instance, answer) = instance.configure(&config(), now).await.map_err(ended)?;
        answer.map_err(|faults| anyhow!("{faults:?}"))?;
        let mut life = Self {
            instance,
            now: 1,
            cycle: 0,
            fuel: 0,
        };
        let started = Happening::Started(Start {
            incarnation: 1,
            reason: StartReason::First,
            state: None,
            connections: Vec::new(),
            features: Vec::new(),
        });
        let actions;
        (life, actions) = life.turn(started).await?;
        let [Action::Open(open)] = actions.as_slice() else {
            bail!("it opens its link first, and did {actions:?}");
        };
        let opened = Happening::Opened(Opened {
            connection: open.connection,
            link: open.link,
            secured: false,
            peer: "a sensor".to_owned(),
            send_window: 65_536,
        });
        Ok(life.turn(opened).await?.0)
    }

    /// A poll of one tag: a turn that asks, and one that publishes the answer.
    async fn reading(mut self) -> Result<Self> {
        self.cycle += 1;
        let poll = Happening::Poll(Poll {
            group: 0,
            cycle: self.cycle,
            scheduled_ns: self.now,
            skip: Vec::new(),
        });
        let (life, asked) = self.turn(poll).await?;
        let fuel = life.instance.stats().fuel;
        let sent = asked.iter().find_map(|action| match action {
            Action::Send(send) => Some(send.connection),
            _ => None,
        });
        let answer = Happening::Received(Received {
            connection: sent.with_context(|| format!("it asks nothing: {asked:?}"))?,
            peer: None,
            bytes: b"OK 21.5\r\n".to_vec(),
        });
        let (mut life, done) = life.turn(answer).await?;
        let published = done
            .iter()
            .any(|action| matches!(action, Action::Publish(_)));
        ensure!(published, "it publishes nothing: {done:?}");
        life.fuel = fuel + life.instance.stats().fuel;
        Ok(life)
    }

    async fn turn(self, what: Happening) -> Result<(Self, Vec<Action>)> {
        let now = self.now + 1_000_000;
        let events = [Event { at_ns: now, what }];
        let taken = self.instance.turn((MonotonicNs(now), WallNs(now)), &events);
        let (instance, actions) = taken.await.map_err(ended)?;
        Ok((
            Self {
                instance,
                now,
                ..self
            },
            actions,
        ))
    }
}

fn ended(exit: bulkhead::exit::Exit) -> anyhow::Error {
    anyhow!("{exit}")
}

fn config() -> ChannelConfig {
    ChannelConfig {
        name: "channel".to_owned(),
        settings: "{}".to_owned(),
        links: vec![Link {
            id: 0,
            name: "line".to_owned(),
            kind: "tcp".to_owned(),
            listens: false,
        }],
        devices: vec![Device {
            id: 0,
            name: "sensor".to_owned(),
            address: String::new(),
            settings: "{}".to_owned(),
            link: None,
        }],
        groups: vec![Group {
            id: 0,
            name: "all".to_owned(),
            period_ns: 1_000_000_000,
            tags: vec![0],
        }],
        tags: vec![Tag {
            id: 0,
            device: 0,
            name: "temp".to_owned(),
            address: "temp".to_owned(),
            data_type: "float64".to_owned(),
            readable: true,
            writable: false,
            settings: "{}".to_owned(),
        }],
    }
}
