//! What channels have gone through: `bulkhead channel history`, and the statistics in `bulkhead channel show`.

use std::io;
use std::time::Duration;

use super::arguments::NamedChannel;
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain, short_time, state_tone};
use crate::http::wire;

/// The widest bar of a histogram, in characters.
const BAR: u64 = 40;

pub(super) fn history(named: &NamedChannel) -> Result<(), Failure> {
    let path = format!("/channels/{}/history", encoded(&named.channel));
    let history: wire::History = Client::new(&named.api)?.get(&path)?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&history)?;
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = history.events.into_iter().map(row).collect();
    out.table(&["TIME", "LIFE", "WHAT", "WHY"], &rows)?;
    if history.dropped > 0 {
        let older = format!("{} older events made room for these", history.dropped);
        out.line(&out.paint(Tone::Dim, &older))?;
    }
    if history.unreadable > 0 {
        let damaged = format!("{} events were damaged and set aside", history.unreadable);
        out.line(&out.paint(Tone::Bad, &damaged))?;
    }
    if !history.durable {
        let late = "the disk is slow or away: the newest events may be missing here";
        out.line(&out.paint(Tone::Bad, late))?;
    }
    Ok(())
}

fn row(past: wire::Past) -> Vec<Cell> {
    let (what, why) = match past.what {
        wire::PastWhat::State {
            from,
            state,
            reason,
        } => {
            let tone = state_tone(&state);
            (Cell::toned(tone, format!("{from} to {state}")), reason)
        }
        wire::PastWhat::Exit {
            exit,
            during,
            message,
        } => (
            Cell::toned(Tone::Bad, format!("{exit} in {during}")),
            message,
        ),
        wire::PastWhat::Warning { message } => (Cell::toned(Tone::Doubtful, "warning"), message),
    };
    let time = short_time(&past.at);
    vec![
        time.into(),
        format!("#{}", past.incarnation).into(),
        what,
        why.into(),
    ]
}

pub(super) fn statistics(out: &mut Output, statistics: &wire::Statistics) -> io::Result<()> {
    let wire::Statistics {
        since,
        since_ns: _,
        lives,
        exits,
        running_ms,
        fuel,
        fuel_last_turn,
        fuel_max_turn,
        peak_memory_bytes,
        turn_latency,
    } = statistics;
    out.line("")?;
    out.line(&out.paint(Tone::Dim, &format!("SINCE {}", short_time(since))))?;
    let running = humantime::format_duration(Duration::from_millis(*running_ms));
    out.line(&format!("running   {running} in {lives} lives"))?;
    let ends: Vec<String> = exits
        .iter()
        .map(|(kind, count)| format!("{} {count}", plain(kind)))
        .collect();
    if !ends.is_empty() {
        out.line(&format!("ends      {}", ends.join(", ")))?;
    }
    out.line(&format!(
        "fuel      {fuel} in all, {fuel_last_turn} in the last turn, {fuel_max_turn} at most"
    ))?;
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let mib = *peak_memory_bytes as f64 / f64::from(1 << 20);
    out.line(&format!("memory    {mib:.2} MiB at most"))?;
    latency(out, turn_latency)
}

fn latency(out: &mut Output, latency: &wire::Latency) -> io::Result<()> {
    let wire::Latency {
        turns,
        p50_ns,
        p99_ns,
        p999_ns,
        buckets,
    } = latency;
    if *turns == 0 {
        return Ok(());
    }
    let below = |limit: &Option<u64>| match limit {
        Some(nanos) => format!("< {}", time(*nanos)),
        None => "longer".to_owned(),
    };
    out.line(&format!(
        "turns     {turns}: half {}, 99 % {}, 99.9 % {}",
        below(p50_ns),
        below(p99_ns),
        below(p999_ns)
    ))?;
    let most = buckets.iter().map(|bucket| bucket.turns).max().unwrap_or(1);
    for bucket in buckets {
        let limit = below(&bucket.below_ns);
        // A bucket with anything in it has a bar.
        let bar = (u128::from(bucket.turns) * u128::from(BAR)).div_ceil(u128::from(most.max(1)));
        let bar = "▇".repeat(usize::try_from(bar).unwrap_or(1));
        out.line(&format!("          {limit:>10} {bar} {}", bucket.turns))?;
    }
    Ok(())
}

/// Nanoseconds in the unit that suits them, with three digits.
fn time(nanos: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let nanos = nanos as f64;
    let (value, unit) = match nanos {
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (nanos, shown) in [
            (1_024, "1.02 µs"),
            (65_536, "65.5 µs"),
            (524_288, "524 µs"),
            (1_048_576, "1.05 ms"),
            (4_294_967_296, "4.29 s"),
        ] {
            assert_eq!(time(nanos), shown);
        }
    }
}
