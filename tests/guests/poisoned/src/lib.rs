//! Panics at each encounter with one event of each kind, and lives through all others.
//!
//! - A poll of a group with a tag whose address is `poison`; the other tags are the number of the poll.
//! - A read of a tag whose address is `poison`.
//! - A write of 13.
//! - Bytes `poison` over its link `peer`; others are sent back.
//! - A saved state `poison`. The command `save` keeps its payload as the state, `state` tells what this life began with.
//! - The command `eat` with the payload `poison`; it gives back any other.
//!
//! The command `flaky` panics in two lives of three: it is no poison.

use std::cell::{Cell, RefCell};

use bulkhead_sdk::{
    Capabilities, Command, Config, Connection, Context, Driver, Error, Faults, Group, Info,
    LinkWish, NoSettings, Poll, PollReport, Quality, Read, Sample, Start, Tag, TagId, Value, Write,
};

const POISON: &[u8] = b"poison";

/// The driver.
pub struct Poisoned {
    context: Context,
    connection: Option<Connection>,
    groups: Vec<Group>,
    tags: Vec<Tag<NoSettings>>,
    state: RefCell<Option<Vec<u8>>>,
    incarnation: Cell<u64>,
}

impl Poisoned {
    fn is_poison(&self, id: TagId) -> bool {
        self.tags
            .iter()
            .any(|tag| tag.id == id && tag.address == "poison")
    }
}

/// Where every panic comes from.
#[inline(never)]
fn swallow(what: &str) -> ! {
    panic!("swallowed {what}")
}

impl Driver for Poisoned {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "poisoned",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "`poison`, or anything else",
            links: &[LinkWish {
                name: "peer",
                kinds: &["tcp"],
                required: false,
            }],
            can: Capabilities::READ | Capabilities::WRITE | Capabilities::COMMANDS,
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            context,
            connection: config.link("peer").map(bulkhead_sdk::Link::open),
            groups: config.groups,
            tags: config.tags,
            state: RefCell::default(),
            incarnation: Cell::new(0),
        })
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        if start.state.as_deref() == Some(POISON) {
            swallow("a state");
        }
        self.state.replace(start.state);
        self.incarnation.set(start.incarnation);
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        loop {
            let stream = connection.opened().await.map_err(Error::from)?;
            while let Ok(bytes) = stream.read_some(1024).await {
                if bytes == POISON {
                    swallow("bytes");
                }
                if stream.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        }
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        let due = self.groups.iter().filter(|group| group.id == poll.group);
        let tags: Vec<TagId> = due.flat_map(|group| group.tags.clone()).collect();
        if tags.iter().any(|tag| self.is_poison(*tag)) {
            swallow("a poll");
        }
        let samples = tags.into_iter().map(|tag| good(tag, poll.cycle));
        self.context.publish(samples.collect());
        Ok(PollReport::default())
    }

    async fn read(&self, read: Read) -> Result<Vec<Sample>, Error> {
        if read.tags.iter().any(|tag| self.is_poison(*tag)) {
            swallow("a read");
        }
        Ok(read.tags.into_iter().map(|tag| good(tag, 1)).collect())
    }

    async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
        if write.value == Value::Uint(13) {
            swallow("a value");
        }
        Ok(write.read_back.then_some(write.value))
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        match command.name.as_str() {
            "eat" if command.payload == POISON => swallow("a command"),
            "eat" => Ok(command.payload),
            "flaky" if !self.incarnation.get().is_multiple_of(3) => swallow("nothing at all"),
            "flaky" => Ok(self.incarnation.get().to_string().into()),
            "save" => {
                self.context.save_state(command.payload);
                Ok(Vec::new())
            }
            "state" => {
                let state = self.state.borrow().clone();
                Ok(state.unwrap_or_else(|| b"none".to_vec()))
            }
            other => Err(Error::not_supported(other)),
        }
    }
}

fn good(tag: TagId, value: u64) -> Sample {
    Sample {
        tag,
        value: Some(Value::Uint(value)),
        quality: Quality::Good,
        source_time_ns: None,
    }
}

bulkhead_sdk::export!(Poisoned);
