//! `bulkhead outbox ...`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::arguments::Api;
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain};
use crate::http::wire;

#[derive(Debug, Args)]
#[command(after_help = "\
An outbox holds on the disk what its sink has not acknowledged yet. Sinks have one with `outbox = true`, and those whose peer is
another process (mqtt, postgres, nats) unless their configuration says otherwise.")]
pub(super) struct OutboxArguments {
    #[command(subcommand)]
    pub(super) command: OutboxCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum OutboxCommand {
    /// List all outboxes: what waits in them, for how long, and what was dropped
    List(All),
    /// Show everything that is known of an outbox, with how far each channel has got
    Show(Named),
    /// Drop all that waits in an outbox; the sink is told that it is missing
    Purge(Purge),
    /// Print all that waits in an outbox as JSON lines, the oldest first; it stays where it is
    Export(Export),
}

#[derive(Debug, Args)]
pub(super) struct All {
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The sink's name
    pub(super) sink: String,
    #[command(flatten)]
    pub(super) api: Api,
}

#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    pub(super) named: Named,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    pub(super) named: Named,
    /// Write into this file, which must not exist, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

impl OutboxCommand {
    pub(super) fn api(&self) -> &Api {
        match self {
            OutboxCommand::List(all) => &all.api,
            OutboxCommand::Show(named) => &named.api,
            OutboxCommand::Purge(purge) => &purge.named.api,
            OutboxCommand::Export(export) => &export.named.api,
        }
    }
}

pub(super) fn outbox(command: &OutboxCommand) -> Result<(), Failure> {
    match command {
        OutboxCommand::List(all) => list(all),
        OutboxCommand::Show(named) => show(named),
        OutboxCommand::Purge(arguments) => purge(arguments),
        OutboxCommand::Export(arguments) => export(arguments),
    }
}

fn list(arguments: &All) -> Result<(), Failure> {
    let all: wire::OutboxList = Client::new(&arguments.api)?.get("/outbox")?;
    let mut out = Output::new();
    if arguments.api.json {
        for outbox in &all.outboxes {
            out.json(outbox)?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = all.outboxes.iter().map(row).collect();
    let heading = [
        "SINK", "KIND", "WAITING", "BYTES", "OLDEST", "DROPPED", "TROUBLE",
    ];
    out.table(&heading, &rows)?;
    Ok(())
}

fn row(outbox: &wire::Outbox) -> Vec<Cell> {
    let dropped = outbox.dropped_samples.values().sum::<u64>() + outbox.missed_samples;
    let tone = if dropped == 0 { Tone::Plain } else { Tone::Bad };
    let share = outbox.bytes.saturating_mul(100) / outbox.max_bytes.max(1);
    vec![
        outbox.sink.as_str().into(),
        outbox.kind.as_str().into(),
        outbox.samples.to_string().into(),
        format!("{} ({share} %)", outbox.bytes).into(),
        age(outbox.oldest_ms).into(),
        Cell::toned(tone, dropped.to_string()),
        Cell::toned(
            Tone::Bad,
            outbox.trouble.as_deref().map(plain).unwrap_or_default(),
        ),
    ]
}

fn age(millis: u64) -> String {
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

fn path(named: &Named) -> String {
    format!("/outbox/{}", encoded(&named.sink))
}

fn show(named: &Named) -> Result<(), Failure> {
    let detail: wire::OutboxDetail = Client::new(&named.api)?.get(&path(named))?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&detail)?;
        return Ok(());
    }
    let outbox = &detail.outbox;
    let mut line = |name: &str, text: &str| out.line(&format!("{name:<10} {text}"));
    line(
        "sink",
        &format!("{} ({})", plain(&outbox.sink), outbox.kind),
    )?;
    line(
        "waiting",
        &format!(
            "{} samples, {} of {} bytes",
            outbox.samples, outbox.bytes, outbox.max_bytes
        ),
    )?;
    line(
        "oldest",
        &format!("{} of {}", age(outbox.oldest_ms), age(outbox.max_age_ms)),
    )?;
    line("accepted", &format!("{} samples", outbox.accepted_samples))?;
    line(
        "delivered",
        &format!("{} samples", outbox.delivered_samples),
    )?;
    for (reason, samples) in &outbox.dropped_samples {
        line("dropped", &format!("{samples} samples: {reason}"))?;
    }
    line(
        "missed",
        &format!("{} samples were never accepted", outbox.missed_samples),
    )?;
    line("overflow", &outbox.overflow)?;
    line("accepting", if outbox.accepting { "yes" } else { "no" })?;
    line("file", &plain(&outbox.file))?;
    if let Some(trouble) = &outbox.trouble {
        line("trouble", &plain(trouble))?;
    }
    if detail.channels.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let rows: Vec<Vec<Cell>> = detail
        .channels
        .iter()
        .map(|mark| {
            vec![
                mark.channel.as_str().into(),
                format!("{}/{}", mark.accepted_epoch, mark.accepted_sequence).into(),
                format!("{}/{}", mark.acknowledged_epoch, mark.acknowledged_sequence).into(),
            ]
        })
        .collect();
    out.table(&["CHANNEL", "ACCEPTED", "ACKNOWLEDGED"], &rows)?;
    Ok(())
}

fn purge(arguments: &Purge) -> Result<(), Failure> {
    let named = &arguments.named;
    if !arguments.yes {
        return Err(Failure::usage(format!(
            "what waits in the outbox of {} would be lost; say `--yes` if that is meant, and `bulkhead outbox export` first to keep it",
            plain(&named.sink)
        )));
    }
    let nothing = serde_json::json!({});
    let purged: wire::OutboxPurged = Client::new(&named.api)?.post(
        &format!("{}/purge", path(named)),
        &nothing,
        Duration::from_secs(10),
    )?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&purged)?;
    } else {
        out.line(&format!("{} samples were dropped", purged.samples))?;
    }
    Ok(())
}

fn export(arguments: &Export) -> Result<(), Failure> {
    let named = &arguments.named;
    let lines = Client::new(&named.api)?.stream(&format!("{}/export", path(named)), "")?;
    let fault = |error: std::io::Error| {
        Failure::host(format!("the export was cut off: {error}; ask again"))
    };
    let mut lines = BufReader::new(lines);
    match &arguments.output {
        None => {
            let mut out = Output::new();
            let mut line = String::new();
            while lines.read_line(&mut line).map_err(fault)? > 0 {
                out.line(line.trim_end_matches('\n'))?;
                line.clear();
            }
        }
        Some(path) => {
            let remedy = |error: std::io::Error| {
                Failure::host(format!(
                    "{} cannot be written: {error}; name another file with --output",
                    path.display()
                ))
            };
            let mut file = std::fs::File::create_new(path).map_err(remedy)?;
            let bytes = std::io::copy(&mut lines, &mut file).map_err(remedy)?;
            file.flush()
                .and_then(|()| file.sync_all())
                .map_err(remedy)?;
            let mut out = Output::new();
            out.line(&format!("{bytes} bytes in {}", path.display()))?;
        }
    }
    Ok(())
}
