//! A generator whose health is what was written to it: 0 is well, 1 is ill, 2 is silent when it is asked.
//!
//! It polls on in any mood, so that a test can tell health from work. Every tag of a due group is the number of its poll
//! cycle.

use std::cell::Cell;

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Group, Info, NoSettings, Poll,
    PollReport, Quality, Sample, Value, Write,
};

/// The driver.
pub struct Ails {
    groups: Vec<Group>,
    context: Context,
    mood: Cell<Mood>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Ill,
    Silent,
}

impl Driver for Ails {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "ails",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "anything",
            links: &[],
            can: Capabilities::WRITE,
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            groups: config.groups,
            context,
            mood: Cell::new(Mood::Well),
        })
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        let due = self
            .groups
            .iter()
            .filter(|group| group.id == poll.group)
            .flat_map(|group| &group.tags);
        let samples = due.map(|tag| Sample {
            tag: *tag,
            value: Some(Value::Float(poll.cycle as f64)),
            quality: Quality::Good,
            source_time_ns: None,
        });
        self.context.publish(samples.collect());
        Ok(PollReport::default())
    }

    async fn write(&self, write: Write) -> Result<Option<Value>, Error> {
        self.mood.set(match write.value {
            Value::Float(1.0) => Mood::Ill,
            Value::Float(2.0) => Mood::Silent,
            _ => Mood::Well,
        });
        Ok(None)
    }

    async fn health(&self) -> Result<(), Error> {
        match self.mood.get() {
            Mood::Well => Ok(()),
            Mood::Ill => Err(Error::new("the pump is dry")),
            Mood::Silent => std::future::pending().await,
        }
    }
}

bulkhead_sdk::export!(Ails);
