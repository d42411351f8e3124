//! Answers polls until it returns an error from `turn`: `settings = { after = 3 }` lets three polls pass, and `message` is what
//! the error says.
#![cfg(target_arch = "wasm32")]

use std::cell::{Cell, RefCell};

use bulkhead_sdk::abi::{
    Action, Capabilities, ChannelConfig, ConfigFault, DriverInfo, Error, Event, Happening, Instant,
    PollDone, Quality,
};
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;
use serde::Deserialize;

struct Errs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    after: u32,
    #[serde(default = "on_fire")]
    message: String,
}

fn on_fire() -> String {
    "the line is on fire".to_owned()
}

thread_local! {
    static POLLS_LEFT: Cell<u32> = const { Cell::new(0) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Guest for Errs {
    fn describe() -> DriverInfo {
        DriverInfo {
            name: "errs".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: "none".to_owned(),
            settings_schema: r#"{"type":"object","properties":{"after":{"type":"integer"}}}"#
                .to_owned(),
            device_schema: "{}".to_owned(),
            tag_schema: "{}".to_owned(),
            address_help: "anything".to_owned(),
            links: Vec::new(),
            commands: Vec::new(),
            can: Capabilities::empty(),
        }
    }

    fn configure(config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        let settings: Settings = serde_json::from_str(&config.settings).map_err(|error| {
            vec![ConfigFault {
                at: "settings".to_owned(),
                message: error.to_string(),
            }]
        })?;
        POLLS_LEFT.set(settings.after);
        MESSAGE.set(settings.message);
        Ok(())
    }

    fn turn(_now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        let mut actions = Vec::new();
        for event in events {
            match event.what {
                Happening::Poll(poll) => {
                    let Some(left) = POLLS_LEFT.get().checked_sub(1) else {
                        return Err(Error {
                            quality: Quality::Bad,
                            code: Some(17),
                            message: MESSAGE.take(),
                            trace: Some("in the cable\nin the cabinet".to_owned()),
                        });
                    };
                    POLLS_LEFT.set(left);
                    actions.push(Action::PollDone(PollDone {
                        group: poll.group,
                        cycle: poll.cycle,
                        requests: 0,
                        failed: 0,
                        round_trip_ns: None,
                    }));
                }
                Happening::Stop(_) => actions.push(Action::Stopped),
                _ => {}
            }
        }
        Ok(actions)
    }
}

bulkhead_sdk::bindings::export_component!(Errs with_types_in bulkhead_sdk::bindings);
