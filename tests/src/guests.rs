//! Guests at work: where they lie, one engine for all tests of a binary, and a life with a few words.
//!
//! A test that uses a guest names it in a call of [`path`] or [`driver`]; `house.rs` sees to it that each is named.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bulkhead::bindings::actions::Action;
use bulkhead::bindings::config::{ChannelConfig, Device, Group, Link, Tag};
use bulkhead::bindings::events::{Event, Happening, Poll, Start, StartReason};
use bulkhead::bindings::types::Value;
use bulkhead::config::CompileLimits;
use bulkhead::driver::{Budget, Driver, Instance, InstanceSpec};
use bulkhead::engine::{Compiler, Engine, EngineOptions, Pool};
use bulkhead::event::{MonotonicNs, WallNs};
use bulkhead::exit::Exit;
use bulkhead::ids::{ChannelId, InstanceId};

use crate::paths;

/// The file of a guest of `tests/guests/`.
///
/// # Panics
///
/// Where it is not built, with the command that builds it.
pub fn path(name: &str) -> PathBuf {
    paths::guest(name).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The file of a driver of `channels/`.
///
/// # Panics
///
/// As [`path`].
pub fn driver_path(name: &str) -> PathBuf {
    paths::driver(name).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The engine that all tests of one binary share, with room for 64 instances of 512 MiB.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let cache = paths::root().join("target/test-cache");
        Engine::new(&EngineOptions {
            pool: Pool::even(64, 512 << 20),
            cache_dir: cache,
            compiler: Compiler::InProcess,
            compile: CompileLimits::default(),
        })
        .expect("an engine for the tests")
    })
}

/// A guest, loaded.
pub fn driver(name: &str) -> Driver {
    Driver::load(engine(), &path(name), None).unwrap_or_else(|error| panic!("{error}"))
}

/// Fuel for ten million instructions and a minute of time: tests that mean either say so.
pub const BUDGET: Budget = Budget {
    fuel: 10_000_000,
    deadline: Duration::from_secs(60),
};

/// An instance of the channel `test`, with 32 MiB and the seed 7.
pub fn spec() -> InstanceSpec {
    InstanceSpec {
        instance: InstanceId {
            channel: ChannelId::new("test").expect("a good name"),
            incarnation: 1,
        },
        memory: 32 << 20,
        seed: 7,
        start: Budget {
            fuel: 100_000_000,
            ..BUDGET
        },
        turn: BUDGET,
    }
}

/// A channel with one device and one group of the given tags: address and type of each.
pub fn config(settings: &str, tags: &[(&str, &str)]) -> ChannelConfig {
    let tags: Vec<Tag> = (0..)
        .zip(tags)
        .map(|(id, (address, data_type))| Tag {
            id,
            device: 0,
            name: format!("tag-{id}"),
            address: (*address).to_owned(),
            data_type: (*data_type).to_owned(),
            readable: true,
            writable: true,
            settings: "{}".to_owned(),
        })
        .collect();
    ChannelConfig {
        name: "channel".to_owned(),
        settings: settings.to_owned(),
        links: Vec::new(),
        devices: vec![Device {
            id: 0,
            name: "device".to_owned(),
            address: String::new(),
            settings: "{}".to_owned(),
            link: None,
        }],
        groups: vec![Group {
            id: 0,
            name: "all".to_owned(),
            period_ns: 100_000_000,
            tags: tags.iter().map(|tag| tag.id).collect(),
        }],
        tags,
    }
}

/// As [`config`], with ten numbers and no link.
pub fn ten_tags(settings: &str) -> ChannelConfig {
    config(settings, &[("x", "float64"); 10])
}

/// As [`ten_tags`], with the link `peer`.
pub fn with_peer(settings: &str) -> ChannelConfig {
    let link = Link {
        id: 0,
        name: "peer".to_owned(),
        kind: "tcp".to_owned(),
        listens: false,
    };
    ChannelConfig {
        links: vec![link],
        ..ten_tags(settings)
    }
}

/// The first event of a life.
pub fn started() -> Happening {
    Happening::Started(Start {
        incarnation: 1,
        reason: StartReason::First,
        state: None,
        connections: Vec::new(),
        features: Vec::new(),
    })
}

/// The group of [`config`] is due.
pub fn poll(cycle: u64) -> Happening {
    Happening::Poll(Poll {
        group: 0,
        cycle,
        scheduled_ns: moment(cycle).0.0,
        skip: Vec::new(),
    })
}

/// The time of the turn with this number: 10 ms apart, from 2026 on.
pub fn moment(turn: u64) -> (MonotonicNs, WallNs) {
    let since = turn * 10_000_000;
    (
        MonotonicNs(1_000_000_000 + since),
        WallNs(1_767_225_600_000_000_000 + since),
    )
}

/// One life, turn by turn.
pub struct Life {
    instance: Instance,
    turns: u64,
}

impl Life {
    /// Instantiates and configures; a configuration with faults fails the test.
    pub async fn begin(
        driver: &Driver,
        spec: InstanceSpec,
        config: &ChannelConfig,
    ) -> Result<Self, Exit> {
        let instance = Instance::start(driver, spec, moment(0)).await?;
        let (instance, answer) = instance.configure(config, moment(0)).await?;
        assert!(answer.is_ok(), "{answer:?}");
        Ok(Self { instance, turns: 0 })
    }

    /// Takes one turn with these events.
    pub async fn turn(
        mut self,
        happenings: impl IntoIterator<Item = Happening>,
    ) -> Result<(Self, Vec<Action>), Exit> {
        self.turns += 1;
        let now = moment(self.turns);
        let events: Vec<Event> = happenings
            .into_iter()
            .map(|what| Event {
                at_ns: now.0.0,
                what,
            })
            .collect();
        let (instance, actions) = self.instance.turn(now, &events).await?;
        Ok((
            Self {
                instance,
                turns: self.turns,
            },
            actions,
        ))
    }

    /// The instance itself.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}

/// Begins a life and takes its first turn, then one poll in each turn, until it ends.
pub async fn exit_within(
    polls: u64,
    driver: &Driver,
    spec: InstanceSpec,
    config: &ChannelConfig,
) -> Exit {
    match polled(polls, driver, spec, config).await {
        Ok((_, actions)) => panic!("{polls} polls went well; the last: {:?}", actions.last()),
        Err(exit) => exit,
    }
}

/// Begins a life and takes its first turn, then one poll in each turn; gives the actions of every turn.
pub async fn polled(
    polls: u64,
    driver: &Driver,
    spec: InstanceSpec,
    config: &ChannelConfig,
) -> Result<(Life, Vec<Vec<Action>>), Exit> {
    let life = Life::begin(driver, spec, config).await?;
    let (mut life, first) = life.turn([started()]).await?;
    let mut all = vec![first];
    for cycle in 1..=polls {
        let (next, actions) = life.turn([poll(cycle)]).await?;
        life = next;
        all.push(actions);
    }
    Ok((life, all))
}

/// The texts in the order in which they were published; other values fail the test.
pub fn texts(actions: &[Action]) -> Vec<String> {
    values(actions)
        .into_iter()
        .map(|value| match value {
            Value::Text(text) => text,
            other => panic!("{other:?} is no text"),
        })
        .collect()
}

/// The numbers in the order in which they were published; other values fail the test.
pub fn numbers(actions: &[Action]) -> Vec<f64> {
    values(actions)
        .into_iter()
        .map(|value| match value {
            Value::Float(number) => number,
            other => panic!("{other:?} is no number"),
        })
        .collect()
}

fn values(actions: &[Action]) -> Vec<Value> {
    let published = actions.iter().filter_map(|action| match action {
        Action::Publish(publish) => Some(&publish.samples),
        _ => None,
    });
    published
        .flatten()
        .map(|sample| sample.value.clone().expect("a value"))
        .collect()
}
