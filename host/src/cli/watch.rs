//! `bulkhead tag watch`: the host's stream, followed over lost connections, from which it goes on where it was, and over restarts of
//! the host, where it says that there is a gap.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value as Json;

use super::arguments::TagWatch;
use super::client::{Client, query};
use super::failure::Failure;
use super::output::{Output, Tone, plain, quality_tone, say, state_tone, time_of_day, with_unit};
use crate::http::wire;

/// Between the first two attempts to come back; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause. The host keeps what was missed for a while only.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The longest line of the stream, in bytes: an array of 65,536 elements as JSON.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// The parameters of a filter.
pub(super) fn filter<'a>(
    channels: &'a [String],
    groups: &'a [String],
    patterns: &'a [String],
) -> Vec<(&'a str, &'a str)> {
    let given = [("channel", channels), ("group", groups), ("tag", patterns)];
    let each = given
        .into_iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (key, value.as_str())));
    each.collect()
}

pub(super) fn watch(arguments: &TagWatch) -> Result<(), Failure> {
    let client = Client::new(&arguments.api)?;
    let mut parameters = filter(&arguments.channel, &arguments.group, &arguments.patterns);
    if !arguments.events {
        parameters.push(("kind", "sample"));
    }
    if !arguments.no_snapshot {
        parameters.push(("snapshot", "true"));
    }
    let path = format!("/stream{}", query(parameters));
    let mut printer = Printer {
        out: Output::new(),
        json: arguments.api.json,
        left: arguments.count,
        width: 0,
        units: HashMap::new(),
    };
    let mut last_seen = String::new();
    let mut pause = None;
    loop {
        let stream = match (pause, client.stream(&path, &last_seen)) {
            (_, Ok(stream)) => stream,
            // A host that is not there at first is a mistake; one that goes away later comes back.
            (None, Err(failure)) => return Err(failure),
            (Some(before), Err(failure)) if is_passing(&failure) => {
                std::thread::sleep(before);
                pause = Some((2 * before).min(LONGEST_PAUSE));
                continue;
            }
            (Some(_), Err(failure)) => return Err(failure),
        };
        if pause.is_some() {
            say(match last_seen.is_empty() {
                true => "the host is back",
                false => "the host is back; going on where the stream was",
            });
        }
        let end = follow(stream, &mut last_seen, &mut |name, data| {
            printer.print(name, data)
        });
        match end {
            Ok(()) => return Ok(()),
            Err(End::Failed(failure)) => return Err(failure),
            Err(End::Lost(why)) => say(&format!(
                "the stream has ended ({why}); waiting for the host to come back"
            )),
        }
        std::thread::sleep(FIRST_PAUSE);
        pause = Some(FIRST_PAUSE);
    }
}

/// Whether a host that gives this answer may give the stream later.
fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::Told { .. } => true,
        // The host may not have given up the stream of before yet.
        Failure::Refused(error) => error.code == "too-many-streams",
        _ => false,
    }
}

/// Why a stream is followed no longer.
pub(super) enum End {
    /// The host has gone.
    Lost(String),
    /// Nothing more can be printed.
    Failed(Failure),
}

/// Whether to go on.
#[derive(PartialEq)]
pub(super) enum Flow {
    On,
    Enough,
}

/// Takes a stream of server-sent events apart (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), as far as this
/// API uses them. `last_seen` is the id of the last event that was handed on, if it had one.
pub(super) fn follow(
    stream: impl Read,
    last_seen: &mut String,
    event: &mut dyn FnMut(&str, &str) -> Result<Flow, Failure>,
) -> Result<(), End> {
    let mut reader = BufReader::new(stream);
    let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Err(End::Lost("the connection was closed".into())),
            Ok(_) if line.last() != Some(&b'\n') => {
                return Err(End::Lost("a line was cut off".into()));
            }
            Ok(_) => {}
            Err(error) => return Err(End::Lost(error.to_string())),
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if let Some(value) = text.strip_prefix("event:") {
            value.trim_start().clone_into(&mut name);
        } else if let Some(value) = text.strip_prefix("data:") {
            value.trim_start().clone_into(&mut data);
        } else if let Some(value) = text.strip_prefix("id:") {
            value.trim_start().clone_into(&mut id);
        } else if text.is_empty() {
            if name == "end" {
                return Err(End::Lost("the host stops".into()));
            }
            if !data.is_empty() && event(&name, &data).map_err(End::Failed)? == Flow::Enough {
                return Ok(());
            }
            if !id.is_empty() {
                std::mem::swap(last_seen, &mut id);
            }
            name.clear();
            data.clear();
            id.clear();
        }
    }
}

/// A gap, in words.
fn missed(gap: &wire::Gap) -> String {
    let why = match gap.reason.as_str() {
        "too-slow" => "this end is too slow",
        "too-late" => "the host does not keep them for so long",
        "host-restarted" => "the host was restarted",
        other => other,
    };
    let samples = gap
        .samples
        .map(|samples| format!(" with {samples} samples"));
    match gap.gap {
        Some(messages) => format!(
            "{messages} messages{} were missed here: {}",
            samples.unwrap_or_default(),
            plain(why)
        ),
        None => format!(
            "messages were missed here, nobody knows how many: {}",
            plain(why)
        ),
    }
}

struct Printer {
    out: Output,
    json: bool,
    left: Option<u64>,
    /// How wide the column of names has become.
    width: usize,
    /// By `channel/tag`, as the snapshot told them.
    units: HashMap<String, String>,
}

impl Printer {
    fn print(&mut self, name: &str, data: &str) -> Result<Flow, Failure> {
        let Ok(json) = serde_json::from_str::<Json>(data) else {
            return Ok(Flow::On);
        };
        let is_sample = matches!(name, "sample" | "snapshot");
        if self.json {
            // As it came, with its digits and the order of its keys; other than samples it says what it is.
            self.out.line(data)?;
        } else if is_sample {
            let line = self.sample(&json);
            self.out.line(&line)?;
        } else if name == "gap" {
            if let Ok(gap) = serde_json::from_value::<wire::Gap>(json) {
                let line = self.out.paint(Tone::Bad, &missed(&gap));
                self.out.line(&line)?;
            }
        } else if let Ok(event) = serde_json::from_value::<wire::ChannelEvent>(json) {
            let line = self.event(&event);
            self.out.line(&line)?;
        }
        if is_sample && let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Ok(Flow::Enough);
            }
        }
        Ok(Flow::On)
    }

    fn sample(&mut self, json: &Json) -> String {
        const MAX_WIDTH: usize = 40;
        let text = |key: &str| json[key].as_str().unwrap_or_default();
        let name = plain(&format!("{}/{}", text("channel"), text("tag")));
        self.width = self.width.max(name.chars().count()).min(MAX_WIDTH);
        let time = self.out.paint(
            Tone::Dim,
            &format!("{:<12}", time_of_day(text("server_time"))),
        );
        let quality = text("quality");
        let quality = match quality {
            "good" => String::new(),
            other => format!("   {}", self.out.paint(quality_tone(other), other)),
        };
        if !text("unit").is_empty() {
            self.units.insert(name.clone(), text("unit").to_owned());
        }
        let unit = self
            .units
            .get(&name)
            .map(String::as_str)
            .unwrap_or_default();
        let shown = with_unit(&json["value"], unit);
        format!(
            "{time}  {name:<width$}  {shown:>14}{quality}",
            width = self.width
        )
    }

    fn event(&self, event: &wire::ChannelEvent) -> String {
        let time = self.out.paint(Tone::Dim, time_of_day(&event.at));
        let what = match &event.what {
            wire::Happened::State { state, reason } => {
                format!(
                    "is {}: {}",
                    self.out.paint(state_tone(state), state),
                    plain(reason)
                )
            }
            wire::Happened::Exit(exit) => {
                let kind = self.out.paint(Tone::Bad, &exit.exit);
                format!("ended: {kind} in {}: {}", exit.during, plain(&exit.message))
            }
            wire::Happened::Link { link, up, detail } => {
                format!(
                    "link {} is {}: {}",
                    plain(link),
                    if *up { "up" } else { "down" },
                    plain(detail)
                )
            }
            wire::Happened::LinkEvent {
                link, event, cause, ..
            } => {
                format!("link {} {event}: {}", plain(link), plain(cause))
            }
            wire::Happened::Device {
                device,
                condition,
                why,
            } => {
                format!("device {} is {condition}: {}", plain(device), plain(why))
            }
            wire::Happened::Alarm {
                code,
                severity,
                active,
                message,
                device,
                source_time_ns: _,
            } => {
                let active = if *active { "raised" } else { "cleared" };
                let of = device
                    .as_ref()
                    .map(|device| format!(" of device {}", plain(device)))
                    .unwrap_or_default();
                let (severity, code) = (plain(severity), plain(code));
                format!("{severity} alarm {code}{of} {active}: {}", plain(message))
            }
            wire::Happened::Warning { message } => {
                format!(
                    "{}: {}",
                    self.out.paint(Tone::Doubtful, "warning"),
                    plain(message)
                )
            }
            wire::Happened::Dropped { count, what } => format!("{count} dropped: {}", plain(what)),
        };
        format!("{time}  {}#{} {what}", event.channel, event.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &str) -> (Vec<(String, String)>, String) {
        let mut seen = Vec::new();
        let end = follow(stream.as_bytes(), &mut String::new(), &mut |name, data| {
            seen.push((name.to_owned(), data.to_owned()));
            Ok(if seen.len() == 3 {
                Flow::Enough
            } else {
                Flow::On
            })
        });
        let end = match end {
            Ok(()) => "enough".to_owned(),
            Err(End::Lost(why)) => why,
            Err(End::Failed(failure)) => format!("{failure:?}"),
        };
        (seen, end)
    }

    #[test]
    fn a_stream_is_taken_apart() {
        let check = |stream: &str, expected: &[(&str, &str)], end: &str| {
            let (seen, ended) = events(stream);
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, data)| ((*name).into(), (*data).into()))
                .collect();
            assert_eq!((seen, ended.as_str()), (expected, end), "{stream:?}");
        };
        let one = "event: sample\ndata: {}\n\n";
        check(
            &format!(": hello\nretry: 1000\n\n{one}: beat\n\n"),
            &[("sample", "{}")],
            "the connection was closed",
        );
        check(
            "event: sample\r\ndata: {}\r\n\r\n",
            &[("sample", "{}")],
            "the connection was closed",
        );
        check(&one.repeat(4), &[("sample", "{}"); 3], "enough");
        check("event: sample\ndata: {", &[], "a line was cut off");
        check(
            "event: end\ndata: {\"reason\":\"\"}\n\nevent: a\ndata: b\n\n",
            &[],
            "the host stops",
        );
        check("", &[], "the connection was closed");
    }

    #[test]
    fn the_last_id_is_that_of_what_was_handed_on() {
        let check = |stream: &str, expected: &str| {
            let mut last_seen = "before".to_owned();
            let end = follow(stream.as_bytes(), &mut last_seen, &mut |_, _| Ok(Flow::On));
            assert!(end.is_err());
            assert_eq!(last_seen, expected, "{stream:?}");
        };
        check("event: snapshot\ndata: {}\n\n", "before");
        check("id: a-1\nevent: sample\ndata: {}\n\n", "a-1");
        check(
            "id: a-1\nevent: sample\ndata: {}\n\nid: a-2\nevent: sample\ndata: {}\n",
            "a-1",
        );
        check(": still here\nid: a-7\n\n", "a-7");
        check("id: a-1\n\nevent: gap\ndata: {}\n\n", "a-1");
        check("id: a-1\nevent: end\ndata: {}\n\n", "before");
    }
}
