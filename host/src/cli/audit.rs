//! `bulkhead audit ...`.

use super::arguments::{AuditCommand, AuditList, AuditVerify};
use super::client::Client;
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain, short_time};
use crate::audit;
use crate::http::wire;

/// Entries that are asked for at once.
const PAGE: u64 = 1_000;

pub(super) fn audit(command: &AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List(arguments) => list(arguments),
        AuditCommand::Verify(arguments) => verify(arguments),
    }
}

fn list(arguments: &AuditList) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let (mut left, mut before) = (arguments.limit, String::new());
    let mut entries = Vec::new();
    while left > 0 {
        let path = format!("/audit?limit={}{before}", left.min(PAGE));
        let page: wire::AuditPage = client.get(&path)?;
        left = left.saturating_sub(page.entries.len() as u64);
        entries.extend(page.entries);
        match page.next_before {
            Some(number) => before = format!("&before={number}"),
            None => break,
        }
    }
    let mut out = Output::new();
    if arguments.api.json {
        for entry in &entries {
            out.json(entry)?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = entries.iter().map(row).collect();
    out.table(&["NUMBER", "TIME", "BY", "TAG", "VALUE", "ANSWER"], &rows)?;
    Ok(())
}

fn row(entry: &audit::Entry) -> Vec<Cell> {
    let tone = match entry.answer.as_str() {
        "done" => Tone::Good,
        "unheard" => Tone::Doubtful,
        _ => Tone::Bad,
    };
    let by = match &entry.by {
        Some(by) => format!("{by} ({})", entry.via),
        None => entry.via.clone(),
    };
    vec![
        entry.number.to_string().into(),
        short_time(&entry.time).into(),
        plain(&by).into(),
        plain(&format!("{}/{}", entry.channel, entry.tag)).into(),
        plain(&entry.value.to_string()).into(),
        Cell::toned(tone, entry.answer.clone()),
    ]
}

fn verify(arguments: &AuditVerify) -> Result<(), Failure> {
    let folder = &arguments.data_dir;
    let verified = audit::verify(folder, arguments.since).map_err(|error| {
        Failure::fault(format!(
            "the audit log in {} cannot be read: {error}; name the host's `data_dir`",
            folder.display()
        ))
    })?;
    let mut out = Output::new();
    let faults: Vec<String> = verified
        .faults
        .iter()
        .map(|fault| match fault.line {
            0 => format!("{}: {}", fault.path.display(), fault.what),
            line => format!("{}:{line}: {}", fault.path.display(), fault.what),
        })
        .collect();
    if arguments.json {
        let last = verified.last.as_ref();
        out.json(&serde_json::json!({
            "entries": verified.entries,
            "last": last.map(|(number, hash)| serde_json::json!({ "number": number, "hash": hash })),
            "faults": faults,
        }))?;
    } else if let (Some((number, hash)), true) = (&verified.last, faults.is_empty()) {
        out.line(&format!(
            "whole: {} entries, the last one is {number} with the hash {hash}",
            verified.entries
        ))?;
    } else if faults.is_empty() {
        out.line("whole: no entries yet")?;
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::fault(format!(
        "the audit log is not what was written; compare it with a copy\n{}",
        faults.join("\n")
    )))
}
