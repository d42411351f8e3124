//! `bulkhead status`.

use super::arguments::Plain;
use super::client::Client;
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain, short_time, state_tone};
use crate::http::wire;

pub(super) fn status(arguments: &Plain) -> Result<(), Failure> {
    let status: wire::Status = Client::new(&arguments.api)?.get("/status")?;
    let mut out = Output::new();
    if arguments.api.json {
        out.json(&status)?;
        return Ok(());
    }
    let uptime = std::time::Duration::from_secs(status.uptime_ms / 1000);
    out.line(&format!(
        "bulkhead {}, process {}, up {} (since {})",
        plain(&status.version),
        status.pid,
        humantime::format_duration(uptime),
        short_time(&status.started_at)
    ))?;
    let states: Vec<String> = status
        .channels
        .iter()
        .map(|(state, count)| out.paint(state_tone(state), &format!("{count} {state}")))
        .collect();
    out.line(&format!("channels  {}", states.join(", ")))?;
    let wire::TagCounts { good, total } = status.tags;
    let tone = if good == total {
        Tone::Good
    } else {
        Tone::Doubtful
    };
    out.line(&format!(
        "tags      {}",
        out.paint(tone, &format!("{good} of {total} good"))
    ))?;
    let wire::Streams {
        open,
        missed_messages,
        missed_samples,
    } = status.streams;
    if open > 0 || missed_messages > 0 {
        let missed = format!("{missed_messages} messages missed ({missed_samples} samples)");
        let tone = if missed_messages == 0 {
            Tone::Plain
        } else {
            Tone::Doubtful
        };
        let missed = out.paint(tone, &missed);
        out.line(&format!("streams   {open} open, {missed}"))?;
    }
    if status.sinks.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let rows: Vec<Vec<Cell>> = status.sinks.into_iter().map(row).collect();
    out.table(
        &[
            "SINK", "KIND", "WRITTEN", "RATE", "LAG", "DROPPED", "TROUBLE",
        ],
        &rows,
    )?;
    Ok(())
}

/// What waits, and for how long the oldest of it has.
fn lag(sink: &wire::Sink) -> String {
    let waited = std::time::Duration::from_millis(sink.lag_ms);
    match sink.lag_samples {
        0 => "none".to_owned(),
        samples => format!("{samples} samples, {}", humantime::format_duration(waited)),
    }
}

fn row(sink: wire::Sink) -> Vec<Cell> {
    let dropped = if sink.dropped_messages == 0 {
        Tone::Plain
    } else {
        Tone::Bad
    };
    let lag = lag(&sink);
    vec![
        sink.name.into(),
        sink.kind.into(),
        sink.written_samples.to_string().into(),
        format!("{}/s", sink.rate_per_s).into(),
        lag.into(),
        Cell::toned(
            dropped,
            match sink.dropped_messages {
                0 => "0".to_owned(),
                messages => format!("{messages} ({} samples)", sink.dropped_samples),
            },
        ),
        Cell::toned(Tone::Bad, sink.trouble.unwrap_or_default()),
    ]
}
