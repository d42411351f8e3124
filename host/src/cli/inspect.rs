//! `bulkhead inspect`: what a driver file is.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value as Json;

use super::failure::Failure;
use super::loading::load_driver;
use super::output::{Output, plain};
use crate::clock::Clock;
use crate::driver::{Budget, Driver, DriverInfo, Instance, InstanceSpec, Producers, Verified};
use crate::ids::{ChannelId, InstanceId};

/// As much as any channel may have.
const MEMORY: u64 = 256 * 1024 * 1024;
const BUDGET: Budget = Budget {
    fuel: 10_000_000_000,
    deadline: std::time::Duration::from_secs(30),
};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The driver, a .wasm file
    pub(super) driver: PathBuf,
    /// Print the JSON Schemas of the driver's settings only
    #[arg(long)]
    pub(super) schema: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct Report {
    file: String,
    name: String,
    version: String,
    protocol: String,
    size: u64,
    sha256: String,
    world: &'static str,
    languages: Vec<String>,
    tools: Vec<String>,
    can: Vec<&'static str>,
    commands: Vec<Command>,
    links: Vec<Link>,
    imports: Vec<String>,
    address_help: String,
    settings_schema: Json,
    device_schema: Json,
    tag_schema: Json,
}

#[derive(Serialize)]
struct Command {
    name: String,
    help: String,
    /// Null: bytes of no stated form.
    payload_schema: Json,
    /// The same.
    answer_schema: Json,
    changes: bool,
}

#[derive(Serialize)]
struct Link {
    name: String,
    kinds: Vec<String>,
    required: bool,
}

pub(super) async fn inspect(arguments: Inspect) -> Result<(), Failure> {
    let (driver, info) = load(&arguments).await?;
    let file = Verified::read(&arguments.driver, Some(driver.digest()));
    let file = file.map_err(|error| Failure::fault(error.to_string()))?;
    let producers = Producers::of(file.bytes());
    let report = Report {
        world: driver.world(),
        languages: producers.languages,
        tools: producers.tools,
        file: arguments.driver.display().to_string(),
        size: driver.size(),
        sha256: driver.sha256(),
        imports: driver.imports().to_vec(),
        settings_schema: schema(&info.settings_schema),
        device_schema: schema(&info.device_schema),
        tag_schema: schema(&info.tag_schema),
        name: info.name,
        version: info.version,
        protocol: info.protocol,
        can: info.can,
        commands: info
            .commands
            .into_iter()
            .map(|command| Command {
                payload_schema: schema(&command.payload_schema),
                answer_schema: schema(&command.answer_schema),
                name: command.name,
                help: command.help,
                changes: command.changes,
            })
            .collect(),
        links: info
            .links
            .into_iter()
            .map(|link| Link {
                name: link.name,
                kinds: link.kinds,
                required: link.required,
            })
            .collect(),
        address_help: info.address_help,
    };
    let mut out = Output::new();
    if arguments.schema {
        let schemas = schemas(&report);
        if arguments.json {
            out.json(&schemas)?;
        } else {
            out.line(&serde_json::to_string_pretty(&schemas).map_err(std::io::Error::other)?)?;
        }
        return Ok(());
    }
    if arguments.json {
        out.json(&report)?;
    } else {
        describe(&mut out, &report)?;
    }
    Ok(())
}

async fn load(arguments: &Inspect) -> Result<(Driver, DriverInfo), Failure> {
    let driver = load_driver(&arguments.driver, MEMORY).await?;
    let clock = Clock::start();
    let channel = ChannelId::new("inspect").expect("the word keeps to the rule");
    let spec = InstanceSpec {
        instance: InstanceId {
            channel,
            incarnation: 0,
        },
        memory: MEMORY,
        seed: 0,
        start: BUDGET,
        turn: BUDGET,
    };
    let described = match Instance::start(&driver, spec, (clock.monotonic(), clock.wall())).await {
        Ok(instance) => instance.describe().await,
        Err(exit) => Err(exit),
    };
    match described {
        Ok((_, info)) => Ok((driver, info)),
        Err(exit) => {
            let frames: String = exit
                .backtrace
                .iter()
                .map(|frame| format!("\n  at {}", plain(&frame.function)))
                .collect();
            let path = arguments.driver.display();
            Err(Failure::fault(format!(
                "{path} cannot say what it is: {exit}; {}{frames}",
                exit.kind.remedy()
            )))
        }
    }
}

/// All schemas of a driver. Of its commands those that state a form.
fn schemas(report: &Report) -> Json {
    let of_commands = report.commands.iter().filter_map(|command| {
        let mut stated = serde_json::Map::new();
        for (name, schema) in [
            ("payload", &command.payload_schema),
            ("answer", &command.answer_schema),
        ] {
            if !schema.is_null() {
                stated.insert(name.to_owned(), schema.clone());
            }
        }
        (!stated.is_empty()).then(|| (command.name.clone(), Json::Object(stated)))
    });
    serde_json::json!({
        "settings": report.settings_schema,
        "device": report.device_schema,
        "tag": report.tag_schema,
        "commands": of_commands.collect::<serde_json::Map<_, _>>(),
    })
}

/// A schema as JSON; as a string, where it is none.
fn schema(text: &str) -> Json {
    match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(_) if text.trim().is_empty() => Json::Null,
        Err(_) => Json::String(text.to_owned()),
    }
}

fn describe(out: &mut Output, report: &Report) -> Result<(), Failure> {
    let mut line = |name: &str, text: &str| out.line(&format!("{name:<10} {text}"));
    line(
        "driver",
        &format!("{} {}", plain(&report.name), plain(&report.version)),
    )?;
    line("protocol", &plain(&report.protocol))?;
    line(
        "file",
        &format!("{} ({:.1} KiB)", report.file, report.size as f64 / 1024.0),
    )?;
    line("sha256", &report.sha256)?;
    line("world", report.world)?;
    for (name, entries) in [("language", &report.languages), ("tools", &report.tools)] {
        if !entries.is_empty() {
            line(name, &plain(&entries.join(", ")))?;
        }
    }
    line("can", &report.can.join(", "))?;
    for command in &report.commands {
        line(
            "command",
            &format!(
                "{}{}: {}",
                plain(&command.name),
                if command.changes { "" } else { " (only looks)" },
                plain(&command.help)
            ),
        )?;
    }
    if report.links.is_empty() {
        line("links", "none")?;
    }
    for link in &report.links {
        let required = if link.required {
            "required"
        } else {
            "optional"
        };
        line(
            "link",
            &format!(
                "{}: {}, {required}",
                plain(&link.name),
                plain(&link.kinds.join(" or "))
            ),
        )?;
    }
    for import in &report.imports {
        line("imports", &plain(import))?;
    }
    for (name, schema) in [
        ("settings", &report.settings_schema),
        ("device", &report.device_schema),
        ("tag", &report.tag_schema),
    ] {
        let described = properties(schema);
        if described.is_empty() {
            line(name, "none")?;
        }
        for property in described {
            line(name, &property)?;
        }
    }
    for help in report.address_help.lines() {
        line("address", &plain(help))?;
    }
    Ok(())
}

/// The settings of a schema, one line each: name, type, default, description.
fn properties(schema: &Json) -> Vec<String> {
    let Some(all) = schema.get("properties").and_then(Json::as_object) else {
        return Vec::new();
    };
    let one = |(name, property): (&String, &Json)| {
        let text = |key: &str| property.get(key).and_then(Json::as_str).map(plain);
        let mut line = plain(name);
        if let Some(kind) = text("type") {
            line += &format!(": {kind}");
        }
        if let Some(default) = property.get("default").filter(|default| !default.is_null()) {
            line += &format!(" = {default}");
        }
        if let Some(description) = text("description") {
            line += &format!("  {description}");
        }
        line
    };
    all.iter().map(one).collect()
}
