//! A generator that takes memory, a piece in every poll: `settings = { piece_mib = 1, gives_in = false, at_once = false }`.
//!
//! One that gives in lives with a refusal: it goes on, and every tag is the number of MiB that it holds. One that
//! does not dies of it, as Rust does by default. `at_once` takes pieces without end in the first poll.

use std::cell::RefCell;

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Group, Info, NoSettings, Poll,
    PollReport, Quality, Sample, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The driver.
pub struct Hoards {
    settings: Settings,
    groups: Vec<Group>,
    context: Context,
    held: RefCell<Vec<Vec<u8>>>,
}

/// What the operator asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default = "one")]
    piece_mib: u32,
    /// Whether it lives with a refusal.
    #[serde(default)]
    gives_in: bool,
    /// Whether one poll takes all that there is.
    #[serde(default)]
    at_once: bool,
}

fn one() -> u32 {
    1
}

impl Hoards {
    /// Takes one more piece; whether there was one.
    #[inline(never)]
    fn hoard(&self) -> bool {
        let size = self.settings.piece_mib as usize * 1024 * 1024;
        let mut piece = Vec::new();
        if self.settings.gives_in {
            if piece.try_reserve_exact(size).is_err() {
                return false;
            }
        } else {
            piece.reserve_exact(size);
        }
        piece.resize(size, 0xa5);
        self.held.borrow_mut().push(piece);
        true
    }
}

impl Driver for Hoards {
    type Settings = Settings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "hoards",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "anything",
            links: &[],
            can: Capabilities::empty(),
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            settings: config.settings,
            groups: config.groups,
            context,
            held: RefCell::default(),
        })
    }

    async fn poll(&self, poll: Poll) -> Result<PollReport, Error> {
        while self.hoard() && self.settings.at_once {}
        let held: usize = self.held.borrow().iter().map(Vec::len).sum();
        let due = self
            .groups
            .iter()
            .filter(|group| group.id == poll.group)
            .flat_map(|group| &group.tags);
        let samples = due.map(|tag| Sample {
            tag: *tag,
            value: Some(Value::Float((held / (1024 * 1024)) as f64)),
            quality: Quality::Good,
            source_time_ns: None,
        });
        self.context.publish(samples.collect());
        Ok(PollReport::default())
    }
}

bulkhead_sdk::export!(Hoards);
