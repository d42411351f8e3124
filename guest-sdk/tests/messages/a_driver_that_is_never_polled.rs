use bulkhead_sdk::{Config, Context, Driver, Faults, Info, NoSettings};

struct Furnace;

impl Driver for Furnace {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        panic!("only its types matter")
    }

    fn configure(_config: Config<Self>, _context: Context) -> Result<Self, Faults> {
        panic!("only its types matter")
    }

}

bulkhead_sdk::export!(Furnace);

fn main() {}
