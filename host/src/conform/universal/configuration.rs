//! Good and bad configurations.
//!
//! Bad ones are made from the plant's own, by rule from the driver's schema and by chance from the seed. Those that the schema rules
//! out must be refused; of the others it is only demanded that the driver lives, and that its faults say where and what.

use serde_json::{Value as Json, json};

use super::description::parsed;
use super::{Bench, session};
use crate::bindings::config::{ChannelConfig, ConfigFault};
use crate::conform::outcome::{CaseResult, NoPass};
use crate::conform::stage::{Beginning, Stage, beginning, spec};
use crate::driver::Instance;

/// How many of those by chance.
const BY_CHANCE: usize = 64;

/// A bad configuration.
struct Bad {
    /// What is bad about it, for people.
    what: String,
    config: ChannelConfig,
    /// Whether it must be refused.
    must: bool,
}

pub(super) async fn sample(bench: &Bench<'_>) -> CaseResult {
    let mut stage = bench.begin(bench.honest()).await?;
    stage.advance(1).await;
    stage.check()?;
    Ok(Some(format!(
        "{} tags, from {}",
        bench.plant.config.tags.len(),
        bench.plant.source
    )))
}

async fn configure(
    bench: &Bench<'_>,
    config: &ChannelConfig,
) -> Result<Result<(), Vec<ConfigFault>>, NoPass> {
    let now = beginning();
    let ended = |exit| NoPass::from(&exit);
    let instance = Instance::start(bench.driver, spec(7, bench.memory, 1), now)
        .await
        .map_err(ended)?;
    let (_, answer) = instance.configure(config, now).await.map_err(ended)?;
    Ok(answer)
}

pub(super) async fn faults(bench: &Bench<'_>) -> CaseResult {
    let all = bad(bench);
    let mut refused = 0;
    for bad in &all {
        let answer = configure(bench, &bad.config)
            .await
            .map_err(|why| match why {
                NoPass::Failed(text) => NoPass::Failed(format!("{}: {text}", bad.what)),
                other => other,
            })?;
        match answer {
            Ok(()) if bad.must => {
                return Err(NoPass::failed(format!("{}: the driver takes it", bad.what)));
            }
            Ok(()) => {}
            Err(faults) => {
                refused += 1;
                let is_said = |fault: &ConfigFault| {
                    !fault.at.trim().is_empty() && !fault.message.trim().is_empty()
                };
                if faults.is_empty() || !faults.iter().all(is_said) {
                    return Err(NoPass::failed(format!(
                        "{}: it is refused without saying where and what: {faults:?}",
                        bad.what
                    )));
                }
            }
        }
    }
    Ok(Some(format!(
        "{} configurations, {refused} refused",
        all.len()
    )))
}

pub(super) async fn all_faults(bench: &Bench<'_>) -> CaseResult {
    // Single faults of different tags that are refused by themselves: settings that cannot be read leave a driver nothing to look at
    // the rest with ...
    let mut known: Vec<(String, Edit)> = Vec::new();
    for edit in edits(bench).into_iter().filter(|edit| edit.combines) {
        let mut config = bench.plant.config.clone();
        (edit.make)(&mut config);
        let faults = configure(bench, &config).await?.err().unwrap_or_default();
        let is_new = |at: &str| {
            known
                .iter()
                .all(|(known, other)| known != at && other.place != edit.place)
        };
        if let Some(fault) = faults.first().filter(|fault| is_new(&fault.at)) {
            known.push((fault.at.clone(), edit));
        }
    }
    if known.len() < 2 {
        return Err(NoPass::skipped(
            "there are no two faults that could be made at once",
        ));
    }
    // ... and all of them at once.
    let mut config = bench.plant.config.clone();
    for (_, edit) in &known {
        (edit.make)(&mut config);
    }
    let found = configure(bench, &config).await?.err().unwrap_or_default();
    let missing: Vec<&str> = known
        .iter()
        .map(|(at, _)| at.as_str())
        .filter(|at| !found.iter().any(|fault| fault.at == *at))
        .collect();
    if missing.is_empty() {
        return Ok(Some(format!("{} faults at once", known.len())));
    }
    let found: Vec<&str> = found.iter().map(|fault| fault.at.as_str()).collect();
    Err(NoPass::failed(format!(
        "each is reported alone, but together these are not: {}; the driver reports {}",
        missing.join(", "),
        found.join(", ")
    )))
}

pub(super) async fn again(bench: &Bench<'_>) -> CaseResult {
    let Some(bad) = bad(bench).into_iter().find(|bad| bad.must) else {
        return Err(NoPass::skipped(
            "there is no configuration that must be refused",
        ));
    };
    let mut published = Vec::new();
    for twice in [false, true] {
        let beginning = Beginning {
            memory: Some(bench.memory),
            ..Beginning::default()
        };
        let mut stage = Stage::prepare(
            bench.driver,
            &bench.plant.config,
            &beginning,
            bench.honest(),
        )
        .await?;
        if twice && stage.configure(&bad.config).await?.is_ok() {
            return Err(NoPass::failed(format!(
                "a second configuration with {} is taken",
                bad.what
            )));
        }
        stage.started(beginning);
        session::poll_all(&mut stage).await?;
        let samples = stage
            .heard
            .samples
            .iter()
            .map(|sample| format!("{sample:?}"));
        published.push(samples.collect::<Vec<_>>());
    }
    if published[0] == published[1] {
        Ok(None)
    } else {
        Err(NoPass::failed(format!(
            "after a configuration with {}, which it refused, the driver publishes other samples than without",
            bad.what
        )))
    }
}

/// One thing that can be wrong.
struct Edit {
    what: String,
    /// Where it is made, so that no two are made in the same place.
    place: String,
    make: Box<dyn Fn(&mut ChannelConfig)>,
    must: bool,
    /// Whether a driver can go on looking for others beside it.
    combines: bool,
}

fn bad(bench: &Bench<'_>) -> Vec<Bad> {
    let mut all: Vec<Bad> = edits(bench)
        .into_iter()
        .map(|edit| {
            let mut config = bench.plant.config.clone();
            (edit.make)(&mut config);
            Bad {
                what: edit.what,
                config,
                must: edit.must,
            }
        })
        .collect();
    let mut random = session::random(bench, 1);
    for number in 0..BY_CHANCE {
        let mut config = bench.plant.config.clone();
        let what = by_chance(&mut config, &mut random);
        all.push(Bad {
            what: format!("{what} (by chance, number {number})"),
            config,
            must: false,
        });
    }
    all
}

fn edits(bench: &Bench<'_>) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut raw = |what: &str, text: String, must: bool| {
        edits.push(Edit {
            what: what.to_owned(),
            place: "settings".to_owned(),
            make: Box::new(move |config| config.settings.clone_from(&text)),
            must,
            combines: false,
        });
    };
    raw("settings that are no JSON", "{\"a\": ".to_owned(), true);
    raw("settings that are a list", "[1, 2]".to_owned(), true);
    raw("settings that are a number", "7".to_owned(), true);
    raw("settings of 10,000 brackets", "[".repeat(10_000), true);
    raw("settings that are empty", String::new(), false);
    let plant = &bench.plant.config;
    let of_devices = (!plant.devices.is_empty()).then_some((&bench.info.device_schema, Of::Device));
    let of_tags = (!plant.tags.is_empty()).then_some((&bench.info.tag_schema, Of::Tag));
    let settings = Some((&bench.info.settings_schema, Of::Channel));
    for (schema, of) in [settings, of_devices, of_tags].into_iter().flatten() {
        edits.extend(by_schema(&parsed(schema), of));
    }
    for wish in bench.info.links.iter().filter(|wish| wish.required) {
        let name = wish.name.clone();
        edits.push(Edit {
            what: format!("no link {name}, which is required"),
            place: "links".to_owned(),
            make: Box::new(move |config| config.links.retain(|link| link.name != name)),
            must: true,
            combines: false,
        });
    }
    edits.extend(addresses(&bench.plant.config));
    edits
}

/// Whose settings.
#[derive(Clone, Copy)]
enum Of {
    Channel,
    /// The first device.
    Device,
    /// The first tag.
    Tag,
}

impl Of {
    fn settings(self, config: &mut ChannelConfig) -> Option<&mut String> {
        match self {
            Self::Channel => Some(&mut config.settings),
            Self::Device => Some(&mut config.devices.first_mut()?.settings),
            Self::Tag => Some(&mut config.tags.first_mut()?.settings),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Channel => "settings",
            Self::Device => "settings of device 0",
            Self::Tag => "settings of tag 0",
        }
    }
}

/// What this schema rules out.
fn by_schema(schema: &Json, of: Of) -> Vec<Edit> {
    let closed = schema.get("additionalProperties") == Some(&Json::Bool(false));
    let unknown = "conform_no_such_setting";
    let mut edits = vec![
        set(of, unknown, json!(1), "a setting that there is not", closed),
        set(
            of,
            unknown,
            json!("x".repeat(1 << 20)),
            "a setting of 1 MiB",
            closed,
        ),
    ];
    let properties = schema.get("properties").and_then(Json::as_object);
    for (name, property) in properties.into_iter().flatten() {
        for (value, what) in wrong_values(property) {
            let what = format!("{name} = {value} ({what})");
            edits.push(set(of, name, value, &what, true));
        }
    }
    edits
}

/// Sets one of the settings; where they are no table any more nothing is changed.
fn set(of: Of, name: &str, value: Json, what: &str, must: bool) -> Edit {
    let key = name.to_owned();
    Edit {
        what: format!("{}: {what}", of.name()),
        place: format!("{}.{name}", of.name()),
        make: Box::new(move |config| {
            let Some(text) = of.settings(config) else {
                return;
            };
            if let Ok(Json::Object(mut settings)) = serde_json::from_str(text) {
                settings.insert(key.clone(), value.clone());
                *text = Json::Object(settings).to_string();
            }
        }),
        must,
        combines: false,
    }
}

/// Values that a schema rules out by its type or its bounds.
fn wrong_values(property: &Json) -> Vec<(Json, &'static str)> {
    let types: Vec<&str> = match property.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(some)) => some.iter().filter_map(Json::as_str).collect(),
        _ => return Vec::new(),
    };
    let candidates = [
        (json!("conform"), "string"),
        (json!(true), "boolean"),
        (json!({"conform": 1}), "object"),
        (json!([1]), "array"),
        (json!(1.5), "number"),
    ];
    let has = |name: &str| types.contains(&name);
    let mut wrong: Vec<(Json, &str)> = candidates
        .into_iter()
        .filter(|(_, kind)| !has(kind))
        .map(|(value, _)| (value, "of another type"))
        .collect();
    if has("integer") || has("number") {
        let beyond =
            |key: &str, by: i64| Some(json!(property.get(key)?.as_i64()?.checked_add(by)?));
        wrong.extend(beyond("minimum", -1).map(|value| (value, "below the minimum")));
        wrong.extend(beyond("maximum", 1).map(|value| (value, "above the maximum")));
    }
    wrong
}

/// Addresses and types of tags that can hardly be right; a driver may take them all the same.
fn addresses(config: &ChannelConfig) -> Vec<Edit> {
    let mut edits = Vec::new();
    for index in 0..config.tags.len().min(3) {
        for address in [
            "",
            "conform no such address (",
            "\u{0}\u{202e}",
            "99999999999999999999",
        ] {
            edits.push(Edit {
                what: format!("tag {index} with the address {address:?}"),
                place: format!("tag {index}"),
                make: Box::new(move |config| config.tags[index].address = address.to_owned()),
                must: false,
                combines: true,
            });
        }
        edits.push(Edit {
            what: format!("tag {index} with an address of 64 KiB"),
            place: format!("tag {index}"),
            make: Box::new(move |config| config.tags[index].address = "a".repeat(64 << 10)),
            must: false,
            combines: false,
        });
        edits.push(Edit {
            what: format!("tag {index} with settings that are no table"),
            place: format!("tag {index}"),
            make: Box::new(move |config| config.tags[index].settings = "[]".to_owned()),
            must: false,
            combines: true,
        });
    }
    edits
}

/// Anything anywhere.
fn by_chance(config: &mut ChannelConfig, random: &mut fastrand::Rng) -> &'static str {
    let length = random.usize(0..40);
    let text: String = std::iter::repeat_with(|| random.char('\u{1}'..'\u{2fff}'))
        .take(length)
        .collect();
    match random.u8(0..6) {
        0 => {
            config.settings = text;
            "settings of random text"
        }
        1 => {
            config.settings = json!({ "a": text, "b": [{}] }).to_string();
            "settings of random names"
        }
        2 => {
            if let Some(tag) = random.choice(&mut config.tags) {
                tag.address = text;
            }
            "a random address"
        }
        3 => {
            if let Some(tag) = random.choice(&mut config.tags) {
                tag.data_type = [
                    "int8",
                    "uint64",
                    "float32",
                    "string",
                    "bytes",
                    "bool[7]",
                    "int16[65536]",
                ][random.usize(0..7)]
                .to_owned();
            }
            "another type"
        }
        4 => {
            if let Some(device) = random.choice(&mut config.devices) {
                device.address = text;
            }
            "a random address of a device"
        }
        _ => {
            if let Some(device) = random.choice(&mut config.devices) {
                device.settings = json!({ "x": text }).to_string();
            }
            "random settings of a device"
        }
    }
}
