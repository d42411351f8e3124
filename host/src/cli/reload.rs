//! `bulkhead reload`.

use std::time::Duration;

use super::arguments::Reload;
use super::client::Client;
use super::failure::Failure;
use super::output::{Output, Tone, plain};
use super::progress::Progress;
use crate::config::{ChannelDifference, Items};
use crate::http::wire;

/// How long drivers may take to compile.
const WITHIN: Duration = Duration::from_secs(600);
/// Names that are listed of one kind.
const MAX_NAMES: usize = 8;

pub(super) fn reload(arguments: &Reload) -> Result<(), Failure> {
    let request = wire::ReloadRequest {
        dry_run: arguments.dry_run,
    };
    let progress = Progress::new();
    progress.begin("checking the configuration");
    let answer = Client::new(&arguments.api)?.post("/reload", &request, WITHIN);
    drop(progress);
    let reload: wire::Reload = answer?;
    let mut out = Output::new();
    if arguments.api.json {
        out.json(&reload)?;
        return Ok(());
    }
    let difference = &reload.difference;
    let line = |out: &mut Output, tone, sign: &str, text: &str| {
        let line = out.paint(tone, &format!("{sign} channel {}", plain(text)));
        out.line(&line)
    };
    for added in &difference.added {
        line(&mut out, Tone::Good, "+", added)?;
    }
    for removed in &difference.removed {
        line(&mut out, Tone::Bad, "-", removed)?;
    }
    for changed in &difference.changed {
        let text = format!("{}: {}", changed.channel, sentence(changed));
        line(&mut out, Tone::Doubtful, "~", &text)?;
    }
    let count = difference.unchanged;
    let unchanged = format!(
        "{count} {} unchanged",
        if count == 1 { "channel" } else { "channels" }
    );
    out.line(&match (difference.is_empty(), reload.applied) {
        (true, _) => format!("nothing is another; {unchanged}"),
        (false, true) => format!("reloaded; {unchanged}"),
        (false, false) => format!("nothing was changed yet (--dry-run); {unchanged}"),
    })?;
    for late in &reload.late {
        let why = "its driver has not stopped yet, and the change comes when it has";
        line(&mut out, Tone::Doubtful, "!", &format!("{late}: {why}"))?;
    }
    Ok(())
}

/// What is another in a channel.
fn sentence(changed: &ChannelDifference) -> String {
    let mut parts = Vec::new();
    if !changed.keys.is_empty() {
        parts.push(changed.keys.join(", "));
    }
    for (what, items) in [
        ("links", &changed.links),
        ("devices", &changed.devices),
        ("groups", &changed.groups),
        ("tags", &changed.tags),
    ] {
        if !items.is_empty() {
            parts.push(format!("{what} {}", names(items)));
        }
    }
    match parts.is_empty() {
        true => "the order of its parts".to_owned(),
        false => parts.join("; "),
    }
}

fn names(items: &Items) -> String {
    let all = [
        ('+', &items.added),
        ('-', &items.removed),
        ('~', &items.changed),
    ];
    let all: Vec<String> = all
        .into_iter()
        .flat_map(|(sign, names)| names.iter().map(move |name| format!("{sign}{name}")))
        .collect();
    let mut shown: Vec<String> = all.iter().take(MAX_NAMES).cloned().collect();
    if all.len() > MAX_NAMES {
        shown.push(format!("and {} more", all.len() - MAX_NAMES));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_says_what_of_it_is_another() {
        let many = |from: u32, to: u32| (from..to).map(|number| format!("t{number}")).collect();
        let changed = ChannelDifference {
            channel: "press-1".into(),
            keys: vec!["settings".into(), "limits".into()],
            tags: Items {
                added: vec!["new".into()],
                removed: many(0, 3),
                changed: many(3, 20),
            },
            ..ChannelDifference::default()
        };
        assert_eq!(
            sentence(&changed),
            "settings, limits; tags +new, -t0, -t1, -t2, ~t3, ~t4, ~t5, ~t6, and 13 more"
        );
        assert_eq!(
            sentence(&ChannelDifference::default()),
            "the order of its parts"
        );
    }
}
