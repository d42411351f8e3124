//! `bulkhead tag ...`.

use super::arguments::{NamedTag, TagCommand, TagList, TagRead, TagWrite};
use super::client::{Client, tag_path};
use super::failure::{FAULT, Failure};
use super::output::{Cell, Output, plain, quality_tone, short_time, time_of_day, value, with_unit};
use super::{browse, pages, tags_file, test_read, typed, watch};
use crate::http::wire;

/// Tags that are asked for with one request.
const PAGE: usize = 5_000;
/// Tags that are read with one request.
const READ_PAGE: usize = 1_000;

pub(super) fn tag(command: TagCommand) -> Result<(), Failure> {
    match command {
        TagCommand::List(arguments) => list(&arguments),
        TagCommand::Show(arguments) => show(&arguments),
        TagCommand::Read(arguments) => read(&arguments),
        TagCommand::Write(arguments) => write(&arguments),
        TagCommand::Browse(arguments) => browse::browse(&arguments),
        TagCommand::TestRead(arguments) => test_read::test_read(&arguments),
        TagCommand::Watch(arguments) => watch::watch(&arguments),
        TagCommand::Export(arguments) => tags_file::export(&arguments),
        TagCommand::Import(arguments) => super::in_runtime(tags_file::import(arguments))?,
    }
}

fn list(arguments: &TagList) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let mut out = Output::new();
    let parameters = watch::filter(&arguments.channel, &arguments.group, &arguments.patterns);
    let most = arguments.limit.unwrap_or(usize::MAX);
    let tags = pages::first::<wire::TagPage>(&client, "/tags", &parameters, (most, Some(PAGE)))?;
    if arguments.api.json {
        for tag in &tags {
            out.json(tag)?;
        }
    } else {
        let rows: Vec<Vec<Cell>> = tags.into_iter().map(row).collect();
        out.table(
            &["TAG", "VALUE", "QUALITY", "AT", "TYPE", "ACCESS", "REASON"],
            &rows,
        )?;
    }
    Ok(())
}

fn row(tag: wire::Tag) -> Vec<Cell> {
    vec![
        format!("{}/{}", tag.channel, tag.tag).into(),
        with_unit(&tag.value, &tag.unit).into(),
        Cell::toned(quality_tone(&tag.quality), tag.quality.clone()),
        tag.server_time
            .as_deref()
            .map(time_of_day)
            .unwrap_or_default()
            .into(),
        tag.data_type.into(),
        tag.access.into(),
        tag.reason.unwrap_or_default().into(),
    ]
}

fn show(arguments: &NamedTag) -> Result<(), Failure> {
    let detail: wire::TagDetail = Client::new(&arguments.api)?.get(&tag_path(&arguments.tag)?)?;
    let mut out = Output::new();
    if arguments.api.json {
        out.json(&detail)?;
        return Ok(());
    }
    let tag = &detail.tag;
    let mut line = |name: &str, text: &str| out.line(&format!("{name:<12} {text}"));
    line("tag", &format!("{}/{}", tag.channel, plain(&tag.tag)))?;
    if !detail.description.is_empty() {
        line("description", &plain(&detail.description))?;
    }
    line("value", &with_unit(&tag.value, &tag.unit))?;
    if let Some(time) = &tag.server_time {
        line("received", &format!("{} ({})", time, short_time(time)))?;
    }
    if let Some(time) = &tag.source_time {
        line("taken", time)?;
    }
    line("device", &plain(&tag.device))?;
    line(
        "address",
        &format!(
            "{} as {}, {}",
            plain(&detail.address),
            tag.data_type,
            tag.access
        ),
    )?;
    if (detail.scale, detail.offset) != (1.0, 0.0) {
        line(
            "scaling",
            &format!("value = raw * {} + {}", detail.scale, detail.offset),
        )?;
    }
    if let (Some(group), Some(period)) = (&detail.group, detail.period_ms) {
        line(
            "polled",
            &format!("in group {} each {period} ms", plain(group)),
        )?;
    } else {
        line("polled", "on demand only")?;
    }
    if let Some(mask) = &detail.mask {
        line("bits", &format!("those of {}", plain(mask)))?;
    }
    if let Some(bit) = detail.bit {
        line("bits", &format!("number {bit} alone"))?;
    }
    for (name, bounds) in [("clamp", detail.clamp), ("limits", detail.limits)] {
        if let Some([low, high]) = bounds {
            line(name, &format!("{low} to {high}"))?;
        }
    }
    if detail.report != "always" {
        line("reported", &reported(&detail))?;
    }
    if let Some(interval) = detail.write_interval_ms {
        line("written", &format!("at most once in {interval} ms"))?;
    }
    let quality = out.paint(quality_tone(&tag.quality), &tag.quality);
    out.line(&format!("{:<12} {quality}", "quality"))?;
    for reason in &detail.reasons {
        out.line(&format!("{:<12} - {}", "", plain(reason)))?;
    }
    Ok(())
}

/// When a tag's samples are handed on, in words.
fn reported(detail: &wire::TagDetail) -> String {
    let change = format!("when it changes by more than {}", detail.deadband);
    let interval = detail.interval_ms.unwrap_or_default();
    let mut when = match detail.report.as_str() {
        "interval" => format!("each {interval} ms"),
        "both" => format!("{change}, and each {interval} ms"),
        _ => change,
    };
    if let Some(most) = detail.max_silence_ms {
        when.push_str(&format!(", and after {most} ms without a report"));
    }
    when
}

fn read(arguments: &TagRead) -> Result<(), Failure> {
    for tag in &arguments.tags {
        tag_path(tag)?;
    }
    let client = Client::new(&arguments.api)?;
    let mut out = Output::new();
    let mut failed = false;
    let mut rows = Vec::new();
    for tags in arguments.tags.chunks(READ_PAGE) {
        let request = wire::ReadManyRequest {
            tags: tags.to_vec(),
            timeout_ms: Some(millis(arguments.timeout)),
        };
        let answer: wire::ReadManyAnswer =
            client.post("/tags/read", &request, arguments.timeout)?;
        for result in answer.results {
            failed |= match &result {
                wire::ReadResult::Done(reading) => reading.quality.starts_with("bad"),
                wire::ReadResult::Failed { .. } => true,
            };
            if arguments.api.json {
                out.json(&result)?;
            } else {
                rows.push(read_row(result));
            }
        }
    }
    if !arguments.api.json {
        out.table(&["TAG", "VALUE", "QUALITY", "AT"], &rows)?;
    }
    if failed {
        Err(Failure::Said(FAULT))
    } else {
        Ok(())
    }
}

fn read_row(result: wire::ReadResult) -> Vec<Cell> {
    match result {
        wire::ReadResult::Done(reading) => vec![
            format!("{}/{}", reading.channel, reading.tag).into(),
            with_unit(&reading.value, &reading.unit).into(),
            Cell::toned(quality_tone(&reading.quality), reading.quality.clone()),
            time_of_day(&reading.server_time).into(),
        ],
        wire::ReadResult::Failed { reference, error } => {
            let why = format!("{}; {}", error.message, error.remedy);
            vec![
                reference.into(),
                "-".into(),
                Cell::toned(quality_tone("bad"), error.code),
                why.into(),
            ]
        }
    }
}

fn write(arguments: &TagWrite) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let path = tag_path(&arguments.tag)?;
    // The type decides what the text means.
    let detail: wire::TagDetail = client.get(&path)?;
    let typed = typed::parse(&detail.tag.data_type, &arguments.value).map_err(Failure::fault)?;
    let request = wire::WriteRequest {
        value: typed,
        read_back: arguments.read_back,
        timeout_ms: Some(millis(arguments.timeout)),
        by: whoami(),
    };
    let written: wire::Written =
        client.post(&format!("{path}/write"), &request, arguments.timeout)?;
    let mut out = Output::new();
    if arguments.api.json {
        out.json(&written)?;
        return Ok(());
    }
    let unit = &detail.tag.unit;
    let read_back = match &written.read_back {
        Some(read) => format!("; the device holds {}", with_unit(read, unit)),
        None => String::new(),
    };
    let name = format!("{}/{}", written.channel, plain(&written.tag));
    let shown = value(&written.value);
    let shown = if unit.is_empty() {
        shown
    } else {
        format!("{shown} {}", plain(unit))
    };
    out.line(&format!("{name} written: {shown}{read_back}"))?;
    Ok(())
}

/// What the system calls whoever runs this, if it does.
fn whoami() -> Option<String> {
    let name = super::logs::environment("USER").ok()??;
    (!name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control)).then_some(name)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
