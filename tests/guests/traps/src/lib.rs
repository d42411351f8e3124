//! A generator that panics when its settings say so, a few named functions deep.
//!
//! `settings = { when = "poll", after = 3 }` lets three polls pass and panics in the fourth. Until then every tag of a due
//! group is the number of its poll cycle, so a test knows each value.

use std::cell::Cell;
use std::time::Duration;

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Group, Info, NoSettings, Poll,
    PollReport, Quality, Sample, Start, Value, Write,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// How long after its start it panics by its timer.
const FUSE: Duration = Duration::from_millis(20);

/// The driver.
pub struct Traps {
    settings: Settings,
    groups: Vec<Group>,
    context: Context,
    seen: Cell<u32>,
}

/// When it panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Not at all.
    Never,
    /// While it takes its configuration.
    Configure,
    /// In its first turn.
    Start,
    /// In a poll.
    Poll,
    /// In a write.
    Write,
    /// Some time after its start, in a task of its own: no event of the host is to blame.
    Timer,
}

/// What the operator asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default = "never")]
    when: When,
    /// How many polls or writes pass before.
    #[serde(default)]
    after: u32,
}

fn never() -> When {
    When::Never
}

impl Traps {
    fn reach(&self, when: When) {
        if self.settings.when != when {
            return;
        }
        let seen = self.seen.get();
        self.seen.set(seen + 1);
        if seen >= self.settings.after {
            decode_reply(&[seen]);
        }
    }
}

impl Driver for Traps {
    type Settings = Settings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "traps",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "anything",
            links: &[],
            can: Capabilities::WRITE,
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        let driver = Self {
            settings: config.settings,
            groups: config.groups,
            context,
            seen: Cell::new(0),
        };
        driver.reach(When::Configure);
        Ok(driver)
    }

    async fn start(&self, _start: Start) -> Result<(), Error> {
        self.reach(When::Start);
        if self.settings.when == When::Timer {
            let sleep = self.context.sleep(FUSE);
            self.context.spawn(async move {
                sleep.await;
                decode_reply(&[]);
            });
        }
        Ok(())
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        self.reach(When::Poll);
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
        self.reach(When::Write);
        Ok(write.read_back.then_some(write.value))
    }
}

/// Stands for the place in a real driver where a reply is taken apart.
#[inline(never)]
fn decode_reply(reply: &[u32]) -> u32 {
    read_register(reply, reply.len()) + 1
}

#[inline(never)]
fn read_register(reply: &[u32], at: usize) -> u32 {
    reply[at]
}

bulkhead_sdk::export!(Traps);
