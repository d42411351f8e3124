//! `bulkhead channel ...`.

use std::time::Duration;

use super::arguments::{ChannelCommand, NamedChannel, Plain};
use super::client::{Client, encoded};
use super::command;
use super::failure::Failure;
use super::output::{Cell, Output, Tone, plain, short_time, state_tone, time_of_day};
use super::{pages, past};
use crate::http::wire;

pub(super) fn channel(command: &ChannelCommand) -> Result<(), Failure> {
    match command {
        ChannelCommand::List(arguments) => list(arguments),
        ChannelCommand::Show(named) => {
            let channel =
                Client::new(&named.api)?.get(&format!("/channels/{}", encoded(&named.channel)))?;
            print(named, &channel)
        }
        ChannelCommand::History(named) => past::history(named),
        ChannelCommand::Start(named) => step(named, "start"),
        ChannelCommand::Stop(named) => step(named, "stop"),
        ChannelCommand::Restart(named) => step(named, "restart"),
        ChannelCommand::Reset(named) => step(named, "reset"),
        ChannelCommand::Commands(arguments) => command::list(arguments),
        ChannelCommand::Command(arguments) => command::give(arguments),
    }
}

fn list(arguments: &Plain) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let mut out = Output::new();
    let channels = pages::all::<wire::ChannelPage>(&client, "/channels", &[])?;
    if arguments.api.json {
        for channel in channels {
            out.json(&channel)?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = channels.into_iter().map(row).collect();
    out.table(
        &[
            "CHANNEL",
            "STATE",
            "SINCE",
            "GOOD TAGS",
            "LINKS",
            "LIFE",
            "ATTEMPTS",
            "REASON",
        ],
        &rows,
    )?;
    Ok(())
}

fn row(channel: wire::Channel) -> Vec<Cell> {
    let wire::TagCounts { good, total } = channel.tags;
    let up = channel.links.iter().filter(|link| link.up).count();
    let links = match channel.links.len() {
        0 => "-".to_owned(),
        all => format!("{up}/{all} up"),
    };
    let links_tone = if channel.links.iter().all(|link| link.up || !link.wanted) {
        Tone::Plain
    } else {
        Tone::Doubtful
    };
    vec![
        channel.id.into(),
        Cell::toned(state_tone(&channel.state), channel.state.clone()),
        time_of_day(&channel.since).into(),
        Cell::toned(
            if good == total {
                Tone::Plain
            } else {
                Tone::Doubtful
            },
            format!("{good}/{total}"),
        ),
        Cell::toned(links_tone, links),
        format!("#{}", channel.incarnation).into(),
        channel.attempts.to_string().into(),
        channel.reason.into(),
    ]
}

fn step(named: &NamedChannel, what: &str) -> Result<(), Failure> {
    let path = format!("/channels/{}/{what}", encoded(&named.channel));
    let channel: wire::ChannelDetail =
        Client::new(&named.api)?.post(&path, &serde_json::json!({}), Duration::from_secs(10))?;
    let mut out = Output::new();
    if named.api.json {
        out.json(&channel)?;
    } else {
        let wire::Channel {
            id, state, reason, ..
        } = channel.channel;
        out.line(&format!(
            "{id} is {}: {}",
            out.paint(state_tone(&state), &state),
            plain(&reason)
        ))?;
    }
    Ok(())
}

fn print(named: &NamedChannel, detail: &wire::ChannelDetail) -> Result<(), Failure> {
    let mut out = Output::new();
    if named.api.json {
        out.json(detail)?;
        return Ok(());
    }
    let channel = &detail.channel;
    let state = out.paint(state_tone(&channel.state), &channel.state);
    out.line(&format!(
        "channel   {} ({})",
        channel.id,
        plain(&channel.driver)
    ))?;
    out.line(&format!(
        "state     {state} since {}: {}",
        short_time(&channel.since),
        plain(&channel.reason)
    ))?;
    out.line(&format!(
        "life      #{}, {} attempts spent",
        channel.incarnation, channel.attempts
    ))?;
    if let Some(next) = &channel.next_attempt {
        out.line(&format!("next      {}", short_time(next)))?;
    }
    out.line(&format!(
        "tags      {} of {} good",
        channel.tags.good, channel.tags.total
    ))?;
    for link in &channel.links {
        let (tone, up) = match (link.up, link.wanted) {
            (true, _) => (Tone::Good, "up"),
            (false, true) => (Tone::Bad, "down"),
            (false, false) => (Tone::Dim, "unused"),
        };
        let up = out.paint(tone, up);
        out.line(&format!(
            "link      {} ({}) {up}: {}",
            plain(&link.name),
            link.connect,
            plain(&link.detail)
        ))?;
    }
    if channel.waiting > 0 {
        let waiting = format!("{} requests for a link to come up", channel.waiting);
        let waiting = out.paint(Tone::Doubtful, &waiting);
        out.line(&format!("waiting   {waiting}"))?;
    }
    for device in &detail.devices {
        let address = if device.address.is_empty() {
            String::new()
        } else {
            format!(" ({})", plain(&device.address))
        };
        let why = if device.why.is_empty() {
            String::new()
        } else {
            format!(": {}", plain(&device.why))
        };
        let standing = match device.standing.as_str() {
            "polled" => String::new(),
            _ => format!(", {}", super::device::said(device)),
        };
        out.line(&format!(
            "device    {}{address} {}{standing}{why}",
            plain(&device.name),
            device.condition
        ))?;
    }
    for group in &detail.groups {
        out.line(&format!(
            "group     {}: {} tags each {} ms{}",
            plain(&group.name),
            group.tags,
            group.period_ms,
            punctuality(&group.punctuality)
        ))?;
    }
    if let Some(last) = &detail.last_exit {
        let exit = &last.exit;
        let kind = out.paint(Tone::Bad, &exit.exit);
        out.line(&format!(
            "last exit {kind} of #{} in {} at {}: {}",
            last.incarnation,
            exit.during,
            short_time(&last.at),
            plain(&exit.message)
        ))?;
        out.line(&format!("          {}", exit.remedy))?;
        for told in &exit.events {
            let target = plain(&told.target);
            out.line(&format!("          upon {} ({target})", told.event))?;
        }
        if exit.events_left_out > 0 {
            out.line(&format!(
                "          and {} more events",
                exit.events_left_out
            ))?;
        }
        if let Some(bundle) = &exit.bundle {
            out.line(&format!("          bulkhead replay {}", plain(bundle)))?;
        }
        for frame in &exit.backtrace {
            let source = frame
                .source
                .as_deref()
                .map(|source| format!(" ({})", plain(source)))
                .unwrap_or_default();
            out.line(&format!("          at {}{source}", plain(&frame.function)))?;
        }
    }
    past::statistics(&mut out, &detail.statistics)?;
    out.line("")?;
    let rows: Vec<Vec<Cell>> = detail
        .counters
        .iter()
        .map(|(name, count)| vec![name.clone().into(), count.to_string().into()])
        .collect();
    out.table(&["COUNTER", "SINCE THE HOST STARTED"], &rows)?;
    Ok(())
}

/// How punctual the polls of a group are, behind what else is said of it; nothing before the first.
fn punctuality(punctuality: &wire::Punctuality) -> String {
    let ms = |nanos: u64| format!("{:.1} ms", nanos as f64 / 1e6);
    let (Some(late), Some(took)) = (punctuality.deviation_p99_ns, punctuality.took_p99_ns) else {
        return String::new();
    };
    let skipped = match punctuality.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} skipped"),
    };
    format!(
        "; {} polls{skipped}, p99 {} late, {} long",
        punctuality.polls,
        ms(late),
        ms(took)
    )
}
