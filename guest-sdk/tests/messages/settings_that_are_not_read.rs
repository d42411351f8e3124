use bulkhead_sdk::{Config, Context, Driver, Error, Faults, Info, NoSettings, Poll, PollReport};

struct Settings;

struct Furnace;

impl Driver for Furnace {
    type Settings = Settings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        panic!("only its types matter")
    }

    fn configure(_config: Config<Self>, _context: Context) -> Result<Self, Faults> {
        panic!("only its types matter")
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        panic!("only its types matter")
    }
}

bulkhead_sdk::export!(Furnace);

fn main() {}
