//! The log, on standard error, through a thread that nobody waits for.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::arguments::{Log, LogFormat};
use super::failure::Failure;
use super::log_writer::LogWriter;
use super::output;

/// What writes to standard error, once a log has been started.
static WRITER: OnceLock<LogWriter> = OnceLock::new();
/// How long the end of a command waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Says a line in the order of the log, if there is one. Gives whether there is.
pub(super) fn say(line: &str) -> bool {
    match WRITER.get() {
        Some(writer) => {
            writer.line(format!("{line}\n").as_bytes());
            true
        }
        None => false,
    }
}

/// Waits a little until what was logged is written.
pub(super) fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.flush(LAST_LINES);
    }
}

/// The log of a command. `--log-level` counts before BULKHEAD_LOG.
pub(super) fn start(log: &Log) -> Result<(), Failure> {
    let from_environment = environment("BULKHEAD_LOG")?;
    let level = log
        .log_level
        .clone()
        .or(from_environment)
        .unwrap_or_else(|| "info".to_owned());
    let filter = filter(&level)?;
    let notice = match log.log_format {
        LogFormat::Text => dropped_text,
        LogFormat::Json => dropped_json,
    };
    let writer = LogWriter::start(io::stderr(), notice)
        .map_err(|error| Failure::host(format!("the log cannot be started: {error}")))?;
    let writer = WRITER.get_or_init(|| writer).clone();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let started = match log.log_format {
        LogFormat::Text => builder
            .with_ansi(output::colours(&io::stderr()))
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::host(format!("the log cannot be started: {error}")))
}

const DROPPED: &str = "log lines were dropped, since nobody read standard error fast enough";

fn dropped_text(count: u64) -> String {
    format!("{count} {DROPPED}\n")
}

fn dropped_json(count: u64) -> String {
    let line = serde_json::json!({ "level": "WARN", "message": DROPPED, "dropped": count });
    format!("{line}\n")
}

/// A variable of the environment, if it is set to something.
pub(super) fn environment(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var_os(name) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => value.into_string().map(Some).map_err(|_| {
            Failure::usage(format!(
                "{name} in the environment is no text; set it anew, or unset it"
            ))
        }),
    }
}

/// A level alone means this host's own log and what its drivers say; libraries speak up when something is wrong.
fn filter(level: &str) -> Result<EnvFilter, Failure> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let wrong = |why: String| {
        Failure::usage(format!(
            "`{level}` is no log level: {why}; use {}, or bulkhead::link=debug",
            LEVELS.join(", ")
        ))
    };
    let lower = level.to_ascii_lowercase();
    let directives = match lower.as_str() {
        "off" | "error" => lower,
        known if LEVELS.contains(&known) => format!("warn,bulkhead={known},driver={known}"),
        word if !word.contains(['=', ',', ':']) => {
            return Err(wrong("there is none of this name".into()));
        }
        _ => level.to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_directives() {
        let check = |level: &str, expected: Result<&str, ()>| match (filter(level), expected) {
            (Ok(filter), Ok(expected)) => assert_eq!(filter.to_string(), expected),
            (Err(failure), Err(())) => assert_eq!(failure.code(), super::super::failure::USAGE),
            (other, _) => panic!("{level}: {other:?}"),
        };
        check("info", Ok("bulkhead=info,driver=info,warn"));
        check("DEBUG", Ok("bulkhead=debug,driver=debug,warn"));
        check("off", Ok("off"));
        check("bulkhead::link=trace", Ok("bulkhead::link=trace"));
        check("loud", Err(()));
        check("bulkhead=loud", Err(()));
    }
}
