//! `bulkhead link ...`.

use std::time::Duration;

use super::arguments::{LinkCommand, LinkList, LinkTest, NamedLink};
use super::client::{Client, encoded};
use super::failure::{FAULT, Failure};
use super::output::{Cell, Output, Tone, plain, short_time};
use super::pages;
use crate::http::wire;

/// A dial takes at most a minute.
const TEST: Duration = Duration::from_secs(60);

pub(super) fn link(command: &LinkCommand) -> Result<(), Failure> {
    match command {
        LinkCommand::List(arguments) => list(arguments),
        LinkCommand::Show(named) => show(named),
        LinkCommand::Test(arguments) => test(arguments),
        LinkCommand::Reconnect(named) => reconnect(named),
    }
}

fn list(arguments: &LinkList) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let mut out = Output::new();
    let channels: Vec<(&str, &str)> = arguments
        .channel
        .iter()
        .map(|channel| ("channel", channel.as_str()))
        .collect();
    let links = pages::all::<wire::LinkPage>(&client, "/links", &channels)?;
    if arguments.api.json {
        for link in &links {
            out.json(link)?;
        }
    } else {
        let rows: Vec<Vec<Cell>> = links.iter().map(row).collect();
        let heading = ["LINK", "STATE", "SINCE", "LEADS TO", "ATTEMPTS", "WHY"];
        out.table(&heading, &rows)?;
    }
    Ok(())
}

fn row(link: &wire::LinkSummary) -> Vec<Cell> {
    vec![
        format!("{}/{}", link.channel, link.link).into(),
        Cell::toned(tone(&link.state), link.state.as_str()),
        link.since
            .as_deref()
            .map(short_time)
            .unwrap_or_default()
            .into(),
        link.connect.as_str().into(),
        attempts(link).into(),
        link.reason.clone().unwrap_or_default().into(),
    ]
}

fn attempts(link: &wire::LinkSummary) -> String {
    match link.max_attempts {
        Some(most) => format!("{} of {most}", link.attempts),
        None => link.attempts.to_string(),
    }
}

fn tone(state: &str) -> Tone {
    match state {
        "connected" => Tone::Good,
        "disconnected" => Tone::Dim,
        "failed" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

fn show(named: &NamedLink) -> Result<(), Failure> {
    let client = Client::new(&named.api)?;
    let path = path(&named.link)?;
    let detail: wire::LinkDetail = client.get(&path)?;
    let history: wire::LinkHistory = client.get(&format!("{path}/events"))?;
    let mut out = Output::new();
    if named.api.json {
        let mut whole = serde_json::to_value(&detail).unwrap_or_default();
        whole["history"] = serde_json::to_value(&history).unwrap_or_default();
        out.json(&whole)?;
        return Ok(());
    }
    print(&mut out, &detail)?;
    out.line("")?;
    let rows: Vec<Vec<Cell>> = history.events.iter().map(past).collect();
    out.table(&["TIME", "LIFE", "WHAT", "WHY"], &rows)?;
    if history.left_out > 0 {
        let fast = format!(
            "{} events since then came too fast to be kept",
            history.left_out
        );
        out.line(&out.paint(Tone::Dim, &fast))?;
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

fn print(out: &mut Output, detail: &wire::LinkDetail) -> std::io::Result<()> {
    let wire::LinkDetail {
        link,
        connections,
        policy,
        statistics,
    } = detail;
    let state = out.paint(tone(&link.state), &link.state);
    let mut line = |name: &str, text: &str| out.line(&format!("{name:<11} {text}"));
    line("link", &format!("{}/{}", link.channel, link.link))?;
    line("leads to", &plain(&link.connect))?;
    let why = link.reason.as_ref().or(link.peer.as_ref());
    let why = why.map_or(String::new(), |why| format!(": {}", plain(why)));
    line("state", &format!("{state}{why}"))?;
    if let Some(since) = &link.since {
        line("since", &short_time(since))?;
    }
    line("attempts", &attempts(link))?;
    for connection in connections.iter().filter(|_| connections.len() > 1) {
        let peer = connection.peer.as_ref().or(connection.reason.as_ref());
        let peer = peer.map_or(String::new(), |peer| format!(" {}", plain(peer)));
        let text = format!("#{} {}{peer}", connection.connection, connection.state);
        line("connection", &text)?;
    }
    let time = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
    line(
        "redials",
        &format!(
            "after {} to {}; steady after {}",
            time(policy.base_delay_ms),
            time(policy.max_delay_ms),
            time(policy.steady_after_ms)
        ),
    )?;
    line(
        "heartbeat",
        &format!(
            "asked after {}, lost after {}",
            time(policy.heartbeat_interval_ms),
            time(policy.lost_after_ms)
        ),
    )?;
    line(
        "up",
        &format!(
            "{} since {}, {} streams, {} of {} dials failed",
            time(statistics.up_ms / 1_000 * 1_000),
            short_time(&statistics.since),
            statistics.streams,
            statistics.failed_dials,
            statistics.dials
        ),
    )?;
    line(
        "bytes",
        &format!("{} in, {} out", statistics.bytes_in, statistics.bytes_out),
    )?;
    if let Some(dial) = statistics.dial_ns {
        line("dial", &format!("{:.1?}", Duration::from_nanos(dial)))?;
    }
    if let (Some(last), Some(mean)) = (statistics.round_trip_ns, statistics.round_trip_mean_ns) {
        let (last, mean) = (Duration::from_nanos(last), Duration::from_nanos(mean));
        let text = format!(
            "{} of {} probes answered, {last:.1?}, mean {mean:.1?}",
            statistics.probes_answered, statistics.probes_sent
        );
        line("probes", &text)?;
    }
    Ok(())
}

fn past(past: &wire::LinkPast) -> Vec<Cell> {
    let tone = match past.event.as_str() {
        "connected" | "reconnected" => Tone::Good,
        "error" => Tone::Bad,
        _ => Tone::Doubtful,
    };
    let left_out = match past.left_out {
        0 => String::new(),
        count => format!(" ({count} before it came too fast to be kept)"),
    };
    vec![
        short_time(&past.at).into(),
        format!("#{}", past.incarnation).into(),
        Cell::toned(tone, past.event.as_str()),
        format!("{}{left_out}", past.cause).into(),
    ]
}

fn test(arguments: &LinkTest) -> Result<(), Failure> {
    let named = &arguments.named;
    let request = wire::LinkTestRequest {
        dial: arguments.dial,
    };
    let path = format!("{}/test", path(&named.link)?);
    let found: wire::LinkTest = Client::new(&named.api)?.post(&path, &request, TEST)?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&found)?;
    } else {
        for step in &found.steps {
            let (tone, word) = match step.ok {
                true => (Tone::Good, "ok"),
                false => (Tone::Bad, "failed"),
            };
            let word = out.paint(tone, word);
            let took = Duration::from_nanos(step.took_ns);
            let line = format!(
                "{:<11} {word}: {} ({took:.1?})",
                step.step,
                plain(&step.message)
            );
            out.line(&line)?;
            if let Some(remedy) = &step.remedy {
                out.line(&format!("            {}", plain(remedy)))?;
            }
        }
    }
    match found.ok {
        true => Ok(()),
        false => Err(Failure::Said(FAULT)),
    }
}

fn reconnect(named: &NamedLink) -> Result<(), Failure> {
    let path = format!("{}/reconnect", path(&named.link)?);
    let body = serde_json::json!({});
    let done: wire::LinkReconnect =
        Client::new(&named.api)?.post(&path, &body, Duration::from_secs(10))?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&done)?;
    } else {
        out.line(&format!(
            "{}/{} is dialled anew; `bulkhead link show {}/{}` tells how that goes",
            done.channel, done.link, done.channel, done.link
        ))?;
    }
    Ok(())
}

fn path(link: &str) -> Result<String, Failure> {
    match link.split_once('/') {
        Some((channel, name)) if !channel.is_empty() && !name.is_empty() => {
            Ok(format!("/links/{}/{}", encoded(channel), encoded(name)))
        }
        _ => Err(Failure::usage(format!(
            "`{link}` names no link; write channel/link, as in press-1/plc (`bulkhead link list` shows all)"
        ))),
    }
}
