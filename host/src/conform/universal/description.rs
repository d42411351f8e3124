//! What a driver says of itself.

use serde_json::Value as Json;

use super::{Bench, session};
use crate::bindings::config::ChannelConfig;
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::{beginning, spec};
use crate::driver::{DriverInfo, Instance};

/// Interfaces that standard libraries import without using them.
const USUAL: [&str; 6] = [
    "bulkhead:channel/",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
];

async fn described(
    bench: &Bench<'_>,
    seed: u64,
    config: Option<&ChannelConfig>,
) -> Result<Vec<DriverInfo>, NoPass> {
    let ended = |exit| NoPass::from(&exit);
    let now = beginning();
    let mut instance = Instance::start(bench.driver, spec(seed, bench.memory, 1), now)
        .await
        .map_err(ended)?;
    let mut all = Vec::new();
    for round in 0..3 {
        if let (1, Some(config)) = (round, config) {
            let (configured, _) = instance.configure(config, now).await.map_err(ended)?;
            instance = configured;
        }
        let (next, info) = instance.describe().await.map_err(ended)?;
        instance = next;
        all.push(info);
    }
    Ok(all)
}

pub(super) async fn stable(bench: &Bench<'_>) -> CaseResult {
    let mut all = described(bench, 7, Some(&bench.plant.config)).await?;
    all.extend(described(bench, 1_234_567, None).await?);
    match all.iter().find(|info| *info != &all[0]) {
        None => Ok(None),
        Some(other) => Err(NoPass::failed(format!(
            "describe says different things at different calls:\n  {:?}\n  {other:?}",
            all[0]
        ))),
    }
}

pub(super) async fn schemas(bench: &Bench<'_>) -> CaseResult {
    // One that is configured may know more of itself; it has to say the same.
    let mut all = described(bench, 7, Some(&bench.plant.config)).await?;
    let info = &all.pop().unwrap_or_else(|| bench.info.clone());
    let mut faults = Vec::new();
    for (name, text) in [
        ("settings-schema", &info.settings_schema),
        ("device-schema", &info.device_schema),
        ("tag-schema", &info.tag_schema),
    ] {
        check_text(text, name, &mut faults);
    }
    for (what, text) in [
        ("name", &info.name),
        ("version", &info.version),
        ("protocol", &info.protocol),
    ] {
        if text.trim().is_empty() {
            faults.push(format!("its {what} is empty"));
        }
    }
    let is_semver = info.version.split(['-', '+']).next().is_some_and(|core| {
        let numbers: Vec<&str> = core.split('.').collect();
        numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u64>().is_ok())
    });
    if !is_semver {
        faults.push(format!(
            "its version {:?} is not in the form of semver.org; write 1.2.3",
            info.version
        ));
    }
    for link in &info.links {
        if link.kinds.is_empty()
            || link
                .kinds
                .iter()
                .any(|kind| !["tcp", "tls", "udp", "unix", "serial"].contains(&kind.as_str()))
        {
            faults.push(format!(
                "its link {} has kinds {:?}; a kind is tcp, tls, udp, unix or serial",
                link.name, link.kinds
            ));
        }
    }
    for command in &info.commands {
        let is_name = !command.name.is_empty()
            && command
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !is_name || command.help.trim().is_empty() {
            faults.push(format!(
                "its command {:?} has no name of `a-z A-Z 0-9 _ - .`, or no help",
                command.name
            ));
        }
        for (name, text) in [
            ("payload-schema", &command.payload_schema),
            ("answer-schema", &command.answer_schema),
        ] {
            // One that is empty states no form.
            if !text.is_empty() {
                check_text(text, &format!("{name} of {}", command.name), &mut faults);
            }
        }
    }
    if faults.is_empty() {
        Ok(None)
    } else {
        Err(NoPass::failed(faults.join("\n")))
    }
}

fn check_text(text: &str, name: &str, faults: &mut Vec<String>) {
    match serde_json::from_str::<Json>(text) {
        Err(error) => faults.push(format!("{name} is no JSON: {error}")),
        Ok(schema) => check_schema(&schema, name, 0, faults),
    }
}

/// What of JSON Schema 2020-12 can be wrong in its form: not whether it says what the driver checks.
fn check_schema(schema: &Json, at: &str, depth: usize, faults: &mut Vec<String>) {
    if depth > 32 || faults.len() > 20 {
        faults.push(format!("{at} is nested deeper than 32 schemas"));
        return;
    }
    let Some(object) = schema.as_object() else {
        if !schema.is_boolean() {
            faults.push(format!(
                "{at} is neither an object nor true or false, so it is no schema"
            ));
        }
        return;
    };
    for (key, value) in object {
        let place = format!("{at}.{key}");
        match key.as_str() {
            "$schema" if depth == 0 => {
                let is_known = value.as_str().is_some_and(|name| {
                    name.trim_end_matches('#') == "https://json-schema.org/draft/2020-12/schema"
                });
                if !is_known {
                    faults.push(format!("{place} is {value}, and not that of draft 2020-12"));
                }
            }
            "type" => {
                let is_type = |name: &Json| {
                    name.as_str().is_some_and(|name| {
                        [
                            "null", "boolean", "object", "array", "number", "string", "integer",
                        ]
                        .contains(&name)
                    })
                };
                let is_fine = is_type(value)
                    || value
                        .as_array()
                        .is_some_and(|all| !all.is_empty() && all.iter().all(is_type));
                if !is_fine {
                    faults.push(format!("{place} is {value}, which is no type"));
                }
            }
            "properties" | "$defs" | "patternProperties" => match value.as_object() {
                Some(all) => all.iter().for_each(|(name, inner)| {
                    check_schema(inner, &format!("{place}.{name}"), depth + 1, faults)
                }),
                None => faults.push(format!("{place} is no object of schemas")),
            },
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => match value.as_array() {
                Some(all) if !all.is_empty() => all
                    .iter()
                    .for_each(|inner| check_schema(inner, &place, depth + 1, faults)),
                _ => faults.push(format!("{place} is no list of schemas")),
            },
            "items"
            | "additionalProperties"
            | "not"
            | "if"
            | "then"
            | "else"
            | "propertyNames"
            | "contains" => {
                check_schema(value, &place, depth + 1, faults);
            }
            "required" => {
                let names = value.as_array();
                let is_fine = names.is_some_and(|all| all.iter().all(Json::is_string));
                if !is_fine {
                    faults.push(format!("{place} is no list of names"));
                }
            }
            "enum" => {
                let is_fine = value.as_array().is_some_and(|all| !all.is_empty());
                if !is_fine {
                    faults.push(format!("{place} is no list of values"));
                }
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
                if !value.is_number() =>
            {
                faults.push(format!("{place} is no number"));
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" if !value.is_u64() => {
                faults.push(format!("{place} is no count"))
            }
            "title" | "description" | "$ref" | "pattern" | "format" if !value.is_string() => {
                faults.push(format!("{place} is no text"));
            }
            _ => {}
        }
    }
}

pub(super) async fn imports(bench: &Bench<'_>) -> CaseResult {
    let all = bench.driver.imports();
    let unusual: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|import| !USUAL.iter().any(|usual| import.starts_with(usual)))
        .filter(|import| {
            !bench
                .plant
                .imports
                .iter()
                .any(|allowed| import.starts_with(allowed.as_str()))
        })
        .collect();
    if unusual.is_empty() {
        return Ok(Some(format!("{} interfaces", all.len())));
    }
    Err(NoPass::failed(format!(
        "it imports {}, of which a driver has no need: links are opened by actions. Where its language's library brings them unused, say `allow-import` in the plant's script",
        unusual.join(", ")
    )))
}

/// Used by the cases of configuration too: a schema, parsed. One that is no JSON rules nothing out; `schemas` complains of it.
pub(super) fn parsed(schema: &str) -> Json {
    serde_json::from_str(schema).unwrap_or(Json::Bool(true))
}

/// A sanity check that the session itself can be had, for whoever only measures.
pub(super) async fn session_runs(bench: &Bench<'_>) -> Result<(), NoPass> {
    let mut stage = bench.begin(bench.honest()).await?;
    session::whole(bench, &mut stage).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_that_are_none_are_found() {
        let check = |json: Json, expected: Option<&str>| {
            let mut faults = Vec::new();
            check_schema(&json, "schema", 0, &mut faults);
            match expected {
                None => assert!(faults.is_empty(), "{faults:?}"),
                Some(part) => assert!(faults.len() == 1 && faults[0].contains(part), "{faults:?}"),
            }
        };
        check(
            serde_json::json!({"type": "object", "properties": {"a": {"type": ["integer", "null"], "minimum": 0}}, "additionalProperties": false}),
            None,
        );
        check(serde_json::json!(true), None);
        check(serde_json::json!([]), Some("no schema"));
        check(serde_json::json!({"type": "table"}), Some("no type"));
        check(
            serde_json::json!({"properties": {"a": {"minimum": "0"}}}),
            Some("properties.a.minimum"),
        );
        check(serde_json::json!({"required": "a"}), Some("required"));
        check(
            serde_json::json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
            Some("2020-12"),
        );
    }
}
