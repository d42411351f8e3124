//! A bundle as a script: what a driver was given until it crashed, and what it does then, for a test that stays.
//!
//! A bundle holds what the driver was given, not what it did. So a driver is played through it, and what it does stands in the script as
//! what is expected: a golden record, to be read and pruned by somebody who knows what is right. The driver that crashed makes a script
//! that fails in its last step until it is mended.
//!
//! Bytes stand as they were. Ids that a protocol makes up anew in each session are for the reader to turn into placeholders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use super::heard::{shown_quality, shown_value};
use super::script::{REASONS, STOPS};
use crate::bindings::actions::Action;
use crate::bindings::config::ChannelConfig;
use crate::bindings::events::{CloseReason, Closed, Happening, Outlook, StopReason};
use crate::bindings::types::{Error, Sample, Value};
use crate::driver::Driver;
use crate::recorder::Bundle;
use crate::replay::{ReplayError, setup};
use crate::virtual_host::VirtualHost;

/// Plays a driver through a bundle, and writes it down. `same_driver` is the one that crashed.
pub async fn to_script(bundle: &Bundle, driver: &Driver) -> Result<String, ReplayError> {
    let header = &bundle.header;
    let same = driver.sha256() == header.driver.sha256;
    let setup = setup(header, same)?;
    let config = setup.config.clone();
    let mut writer = Writer::new(&config);
    let mut host = match VirtualHost::start(driver, setup, header.start.now()).await? {
        Ok(host) => host,
        Err(exit) => {
            writer.line(&format!("# the driver ends as it starts: {exit}"));
            return Ok(writer.text);
        }
    };
    if let Some(configure) = header.configure {
        host = match host.configure(configure.now()).await {
            Ok(host) => host,
            Err(exit) => {
                writer.line(&format!("# {exit}"));
                return Ok(writer.text);
            }
        };
    }
    if !bundle.tape.is_whole() {
        writer.line("# the middle of the recording was lost");
    }
    for turn in bundle.tape.turns() {
        let turn = turn?;
        writer.time(turn.now.0.0);
        for event in &turn.events {
            writer.event(&event.what);
        }
        match host.give(turn.now, &turn.events).await {
            Ok((next, actions)) => {
                host = next;
                writer.actions(&actions);
                host.note(turn.now.0, &actions);
            }
            Err(exit) => {
                writer.line(&format!(
                    "# here the driver ended, {}",
                    crate::text::shown(&exit.to_string(), 400)
                ));
                break;
            }
        }
    }
    Ok(writer.text)
}

struct Writer<'a> {
    text: String,
    config: &'a ChannelConfig,
    now: Option<u64>,
    /// The link of each connection.
    links: BTreeMap<u32, u32>,
    /// Those that were up once.
    known: BTreeSet<u32>,
    /// Those whose next `closed` and `opened` belong to a reset that was told.
    reset: BTreeSet<u32>,
    /// Requests whose answers were not written yet, in the order in which a script takes them.
    asked: VecDeque<u64>,
    /// Answers to some of them that came before their turn.
    early: BTreeMap<u64, String>,
}

impl<'a> Writer<'a> {
    fn new(config: &'a ChannelConfig) -> Self {
        let mut writer = Self {
            text: String::new(),
            config,
            now: None,
            links: BTreeMap::new(),
            known: BTreeSet::new(),
            reset: BTreeSet::new(),
            asked: VecDeque::new(),
            early: BTreeMap::new(),
        };
        writer.head();
        writer
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _written = writeln!(self.text, "{line}");
    }

    fn head(&mut self) {
        let config = self.config;
        if let Some(table) = table(&config.settings) {
            self.line(&format!("settings {table}"));
        }
        for link in &config.links {
            self.line(&format!("link {} {}", link.name, link.kind));
        }
        for device in &config.devices {
            let settings = table(&device.settings).unwrap_or_default();
            self.line(
                format!(
                    "device {} {} {settings}",
                    word(&device.name),
                    word(&device.address)
                )
                .trim_end(),
            );
        }
        for tag in &config.tags {
            let access = match (tag.readable, tag.writable) {
                (true, true) => " rw",
                (false, true) => " w",
                (_, false) => "",
            };
            let device = config.devices.iter().find(|device| device.id == tag.device);
            let of = device
                .map(|device| format!(" of {}", word(&device.name)))
                .unwrap_or_default();
            let settings = table(&tag.settings)
                .map(|table| format!(" {table}"))
                .unwrap_or_default();
            self.line(&format!(
                "tag {} {} {}{access}{of}{settings}",
                word(&tag.name),
                word(&tag.address),
                tag.data_type
            ));
        }
        for group in &config.groups {
            let tags: Vec<String> = group.tags.iter().map(|tag| self.tag(*tag)).collect();
            self.line(&format!(
                "group {} {}ns {}",
                word(&group.name),
                group.period_ns,
                tags.join(" ")
            ));
        }
        self.line("\ncase session");
    }

    fn tag(&self, id: u32) -> String {
        let found = self.config.tags.iter().find(|tag| tag.id == id);
        found.map_or_else(|| id.to_string(), |tag| word(&tag.name))
    }

    fn group(&self, id: u32) -> String {
        let found = self.config.groups.iter().find(|group| group.id == id);
        found.map_or_else(|| id.to_string(), |group| word(&group.name))
    }

    fn device(&self, id: u32) -> String {
        let found = self.config.devices.iter().find(|device| device.id == id);
        found.map_or_else(|| id.to_string(), |device| word(&device.name))
    }

    fn link_of(&self, connection: u32) -> String {
        let link = self.links.get(&connection);
        let found = self
            .config
            .links
            .iter()
            .find(|known| Some(&known.id) == link);
        found.map_or_else(|| connection.to_string(), |link| link.name.clone())
    }

    fn time(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now.unwrap_or(now));
        self.now = Some(now);
        if passed > 0 {
            self.line(&format!("advance {passed}ns"));
        }
    }

    fn event(&mut self, what: &Happening) {
        match what {
            Happening::Read(read) => self.asked.push_back(read.request),
            Happening::Write(write) => self.asked.push_back(write.request),
            Happening::Command(command) => self.asked.push_back(command.request),
            Happening::Health(request) => self.asked.push_back(*request),
            _ => {}
        }
        let line = match what {
            Happening::Started(start) if start.state.is_some() || !start.connections.is_empty() => {
                Some(
                    "# it began with what an incarnation before had left; this script begins anew"
                        .to_owned(),
                )
            }
            Happening::Opened(opened) => {
                self.links.insert(opened.connection, opened.link);
                let link = self.link_of(opened.connection);
                if self.reset.remove(&opened.connection) {
                    None
                } else if self.known.insert(opened.connection) {
                    Some(format!("opens {link}"))
                } else {
                    Some(format!("up {link}"))
                }
            }
            Happening::Closed(closed) => self.closed(closed),
            Happening::Received(received) => Some(format!(
                "send {}: {}",
                self.link_of(received.connection),
                hex(&received.bytes)
            )),
            Happening::Poll(poll) => {
                let skipped: Vec<String> = poll
                    .skip
                    .iter()
                    .map(|device| self.device(*device))
                    .collect();
                let without = if skipped.is_empty() {
                    String::new()
                } else {
                    format!(" without {}", skipped.join(" "))
                };
                Some(format!("poll {}{without}", self.group(poll.group)))
            }
            Happening::Read(read) => {
                let tags: Vec<String> = read.tags.iter().map(|tag| self.tag(*tag)).collect();
                Some(format!("read {}", tags.join(" ")))
            }
            Happening::Write(write) => {
                let back = if write.read_back { " read-back" } else { "" };
                Some(format!(
                    "write {} {}{back}",
                    self.tag(write.tag),
                    json(&write.value)
                ))
            }
            Happening::Command(command) => Some(format!(
                "command {} {}",
                word(&command.name),
                String::from_utf8_lossy(&command.payload).replace('\n', " ")
            )),
            Happening::Cancel(_) => Some("cancel".to_owned()),
            Happening::Health(_) => Some("health".to_owned()),
            Happening::Stop(stop) if stop.reason == StopReason::Stopped => Some("stop".to_owned()),
            Happening::Stop(stop) => {
                let of_reason = |(_, reason): &&(&str, StopReason)| *reason == stop.reason;
                let known = STOPS.iter().find(of_reason);
                known.map(|(name, _)| format!("stop {name}"))
            }
            Happening::Accepted(_) => {
                Some("# a device called in; there is no step for that".to_owned())
            }
            Happening::Started(_)
            | Happening::Sent(_)
            | Happening::Timer(_)
            | Happening::Stored(_)
            | Happening::Declined(_) => None,
        };
        if let Some(line) = line {
            self.line(&line);
        }
    }

    fn closed(&mut self, closed: &Closed) -> Option<String> {
        let Closed {
            connection,
            reason,
            outlook,
        } = *closed;
        let reason = match reason {
            CloseReason::Requested | CloseReason::HostStopping => return None,
            CloseReason::TlsFailed => "denied",
            known => REASONS.iter().find(|(_, reason)| *reason == known)?.0,
        };
        let outlook = match outlook {
            Outlook::Redialling => "",
            Outlook::GivenUp => ", given-up",
            Outlook::Ended => ", ended",
        };
        // The dial that followed a reset has failed: when it comes up again, that is news.
        self.reset.remove(&connection);
        let link = self.link_of(connection);
        if self.known.insert(connection) {
            return Some(format!("opens {link}, {reason}{outlook}"));
        }
        Some(format!("drop {link}, {reason}{outlook}"))
    }

    fn actions(&mut self, actions: &[Action]) {
        for action in actions {
            let line = match action {
                Action::Open(open) => {
                    self.links.insert(open.connection, open.link);
                    None
                }
                Action::Send(send) => Some(format!(
                    "expect {}: {}",
                    self.link_of(send.connection),
                    hex(&send.bytes)
                )),
                Action::Reset(connection) => {
                    self.reset.insert(*connection);
                    Some(format!("resets {}", self.link_of(*connection)))
                }
                Action::Close(_) => Some("closes".to_owned()),
                Action::Publish(publish) => {
                    for sample in &publish.samples {
                        let line = format!("sample {}", self.sample(sample));
                        self.line(&line);
                    }
                    None
                }
                Action::PollDone(done) => Some(format!(
                    "done {} requests={} failed={}",
                    self.group(done.group),
                    done.requests,
                    done.failed
                )),
                Action::ReadDone(done) => {
                    let line = match &done.answer {
                        Ok(samples) => {
                            let samples: Vec<String> =
                                samples.iter().map(|sample| self.sample(sample)).collect();
                            format!("answer ok {}", samples.join(" "))
                        }
                        Err(error) => refused(error),
                    };
                    self.answer(done.request, line)
                }
                Action::WriteDone(done) => {
                    let line = match &done.answer {
                        Ok(_) => "answer ok".to_owned(),
                        Err(error) => refused(error),
                    };
                    self.answer(done.request, line)
                }
                Action::CommandDone(done) => {
                    let line = match &done.answer {
                        Ok(bytes) if bytes.is_empty() => "answer ok".to_owned(),
                        Ok(bytes) => format!("answer ok bytes {}", hex(bytes)),
                        Err(error) => refused(error),
                    };
                    self.answer(done.request, line)
                }
                Action::HealthDone(done) => {
                    let line = match &done.answer {
                        Ok(()) => "answer ok".to_owned(),
                        Err(error) => refused(error),
                    };
                    self.answer(done.request, line)
                }
                Action::Stopped => Some("stopped".to_owned()),
                _ => None,
            };
            if let Some(line) = line {
                self.line(&line);
            }
        }
    }

    /// A script's `answer` is to what was asked first and not answered; one that comes before its turn stands where it is due.
    fn answer(&mut self, request: u64, line: String) -> Option<String> {
        if self.asked.front() != Some(&request) {
            if !self.asked.contains(&request) {
                return Some(line);
            }
            self.early.insert(request, line);
            return Some(
                "# here an answer came out of order; it stands behind those that were asked for before"
                    .to_owned(),
            );
        }
        self.asked.pop_front();
        self.line(&line);
        while let Some(early) = self.asked.front().and_then(|next| self.early.remove(next)) {
            self.asked.pop_front();
            self.line(&early);
        }
        None
    }

    fn sample(&self, sample: &Sample) -> String {
        let value = sample.value.as_ref().map_or_else(|| "-".to_owned(), json);
        format!(
            "{} {value} {}",
            self.tag(sample.tag),
            shown_quality(sample.quality)
        )
    }
}

fn refused(error: &Error) -> String {
    let text = serde_json::Value::String(error.message.clone());
    let code = error.code.map_or("-".to_owned(), |code| code.to_string());
    format!(
        "answer error {code} {} {text}",
        shown_quality(error.quality)
    )
}

/// A word of a script: quoted where it must be.
fn word(text: &str) -> String {
    let is_bare = !text.is_empty()
        && text
            .chars()
            .all(|character| character.is_ascii_graphic() && character != '"' && character != '{');
    if is_bare {
        text.to_owned()
    } else {
        serde_json::Value::String(text.to_owned()).to_string()
    }
}

/// JSON settings as a table of TOML; nothing where there are none.
fn table(settings: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(settings).ok()?;
    if json.as_object()?.is_empty() {
        return None;
    }
    let value = toml::Value::try_from(without_null(json)).ok()?;
    Some(value.to_string())
}

/// TOML has no null; a key that is null is one that is not there.
fn without_null(json: serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Object(all) => {
            let kept = all.into_iter().filter(|(_, value)| !value.is_null());
            serde_json::Value::Object(
                kept.map(|(key, value)| (key, without_null(value)))
                    .collect(),
            )
        }
        other => other,
    }
}

fn json(value: &Value) -> String {
    match value {
        Value::Float(float) if !float.is_finite() => "nan".to_owned(),
        Value::Text(text) => serde_json::Value::String(text.clone()).to_string(),
        other => shown_value(Some(other)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|piece| {
            piece
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::actions::{CommandDone, HealthDone};
    use crate::bindings::config::Link;
    use crate::bindings::events::{Command, Opened, Stop};

    fn config() -> ChannelConfig {
        ChannelConfig {
            name: "plant".to_owned(),
            settings: "{}".to_owned(),
            links: vec![Link {
                id: 0,
                name: "line".to_owned(),
                kind: "tcp".to_owned(),
                listens: false,
            }],
            devices: Vec::new(),
            groups: Vec::new(),
            tags: Vec::new(),
        }
    }

    /// What stands behind `case session`.
    fn steps(writer: &Writer<'_>) -> Vec<String> {
        let (_, steps) = writer.text.split_once("case session\n").unwrap();
        steps.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_dial_that_fails_after_a_reset_is_no_part_of_it() {
        let config = config();
        let mut writer = Writer::new(&config);
        let opened = Happening::Opened(Opened {
            connection: 1,
            link: 0,
            secured: false,
            peer: String::new(),
            send_window: 1,
        });
        let closed = |reason| {
            Happening::Closed(Closed {
                connection: 1,
                reason,
                outlook: Outlook::Redialling,
            })
        };
        writer.event(&opened);
        writer.actions(&[Action::Reset(1)]);
        writer.event(&closed(CloseReason::Requested));
        writer.event(&closed(CloseReason::Refused));
        writer.event(&opened);
        assert_eq!(
            steps(&writer),
            ["opens line", "resets line", "drop line, refused", "up line"]
        );
    }

    #[test]
    fn what_an_operator_does_is_told() {
        let config = config();
        let mut writer = Writer::new(&config);
        writer.event(&Happening::Opened(Opened {
            connection: 1,
            link: 0,
            secured: false,
            peer: String::new(),
            send_window: 1,
        }));
        for (reason, outlook) in [
            (CloseReason::ByOperator, Outlook::Redialling),
            (CloseReason::PathGone, Outlook::GivenUp),
        ] {
            writer.event(&Happening::Closed(Closed {
                connection: 1,
                reason,
                outlook,
            }));
        }
        writer.event(&Happening::Stop(Stop {
            deadline_ns: 1,
            reason: StopReason::Restarting,
        }));
        assert_eq!(
            steps(&writer),
            [
                "opens line",
                "drop line, by-operator",
                "drop line, path-gone, given-up",
                "stop restarting"
            ]
        );
    }

    #[test]
    fn answers_stand_in_the_order_of_their_questions() {
        let config = config();
        let mut writer = Writer::new(&config);
        writer.event(&Happening::Command(Command {
            request: 7,
            name: "ping".to_owned(),
            payload: Vec::new(),
            deadline_ns: 0,
        }));
        writer.event(&Happening::Health(8));
        writer.actions(&[
            Action::HealthDone(HealthDone {
                request: 8,
                answer: Ok(()),
            }),
            Action::CommandDone(CommandDone {
                request: 7,
                answer: Ok(vec![1]),
            }),
        ]);
        let steps = steps(&writer);
        assert!(steps[2].starts_with("# here an answer came out of order"));
        assert_eq!(steps[3..], ["answer ok bytes 01", "answer ok"]);
    }
}
