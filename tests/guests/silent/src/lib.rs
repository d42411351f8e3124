//! Answers nothing: no poll, no request, no `stop`. It takes every turn in good order and returns an empty list.
#![cfg(target_arch = "wasm32")]

use bulkhead_sdk::abi::{
    Action, Capabilities, ChannelConfig, ConfigFault, DriverInfo, Error, Event, Instant,
};
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;

struct Silent;

impl Guest for Silent {
    fn describe() -> DriverInfo {
        DriverInfo {
            name: "silent".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: "none".to_owned(),
            settings_schema: "{}".to_owned(),
            device_schema: "{}".to_owned(),
            tag_schema: "{}".to_owned(),
            address_help: "anything".to_owned(),
            links: Vec::new(),
            commands: Vec::new(),
            can: Capabilities::READ | Capabilities::WRITE | Capabilities::COMMANDS,
        }
    }

    fn configure(_config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        Ok(())
    }

    fn turn(_now: Instant, _events: Vec<Event>) -> Result<Vec<Action>, Error> {
        Ok(Vec::new())
    }
}

bulkhead_sdk::bindings::export_component!(Silent with_types_in bulkhead_sdk::bindings);
