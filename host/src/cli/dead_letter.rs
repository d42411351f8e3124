//! `bulkhead dead-letter ...`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::arguments::{DeadLetterCommand, LetterList, NamedLetter};
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain, short_time};
use super::pages;
use crate::http::wire;

/// Bytes of a payload that are shown to people.
const SHOWN: usize = 256;

pub(super) fn dead_letter(command: &DeadLetterCommand) -> Result<(), Failure> {
    match command {
        DeadLetterCommand::List(arguments) => list(arguments),
        DeadLetterCommand::Show(named) => show(named),
        DeadLetterCommand::Retry(named) => lift(named, "retry"),
        DeadLetterCommand::Drop(named) => lift(named, "drop"),
    }
}

fn list(arguments: &LetterList) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let mut out = Output::new();
    let channels: Vec<(&str, &str)> = arguments
        .channel
        .iter()
        .map(|channel| ("channel", channel.as_str()))
        .collect();
    let letters = pages::all::<wire::DeadLetterPage>(&client, "/dead-letters", &channels)?;
    if arguments.api.json {
        for letter in &letters {
            out.json(letter)?;
        }
    } else {
        let rows: Vec<Vec<Cell>> = letters.into_iter().map(row).collect();
        let heading = [
            "LETTER",
            "KIND",
            "TARGET",
            "BYTES",
            "SINCE",
            "FAULTS",
            "LAST EXIT",
        ];
        out.table(&heading, &rows)?;
    }
    Ok(())
}

fn row(letter: wire::DeadLetter) -> Vec<Cell> {
    vec![
        format!("{}/{}", letter.channel, letter.number).into(),
        letter.kind.into(),
        letter.target.into(),
        letter.length.to_string().into(),
        short_time(&letter.at).into(),
        letter.faults.to_string().into(),
        Cell::toned(Tone::Bad, letter.exit),
    ]
}

fn show(named: &NamedLetter) -> Result<(), Failure> {
    let detail: wire::DeadLetterDetail = Client::new(&named.api)?.get(&path(named)?)?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&detail)?;
        return Ok(());
    }
    let letter = &detail.letter;
    let mut line = |name: &str, text: &str| out.line(&format!("{name:<9} {text}"));
    line("letter", &format!("{}/{}", letter.channel, letter.number))?;
    line(
        "event",
        &format!("{} of {}", letter.kind, plain(&letter.target)),
    )?;
    line(
        "since",
        &format!("{}, #{}", short_time(&letter.at), letter.incarnation),
    )?;
    line(
        "faults",
        &format!(
            "{}, the last {}: {}",
            letter.faults,
            letter.exit,
            plain(&letter.message)
        ),
    )?;
    line(
        "carries",
        &format!("{} bytes, sha256 {}", letter.length, letter.sha256),
    )?;
    if letter.length > 0 {
        line("", &carried(&detail.payload_base64))?;
    }
    line("effect", &detail.effect)?;
    line("retry", &detail.retry)?;
    line("drop", &detail.drop)?;
    Ok(())
}

/// The first bytes of a payload: as text where they are, else as hexadecimal digits.
fn carried(base64: &str) -> String {
    let bytes = BASE64.decode(base64).unwrap_or_default();
    let piece = bytes.get(..SHOWN).unwrap_or(&bytes);
    let more = if piece.len() < bytes.len() {
        " ..."
    } else {
        ""
    };
    match std::str::from_utf8(piece) {
        Ok(text) => format!("{}{more}", plain(text)),
        Err(_) => {
            let digits: Vec<String> = piece.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{more}", digits.join(" "))
        }
    }
}

fn lift(named: &NamedLetter, how: &str) -> Result<(), Failure> {
    let path = format!("{}/{how}", path(named)?);
    let letter: wire::DeadLetter =
        Client::new(&named.api)?.post(&path, &serde_json::json!({}), Duration::from_secs(10))?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&letter)?;
    } else {
        out.line(&format!(
            "{}/{} is off the list: {} of {} is kept away from the driver no longer",
            letter.channel,
            letter.number,
            letter.kind,
            plain(&letter.target)
        ))?;
    }
    Ok(())
}

fn path(named: &NamedLetter) -> Result<String, Failure> {
    match named.letter.split_once('/') {
        Some((channel, number)) if !channel.is_empty() && !number.is_empty() => Ok(format!(
            "/dead-letters/{}/{}",
            encoded(channel),
            encoded(number)
        )),
        _ => Err(Failure::usage(format!(
            "`{}` names no dead letter; write channel/number, as in press-1/3 (`bulkhead dead-letter list` shows all)",
            named.letter
        ))),
    }
}
