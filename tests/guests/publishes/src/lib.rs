//! Publishes every tag of the channel, as the number of the request, upon each write: the bench measures with it what a
//! sample costs in a batch.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;

use bulkhead_sdk::abi::{
    Action, Capabilities, ChannelConfig, ConfigFault, DriverInfo, Error, Event, Happening, Instant,
    PollDone, Publish, Quality, Sample, Value, WriteDone,
};
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;

struct Publishes;

thread_local! {
    static TAGS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Publishes {
    fn describe() -> DriverInfo {
        DriverInfo {
            name: "publishes".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: "none".to_owned(),
            settings_schema: "{}".to_owned(),
            device_schema: "{}".to_owned(),
            tag_schema: "{}".to_owned(),
            address_help: "anything".to_owned(),
            links: Vec::new(),
            commands: Vec::new(),
            can: Capabilities::WRITE,
        }
    }

    fn configure(config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        TAGS.set(config.tags.iter().map(|tag| tag.id).collect());
        Ok(())
    }

    fn turn(_now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        let mut actions = Vec::new();
        for event in events {
            match event.what {
                Happening::Write(write) => {
                    let sample = |tag: &u32| Sample {
                        tag: *tag,
                        value: Some(Value::Float(write.request as f64)),
                        quality: Quality::Good,
                        source_time_ns: None,
                    };
                    let samples = TAGS.with_borrow(|tags| tags.iter().map(sample).collect());
                    actions.push(Action::Publish(Publish { id: None, samples }));
                    actions.push(Action::WriteDone(WriteDone {
                        request: write.request,
                        answer: Ok(None),
                    }));
                }
                Happening::Poll(poll) => actions.push(Action::PollDone(PollDone {
                    group: poll.group,
                    cycle: poll.cycle,
                    requests: 0,
                    failed: 0,
                    round_trip_ns: None,
                })),
                Happening::Stop(_) => actions.push(Action::Stopped),
                _ => {}
            }
        }
        Ok(actions)
    }
}

bulkhead_sdk::bindings::export_component!(Publishes with_types_in bulkhead_sdk::bindings);
