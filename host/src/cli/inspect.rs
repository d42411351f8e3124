//! `bulkhead inspect`: what a driver file is.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;

use super::arguments::Inspect;
use super::failure::Failure;
use super::output::{Output, plain, say};
use super::progress::Progress;
use crate::clock::Clock;
use crate::config::CompileLimits;
use crate::driver::{Budget, Driver, DriverInfo, Instance, InstanceSpec, LoadError};
use crate::engine::{Compiler, Engine, EngineOptions, Pool};
use crate::ids::{ChannelId, InstanceId};

/// As much as any channel may have.
const MEMORY: u64 = 256 * 1024 * 1024;
const BUDGET: Budget = Budget {
    fuel: 10_000_000_000,
    deadline: std::time::Duration::from_secs(30),
};

#[derive(Serialize)]
struct Report {
    file: String,
    name: String,
    version: String,
    protocol: String,
    size: u64,
    sha256: String,
    can: Vec<&'static str>,
    links: Vec<Link>,
    imports: Vec<String>,
    address_help: String,
    settings_schema: Json,
    device_schema: Json,
}

#[derive(Serialize)]
struct Link {
    name: String,
    kinds: Vec<String>,
    required: bool,
}

pub(super) async fn inspect(arguments: Inspect) -> Result<(), Failure> {
    let (driver, info) = load(&arguments).await?;
    let report = Report {
        file: arguments.driver.display().to_string(),
        size: driver.size(),
        sha256: driver.sha256(),
        imports: driver.imports().to_vec(),
        settings_schema: schema(&info.settings_schema),
        device_schema: schema(&info.device_schema),
        name: info.name,
        version: info.version,
        protocol: info.protocol,
        can: info.can,
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
        let both = serde_json::json!({ "settings": report.settings_schema, "device": report.device_schema });
        if arguments.json {
            out.json(&both)?;
        } else {
            out.line(&serde_json::to_string_pretty(&both).map_err(std::io::Error::other)?)?;
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
    let folder = Scratch::new()?;
    let options = EngineOptions {
        pool: Pool::even(1, MEMORY),
        cache_dir: folder.0.clone(),
        compiler: Compiler::this_program(),
        compile: CompileLimits::default(),
    };
    let engine = Engine::new(&options).map_err(|error| Failure::host(error.to_string()))?;
    let progress = Progress::new();
    progress.begin(&format!("compiling {}", arguments.driver.display()));
    let path = arguments.driver.clone();
    let loaded = tokio::task::spawn_blocking(move || Driver::load(&engine, &path, None)).await;
    drop(progress);
    let driver = match loaded {
        Ok(loaded) => loaded.map_err(|error| match error {
            LoadError::Host { .. } => Failure::host(error.to_string()),
            _ => Failure::fault(error.to_string()),
        })?,
        Err(error) => {
            return Err(Failure::host(format!(
                "loading failed: {error}; report it to Bulkhead's developers"
            )));
        }
    };
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

/// A folder for compiled code that nobody keeps, readable for this user only; removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;

        let name = format!("bulkhead-inspect-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        // Not if it is there already: somebody else's folder may hold somebody else's code.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let path = path.display();
            Failure::host(format!(
                "{path} cannot be made: {error}; point TMPDIR to a folder that this user may write to"
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say(&format!("{} stays behind: {error}", self.0.display()));
        }
    }
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
    line("can", &report.can.join(", "))?;
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
