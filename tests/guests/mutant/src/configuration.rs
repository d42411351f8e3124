//! What the driver says of itself, and what it takes.

use bulkhead_sdk::abi::{
    Capabilities, ChannelConfig, CommandInfo, ConfigFault, DriverInfo, LinkWish,
};
use serde::Deserialize as _;
use serde_json::{Value as Json, json};

use crate::mutation::{Mutation, NAMES};

#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) mutation: Option<Mutation>,
    pub(crate) timeout_ms: u32,
}

pub(crate) fn describe(mutation: Option<Mutation>, calls: u32) -> DriverInfo {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "mutation": { "type": ["string", "null"], "enum": NAMES },
            "timeout_ms": { "type": "integer", "minimum": 1, "maximum": 10_000, "default": 1_000 },
        },
        "additionalProperties": false,
    });
    // A mutation of the description is only known once the driver was configured.
    let version = match mutation {
        Some(Mutation::DescribeChanges) => format!("0.1.{calls}"),
        Some(Mutation::VersionIsAWord) => "newest".to_owned(),
        _ => "0.1.0".to_owned(),
    };
    DriverInfo {
        name: "mutant".to_owned(),
        version,
        protocol: "lines of text".to_owned(),
        settings_schema: match mutation {
            Some(Mutation::SchemaBroken) => schema.to_string().replace("integer", "whole"),
            _ => schema.to_string(),
        },
        device_schema: r#"{"type":"object","additionalProperties":false}"#.to_owned(),
        tag_schema: match mutation {
            Some(Mutation::TagSchemaBroken) => r#"{"type":"thing"}"#.to_owned(),
            _ => r#"{"type":"object","additionalProperties":false}"#.to_owned(),
        },
        address_help: "A number, from 0 to 65535".to_owned(),
        links: vec![LinkWish {
            name: "line".to_owned(),
            kinds: vec!["tcp".to_owned()],
            required: true,
        }],
        commands: vec![CommandInfo {
            name: "ping".to_owned(),
            help: "Answers pong.".to_owned(),
            payload_schema: String::new(),
            answer_schema: match mutation {
                Some(Mutation::CommandSchemaBroken) => "pong".to_owned(),
                _ => String::new(),
            },
            changes: false,
        }],
        can: Capabilities::READ
            | Capabilities::WRITE
            | Capabilities::COMMANDS
            | Capabilities::SCRIPTED_TIME,
    }
}

/// All faults at once.
pub(crate) fn check(config: &ChannelConfig) -> Result<Settings, Vec<ConfigFault>> {
    let mut faults = Vec::new();
    let mut fault = |at: &str, message: &str| {
        faults.push(ConfigFault {
            at: at.to_owned(),
            message: message.to_owned(),
        });
    };
    let mut settings = Settings {
        mutation: None,
        timeout_ms: 1_000,
    };
    let parsed = serde_json::from_str::<Json>(&config.settings);
    let table = parsed.as_ref().ok().and_then(Json::as_object);
    if let Some(table) = table {
        if let Some(name) = table.get("mutation").filter(|name| !name.is_null()) {
            match Mutation::deserialize(name) {
                Ok(mutation) => settings.mutation = Some(mutation),
                Err(_) => fault("settings.mutation", "there is no such mutation"),
            }
        }
        if let Some(timeout) = table.get("timeout_ms") {
            match timeout.as_u64() {
                Some(timeout @ 1..=10_000) => settings.timeout_ms = timeout as u32,
                _ => fault("settings.timeout_ms", "give a whole number from 1 to 10000"),
            }
        }
        for key in table
            .keys()
            .filter(|key| !["mutation", "timeout_ms"].contains(&key.as_str()))
        {
            fault(&format!("settings.{key}"), "there is no such setting");
        }
    } else {
        fault("settings", "settings are a table of names and values");
    }
    if !config
        .links
        .iter()
        .any(|link| link.name == "line" && link.kind == "tcp")
    {
        fault("links.line", "it needs a link named line (tcp)");
    }
    for device in &config.devices {
        if !serde_json::from_str::<Json>(&device.settings).is_ok_and(|table| table == json!({})) {
            fault(
                &format!("device {}.settings", device.name),
                "there are none",
            );
        }
    }
    for tag in &config.tags {
        if tag.address.parse::<u16>().is_err() {
            fault(
                &format!("tag {}.address", tag.name),
                "write a number up to 65535",
            );
        }
        if tag.data_type != "float64" {
            fault(
                &format!("tag {}.type", tag.name),
                "only float64 can be read",
            );
        }
        if tag.settings != "{}" {
            fault(&format!("tag {}.settings", tag.name), "there are none");
        }
    }
    match settings.mutation {
        Some(Mutation::TakesAnything) => return Ok(settings),
        Some(Mutation::FirstFaultOnly) => faults.truncate(1),
        Some(Mutation::SaysNoPlace) => faults.iter_mut().for_each(|fault| fault.at.clear()),
        Some(Mutation::PanicsOnSettings) => assert!(faults.is_empty(), "a fault"),
        _ => {}
    }
    if faults.is_empty() {
        Ok(settings)
    } else {
        Err(faults)
    }
}
