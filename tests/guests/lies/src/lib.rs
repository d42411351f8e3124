//! Hands over actions that could not be meant: `settings = { lie = "unknown_tag", after = 3 }`.
//!
//! It answers every event truly (each tag is the number of its poll cycle), except that once, after `after` polls,
//! it puts one lie at the end of an otherwise true list. Nothing of such a list may be applied.
//! Lies about connections need its link `peer`; those about requests are told when one comes.
#![cfg(target_arch = "wasm32")]

mod lie;

use std::cell::RefCell;

use bulkhead_sdk::abi::{
    Action, Capabilities, ChannelConfig, CommandDone, ConfigFault, DriverInfo, Error, Event,
    Happening, Instant, LinkWish, Open, PollDone, Publish, Quality, ReadDone, Sample, TagId, Value,
    WriteDone,
};
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;
use serde::Deserialize;

use lie::Lie;

struct Lies;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    lie: Lie,
    /// How many polls pass before.
    #[serde(default)]
    after: u32,
}

struct State {
    settings: Settings,
    config: ChannelConfig,
    polls: u32,
    /// Of the link `peer`, once it is up.
    send_window: u32,
}

/// The connection over the link `peer`.
const CONNECTION: u32 = 0;

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

impl Guest for Lies {
    fn describe() -> DriverInfo {
        DriverInfo {
            name: "lies".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: "none".to_owned(),
            settings_schema: r#"{"type":"object"}"#.to_owned(),
            device_schema: "{}".to_owned(),
            tag_schema: "{}".to_owned(),
            address_help: "anything".to_owned(),
            links: vec![LinkWish {
                name: "peer".to_owned(),
                kinds: vec!["tcp".to_owned()],
                required: false,
            }],
            commands: Vec::new(),
            can: Capabilities::READ | Capabilities::WRITE | Capabilities::COMMANDS,
        }
    }

    fn configure(config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        let settings = serde_json::from_str(&config.settings).map_err(|error| {
            vec![ConfigFault {
                at: "settings".to_owned(),
                message: error.to_string(),
            }]
        })?;
        STATE.replace(Some(State {
            settings,
            config,
            polls: 0,
            send_window: 0,
        }));
        Ok(())
    }

    fn turn(_now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        STATE.with_borrow_mut(|state| {
            let state = state.as_mut().ok_or_else(|| Error {
                quality: Quality::Bad,
                code: None,
                message: "a turn before any configuration".to_owned(),
                trace: None,
            })?;
            Ok(events
                .into_iter()
                .flat_map(|event| state.answer(event.what))
                .collect())
        })
    }
}

impl State {
    fn answer(&mut self, what: Happening) -> Vec<Action> {
        match what {
            Happening::Started(_) => self
                .config
                .links
                .iter()
                .filter(|link| link.name == "peer")
                .map(|link| {
                    Action::Open(Open {
                        connection: CONNECTION,
                        link: link.id,
                        target: None,
                    })
                })
                .collect(),
            Happening::Opened(opened) => {
                self.send_window = opened.send_window;
                Vec::new()
            }
            Happening::Poll(poll) => {
                let tags: Vec<TagId> = self
                    .config
                    .groups
                    .iter()
                    .filter(|group| group.id == poll.group)
                    .flat_map(|group| group.tags.iter().copied())
                    .collect();
                let samples = tags.iter().map(|tag| sample(*tag, poll.cycle)).collect();
                let done = PollDone {
                    group: poll.group,
                    cycle: poll.cycle,
                    requests: 0,
                    failed: 0,
                    round_trip_ns: None,
                };
                let mut actions = vec![
                    Action::Publish(Publish { id: None, samples }),
                    Action::PollDone(done),
                ];
                if self.polls == self.settings.after {
                    actions.extend(self.settings.lie.in_a_poll(&done, &tags, self.send_window));
                }
                self.polls += 1;
                actions
            }
            Happening::Read(read) => {
                let samples = read.tags.iter().map(|tag| sample(*tag, 0)).collect();
                let truth = ReadDone {
                    request: read.request,
                    answer: Ok(samples),
                };
                self.settings.lie.in_a_read(truth)
            }
            Happening::Write(write) => {
                let truth = WriteDone {
                    request: write.request,
                    answer: Ok(write.read_back.then_some(write.value)),
                };
                self.settings.lie.in_a_write(truth)
            }
            Happening::Command(command) => {
                let truth = CommandDone {
                    request: command.request,
                    answer: Ok(command.payload),
                };
                self.settings.lie.in_a_command(truth)
            }
            Happening::Stop(_) => self.settings.lie.in_a_stop(),
            _ => Vec::new(),
        }
    }
}

fn sample(tag: TagId, cycle: u64) -> Sample {
    Sample {
        tag,
        value: Some(Value::Float(cycle as f64)),
        quality: Quality::Good,
        source_time_ns: None,
    }
}

bulkhead_sdk::bindings::export_component!(Lies with_types_in bulkhead_sdk::bindings);
