//! A generator of signals, without links.

use bulkhead_sdk::{
    Capabilities, Config, Context, Driver, Error, Faults, Info, NoSettings, Poll, PollReport,
    Quality, Sample, Value,
};

/// The driver.
#[derive(Debug)]
pub struct Signal {
    context: Context,
}

impl Driver for Signal {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "signal",
            version: env!("CARGO_PKG_VERSION"),
            protocol: "none",
            address_help: "",
            links: &[],
            can: Capabilities::SCRIPTED_TIME,
        }
    }

    fn configure(_config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self { context })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        self.context.publish(vec![Sample {
            tag: 0,
            value: Some(Value::Float(1.0)),
            quality: Quality::Good,
            source_time_ns: None,
        }]);
        Ok(PollReport::default())
    }
}

bulkhead_sdk::export!(Signal);
