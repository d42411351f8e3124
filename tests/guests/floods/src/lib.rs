//! Hands over more than anybody wants: `settings = { what = "samples", count = 1000 }`.
//!
//! - `samples`: `count` samples of its first tag in every turn, and a timer of zero, so that the next turn comes at
//!   once. For ever, and each turn is in order.
//! - `actions`: `count` actions in the turn of each poll; a million of them is more than a list may have.
//! - `logs`: `count` log lines in the turn of each poll, with terminal escapes and forged line ends.
//! - `alarms`: `count` alarms in the turn of each poll, with line ends in their words.
//! - `metrics`: `count` metrics of different names in the turn of each poll.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;

use bulkhead_sdk::abi::{
    Action, Alarm, Capabilities, ChannelConfig, ConfigFault, DriverInfo, Error, Event, Happening,
    Instant, Level, Metric, MetricKind, PollDone, Publish, Quality, Sample, SetTimer, Severity,
    Value,
};
use bulkhead_sdk::bindings::bulkhead::channel::log;
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;
use serde::Deserialize;

struct Floods;

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Samples,
    Actions,
    Logs,
    Metrics,
    Alarms,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    what: What,
    count: u32,
}

thread_local! {
    static SETTINGS: RefCell<Settings> = const { RefCell::new(Settings { what: What::Samples, count: 0 }) };
    static FIRST_TAG: RefCell<u32> = const { RefCell::new(0) };
}

impl Guest for Floods {
    fn describe() -> DriverInfo {
        DriverInfo {
            name: "floods".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: "none".to_owned(),
            settings_schema: r#"{"type":"object"}"#.to_owned(),
            device_schema: "{}".to_owned(),
            tag_schema: "{}".to_owned(),
            address_help: "anything".to_owned(),
            links: Vec::new(),
            commands: Vec::new(),
            can: Capabilities::SUBSCRIBE,
        }
    }

    fn configure(config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        let settings: Settings = serde_json::from_str(&config.settings).map_err(|error| {
            vec![ConfigFault {
                at: "settings".to_owned(),
                message: error.to_string(),
            }]
        })?;
        SETTINGS.replace(settings);
        FIRST_TAG.replace(config.tags.first().map_or(0, |tag| tag.id));
        Ok(())
    }

    fn turn(now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        let Settings { what, count } = SETTINGS.with_borrow(Settings::clone);
        let mut actions = Vec::new();
        for event in events {
            match event.what {
                Happening::Poll(poll) => {
                    match what {
                        What::Samples => {}
                        What::Actions => actions.extend((0..count).map(Action::CancelTimer)),
                        What::Logs => (0..count).for_each(|line| {
                            log::write(Level::Info, &format!("line {line}\u{1b}[2J\nERROR forged"));
                        }),
                        What::Alarms => actions.extend((0..count).map(|number| {
                            Action::Alarm(Alarm {
                                code: format!("code\u{1b}[2J-{}", "x".repeat(50)),
                                severity: Severity::Warning,
                                active: number % 2 == 0,
                                message: format!("alarm {number}\nERROR forged"),
                                device: None,
                                source_time_ns: None,
                            })
                        })),
                        What::Metrics => actions.extend((0..count).map(|number| {
                            Action::Metric(Metric {
                                name: format!("metric-{number}"),
                                kind: MetricKind::Gauge,
                                unit: String::new(),
                                device: None,
                                value: f64::from(number),
                            })
                        })),
                    }
                    actions.push(Action::PollDone(PollDone {
                        group: poll.group,
                        cycle: poll.cycle,
                        requests: 0,
                        failed: 0,
                        round_trip_ns: None,
                    }));
                }
                Happening::Stop(_) => {
                    actions.push(Action::Stopped);
                    return Ok(actions);
                }
                _ => {}
            }
        }
        if matches!(what, What::Samples) {
            let tag = FIRST_TAG.with_borrow(|tag| *tag);
            let samples = (0..count).map(|number| Sample {
                tag,
                value: Some(Value::Float(f64::from(number))),
                quality: Quality::Good,
                source_time_ns: Some(now.wall_ns),
            });
            actions.push(Action::Publish(Publish {
                id: None,
                samples: samples.collect(),
            }));
            actions.push(Action::SetTimer(SetTimer {
                timer: 0,
                after_ns: 0,
            }));
        }
        Ok(actions)
    }
}

bulkhead_sdk::bindings::export_component!(Floods with_types_in bulkhead_sdk::bindings);
