//! A generator that loops for ever when its settings say so: `settings = { when = "poll", after = 3 }`.
//!
//! Its loop calls nothing, so only fuel or an epoch can end it.

use std::cell::Cell;

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Group, Info, NoSettings, Poll,
    PollReport, Quality, Sample, Start, Stop, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The driver.
pub struct Spins {
    settings: Settings,
    groups: Vec<Group>,
    context: Context,
    seen: Cell<u32>,
}

/// When it loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// While it takes its configuration.
    Configure,
    /// In its first turn.
    Start,
    /// In a poll.
    Poll,
    /// When it is asked to stop.
    Stop,
}

/// What the operator asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    when: When,
    /// How many polls pass before.
    #[serde(default)]
    after: u32,
}

impl Spins {
    fn reach(&self, when: When) {
        if self.settings.when != when {
            return;
        }
        let seen = self.seen.get();
        self.seen.set(seen + 1);
        if seen >= self.settings.after {
            spin_for_ever();
        }
    }
}

impl Driver for Spins {
    type Settings = Settings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "spins",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "anything",
            links: &[],
            can: Capabilities::empty(),
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

    async fn stop(&self, _stop: Stop) {
        self.reach(When::Stop);
    }
}

#[inline(never)]
fn spin_for_ever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

bulkhead_sdk::export!(Spins);
