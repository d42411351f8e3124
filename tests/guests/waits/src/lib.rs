//! Waits inside a poll instead of setting a timer, in one of the ways that ported code does: `settings = { how = "sleep" }`.

use std::time::{Duration, Instant};

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Info, NoSettings, Poll, PollReport,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The driver.
pub struct Waits {
    how: How,
    context: Context,
}

/// How it waits.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Sleeps for an hour.
    Sleep,
    /// Looks at the clock until an hour has passed. The clock stands still, so this never ends.
    Watch,
    /// Reads a line from standard input, which has none: this returns.
    Stdin,
}

/// What the operator asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    how: How,
}

impl Driver for Waits {
    type Settings = Settings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "waits",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "anything",
            links: &[],
            can: Capabilities::empty(),
        }
    }

    fn configure(config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            how: config.settings.how,
            context,
        })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        const HOUR: Duration = Duration::from_secs(3600);
        match self.how {
            How::Sleep => std::thread::sleep(HOUR),
            How::Watch => watch_the_clock(HOUR),
            How::Stdin => {
                let mut line = String::new();
                let read = std::io::stdin().read_line(&mut line);
                self.context.info(format!("standard input: {read:?}"));
            }
        }
        Ok(PollReport::default())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the guest looks at the clock that WASI gives it"
)]
fn watch_the_clock(duration: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < duration {}
}

bulkhead_sdk::export!(Waits);
