//! Does what its strings say, and tells all that it was told.
//!
//! In each turn it first publishes one text on the tag whose address is `journal`: the turn's events, as JSON. Its quality is
//! uncertain, so that it says the same while a link is down. Then it obeys: a text written to the tag with the address
//! `strings` is a JSON list of steps, done in that turn; `settings.rules` says what it does upon other events:
//!
//! ```toml
//! settings = { rules = [{ on = "started", do = [{ open = { connection = 0, link = 0 } }] }] }
//! ```
//!
//! Without a rule it answers truly: `poll` by `poll-done`, `read` by the text "read", `write` by `write-done`, `stop` by
//! `stopped`. Of several rules that fit an event the last counts. It looks into nothing, so a step may be as wrong as a test
//! wants it.
#![cfg(target_arch = "wasm32")]

mod journal;
mod step;

use std::cell::RefCell;
use std::collections::HashMap;

use bulkhead_sdk::abi::{
    Action, Capabilities, ChannelConfig, ConfigFault, DriverInfo, Error, Event, Happening, Instant,
    LinkWish, Publish, Quality, RequestId, Sample, TagId, Value,
};
use bulkhead_sdk::bindings::exports::bulkhead::channel::driver::Guest;
use serde::Deserialize;

use step::{Cue, Step};

struct Puppet;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    rules: Vec<Rule>,
    /// What it finds wrong with its configuration: where, and what.
    #[serde(default)]
    faults: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The kind of event.
    on: String,
    /// Only for the event that is about this timer, group, connection or tag.
    about: Option<u32>,
    /// Only in the incarnation with this number.
    life: Option<u64>,
    /// Only for this one of such events, counted from 1 in each incarnation.
    nth: Option<u32>,
    #[serde(rename = "do")]
    does: Vec<Step>,
}

struct State {
    settings: Settings,
    journal: Option<TagId>,
    strings: Option<TagId>,
    /// Told in the first turn.
    config: Option<serde_json::Value>,
    life: u64,
    turns: u64,
    /// How many events of each kind there were.
    counts: HashMap<&'static str, u32>,
    /// The reads that were not answered yet, with what they ask for.
    reads: HashMap<RequestId, Vec<TagId>>,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

impl Guest for Puppet {
    fn describe() -> DriverInfo {
        let link = |name: &str| LinkWish {
            name: name.to_owned(),
            kinds: ["tcp", "tls", "udp", "unix", "serial"]
                .map(str::to_owned)
                .to_vec(),
            required: false,
        };
        DriverInfo {
            name: "puppet".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: "none".to_owned(),
            settings_schema: r#"{"type":"object"}"#.to_owned(),
            device_schema: "{}".to_owned(),
            tag_schema: "{}".to_owned(),
            address_help: "`journal`, `strings`, or anything else".to_owned(),
            links: vec![link("plc"), link("second")],
            can: Capabilities::READ | Capabilities::WRITE,
            commands: Vec::new(),
        }
    }

    fn configure(config: ChannelConfig) -> Result<(), Vec<ConfigFault>> {
        let settings: Settings = serde_json::from_str(&config.settings).map_err(|error| {
            vec![ConfigFault {
                at: "settings".to_owned(),
                message: error.to_string(),
            }]
        })?;
        if !settings.faults.is_empty() {
            let fault = |(at, message): &(String, String)| ConfigFault {
                at: at.clone(),
                message: message.clone(),
            };
            return Err(settings.faults.iter().map(fault).collect());
        }
        let tag = |address: &str| {
            let found = config.tags.iter().find(|tag| tag.address == address);
            found.map(|tag| tag.id)
        };
        STATE.replace(Some(State {
            journal: tag("journal"),
            strings: tag("strings"),
            settings,
            config: Some(journal::configuration(&config)),
            life: 0,
            turns: 0,
            counts: HashMap::new(),
            reads: HashMap::new(),
        }));
        Ok(())
    }

    fn turn(now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        STATE.with_borrow_mut(|state| {
            let state = state.as_mut().ok_or_else(|| Error {
                quality: Quality::Bad,
                code: None,
                message: "a turn before any configuration".to_owned(),
                trace: None,
            })?;
            state.turn(now, events)
        })
    }
}

impl State {
    fn turn(&mut self, now: Instant, events: Vec<Event>) -> Result<Vec<Action>, Error> {
        self.turns += 1;
        if let Some(Happening::Started(start)) = events.first().map(|event| &event.what) {
            self.life = start.incarnation;
        }
        let mut actions = Vec::new();
        if let Some(tag) = self.journal {
            let text = journal::page(self.life, self.turns, &now, &events, self.config.take());
            let sample = Sample {
                tag,
                value: Some(Value::Text(text)),
                quality: Quality::Uncertain,
                source_time_ns: None,
            };
            actions.push(Action::Publish(Publish {
                id: None,
                samples: vec![sample],
            }));
        }
        for event in events {
            self.answer(event.what, &mut actions)?;
        }
        Ok(actions)
    }

    fn answer(&mut self, what: Happening, actions: &mut Vec<Action>) -> Result<(), Error> {
        let kind = journal::kind(&what);
        let nth = self.counts.entry(kind).or_default();
        *nth += 1;
        let nth = *nth;
        if let Happening::Read(read) = &what {
            self.reads.insert(read.request, read.tags.clone());
        }
        let cue = Cue::of(&what, &self.reads);
        if let Happening::Write(write) = &what
            && Some(write.tag) == self.strings
        {
            let Value::Text(text) = &write.value else {
                return Err(step::broken("strings are text"));
            };
            let steps: Vec<Step> =
                serde_json::from_str(text).map_err(|error| step::broken(&error.to_string()))?;
            if !steps.iter().any(Step::answers_itself) {
                Step::WriteDone(step::WriteAnswer::default()).perform(&cue, actions)?;
            }
            return steps
                .iter()
                .try_for_each(|step| step.perform(&cue, actions));
        }
        let rule = self.settings.rules.iter().rev().find(|rule| {
            rule.on == kind
                && rule.about.is_none_or(|about| cue.about == Some(about))
                && rule.life.is_none_or(|life| life == self.life)
                && rule.nth.is_none_or(|wanted| wanted == nth)
        });
        match (rule, &what) {
            (Some(rule), _) => rule
                .does
                .iter()
                .try_for_each(|step| step.perform(&cue, actions)),
            (None, Happening::Poll(_)) => {
                Step::PollDone(step::PollAnswer::default()).perform(&cue, actions)
            }
            (None, Happening::Read(_)) => {
                Step::ReadDone(step::ReadAnswer::default()).perform(&cue, actions)
            }
            (None, Happening::Write(_)) => {
                Step::WriteDone(step::WriteAnswer::default()).perform(&cue, actions)
            }
            (None, Happening::Stop(_)) => Step::Stopped.perform(&cue, actions),
            (None, _) => Ok(()),
        }
    }
}

bulkhead_sdk::bindings::export_component!(Puppet with_types_in bulkhead_sdk::bindings);
