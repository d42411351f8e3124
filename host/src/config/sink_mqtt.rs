//! `kind = "mqtt"`: a broker, what is published to it and under which topics.
//!
//! What is read here is only what the file says: no name is looked up, and a secret is a reference. A template of a topic is
//! taken apart here, so that one that cannot be published to is a fault of the file and not of the night.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{self, Tls};
use super::fault::quoted;
use super::secret::{Secret, secret};
use super::section::Section;
use super::server_url::without_secrets;

const URL: &str = "mqtts://broker.example:8883";
const PREFIX: &str = "bulkhead";
/// The longest topic template, prefix, client id and user name, in bytes.
const MAX_TEXT: usize = 512;
/// The most placeholders in a template: filled in, it is shorter than the longest topic of the protocol (65,535 bytes).
const MAX_PLACEHOLDERS: usize = 16;

/// The keys that only this kind has.
pub(super) const MQTT_KEYS: [&str; 20] = [
    "url",
    "version",
    "client_id",
    "username",
    "password",
    "ca",
    "cert",
    "key",
    "server_name",
    "keep_alive",
    "clean_session",
    "qos",
    "in_flight",
    "prefix",
    "topic",
    "retain",
    "max_payload",
    "status",
    "writes",
    "write_topic",
];

/// A broker and what it is given.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSink {
    /// A name or an address, without brackets.
    pub host: String,
    /// Default 1883, or 8883 with TLS.
    pub port: u16,
    /// What the broker's certificate is checked by; `None` for `mqtt://`.
    pub tls: Option<Tls>,
    /// Default 5: in 3.1.1 a broker cannot say that it does not take a message, so one that its access list or its limit of sizes
    /// refuses is acknowledged and lost.
    pub version: MqttVersion,
    /// What the broker knows this client by. `None`: made of the sink's name, the machine and the folder below, so that it stays the
    /// same and no other host has it.
    pub client_id: Option<String>,
    /// The folder of the configuration.
    pub folder: PathBuf,
    /// Who this client is, where the broker asks.
    pub username: Option<String>,
    /// Read at each connection.
    pub password: Option<Secret>,
    /// Silence after which either side may believe the other gone. Default 30 s; 5 s to 1 h.
    pub keep_alive: Duration,
    /// Whether the broker forgets this client as soon as it is away. Default true. If false, it keeps writes for it.
    pub clean_session: bool,
    /// Default 1.
    pub qos: Qos,
    /// Messages on their way without an acknowledgement. Default 100; 1 to 1,000, and never more than the broker allows.
    pub in_flight: u16,
    /// What the topics begin with that are the sink's own. Default `bulkhead`.
    pub prefix: String,
    /// Default `{channel}/{group}` under the prefix.
    pub topic: Vec<TopicPart>,
    /// Whether the broker keeps the last message of each topic. Default false.
    pub retain: bool,
    /// The longest payload, in bytes. Default 256 KiB; 512 B to 16 MiB.
    pub max_payload: usize,
    /// Whether `<prefix>/<sink>/status` says `online` or `offline`. Default true.
    pub status: bool,
    /// Where writes are taken from: `None` unless `writes = true`.
    pub writes: Option<Vec<WriteLevel>>,
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// OASIS Standard, 29 October 2014.
    V311,
    /// OASIS Standard, 7 March 2019.
    V5,
}

/// How sure a message is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// At most once: it is sent.
    AtMostOnce,
    /// At least once: the broker acknowledges it.
    AtLeastOnce,
}

/// A part of a template of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicPart {
    /// As it stands there.
    Text(String),
    /// `{channel}`
    Channel,
    /// `{device}`
    Device,
    /// `{group}`
    Group,
    /// `{tag}`: there is one message for each sample then.
    Tag,
    /// `{sink}`
    Sink,
}

/// A level of the topic that a write is published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteLevel {
    /// As it stands there.
    Text(String),
    /// `{channel}`
    Channel,
    /// `{tag}`
    Tag,
    /// `{sink}`
    Sink,
}

/// Reads what a sink of this kind has of its own; `None` where the address is missing or wrong, which is reported.
pub(super) fn mqtt(section: &Section<'_>, folder: &Path) -> Option<MqttSink> {
    let address = section.required("url", URL).and_then(|written| {
        let read = url(written);
        read.map_err(|wrong| {
            section.fault_at("url", format!("{} {wrong}", without_secrets(written)))
        })
        .ok()
    });
    let version = section.choice(
        "version",
        MqttVersion::V5,
        &[("5", MqttVersion::V5), ("3.1.1", MqttVersion::V311)],
    );
    let username = line(section, "username", "gateway");
    let password = secret(section, "password", folder);
    if version == MqttVersion::V311 && password.is_some() && username.is_none() {
        section.fault_at(
            "password",
            "MQTT 3.1.1 has no password without a user name; add `username`",
        );
    }
    let prefix = prefix(section);
    let topic = match section.string("topic", "plant/{channel}/{device}/{group}") {
        Some(written) => template(section, written).unwrap_or_default(),
        None => vec![
            TopicPart::Text(format!("{prefix}/")),
            TopicPart::Channel,
            TopicPart::Text("/".to_owned()),
            TopicPart::Group,
        ],
    };
    let writes = section.boolean("writes", false);
    let levels = write_levels(section, &prefix);
    if section.has("write_topic") && !writes {
        section.fault_at(
            "write_topic",
            "`write_topic` is for `writes = true`; add that, or remove it",
        );
    }
    let has_tls = address.as_ref().is_none_or(|address| address.tls);
    let tls = has_tls.then(|| address::tls(section, folder));
    if !has_tls {
        for key in ["ca", "cert", "key", "server_name"] {
            if section.has(key) {
                section.fault_at(
                    key,
                    format!("`{key}` belongs to TLS; write mqtts:// in `url`, or remove it"),
                );
            }
        }
    }
    let in_flight = section.integer("in_flight", 100, 1..=1_000);
    let second = Duration::from_secs(1);
    let sink = MqttSink {
        tls,
        version,
        client_id: line(section, "client_id", "gateway-3"),
        folder: folder.to_owned(),
        username,
        password,
        keep_alive: section.duration("keep_alive", 30 * second, 5 * second..=3_600 * second),
        clean_session: section.boolean("clean_session", true),
        qos: qos(section),
        in_flight: u16::try_from(in_flight).unwrap_or(100),
        prefix,
        topic,
        retain: section.boolean("retain", false),
        max_payload: usize::try_from(section.size("max_payload", 256 << 10, 512..=16 << 20))
            .unwrap_or(256 << 10),
        status: section.boolean("status", true),
        writes: levels.filter(|_| writes),
        host: String::new(),
        port: 0,
    };
    let address = address?;
    Some(MqttSink {
        host: address.host,
        port: address.port,
        ..sink
    })
}

fn qos(section: &Section<'_>) -> Qos {
    match section.integer("qos", 1, 0..=1) {
        0 => Qos::AtMostOnce,
        _ => Qos::AtLeastOnce,
    }
}

/// A text that is not empty, has no control characters and is not too long for its field in the protocol.
fn line(section: &Section<'_>, key: &str, example: &str) -> Option<String> {
    let text = section.string(key, example)?;
    if text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control) {
        section.fault_at(
            key,
            format!(
                "`{key}` is {}; use 1 to {MAX_TEXT} bytes without control characters",
                quoted(text)
            ),
        );
        return None;
    }
    Some(text.to_owned())
}

struct Address {
    host: String,
    port: u16,
    tls: bool,
}

fn url(written: &str) -> Result<Address, String> {
    let (tls, rest) = match written.split_once("://") {
        Some(("mqtt", rest)) => (false, rest),
        Some(("mqtts", rest)) => (true, rest),
        _ => {
            return Err(format!(
                "begins with no transport for MQTT; write mqtt:// or mqtts://, as in \"{URL}\""
            ));
        }
    };
    if rest.contains('@') {
        return Err(
            "has a user name in it; write that as `username`, and where its password is found as `password`"
                .to_owned(),
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| {
        !port.ends_with(']') && (!host.contains(':') || host.starts_with('['))
    });
    let with_port = match has_port {
        true => rest.to_owned(),
        false => format!("{rest}:{}", if tls { 8_883 } else { 1_883 }),
    };
    let (host, port) = address::place(&with_port).map_err(|_wrong| {
        format!("has no host and port that could be called; write them as in \"{URL}\"")
    })?;
    Ok(Address { host, port, tls })
}

fn prefix(section: &Section<'_>) -> String {
    let Some(written) = section.string("prefix", PREFIX) else {
        return PREFIX.to_owned();
    };
    let is_right = is_topic_text(written)
        && !written.is_empty()
        && written.len() <= MAX_TEXT
        && !written.contains(['{', '}'])
        && !written.starts_with('/')
        && !written.ends_with('/');
    if !is_right {
        section.fault_at(
            "prefix",
            format!(
                "{} is no beginning of a topic; use 1 to {MAX_TEXT} bytes without `+`, `#`, braces and outer `/`, as in \"plant/hall-3\"",
                quoted(written)
            ),
        );
        return PREFIX.to_owned();
    }
    written.to_owned()
}

/// Whether this may stand in the name of a topic (MQTT 5, section 4.7).
fn is_topic_text(text: &str) -> bool {
    !text.contains(['+', '#']) && !text.contains(char::is_control)
}

fn template(section: &Section<'_>, written: &str) -> Option<Vec<TopicPart>> {
    let parts = parts(written);
    if let Err(wrong) = &parts {
        section.fault_at("topic", format!("{} {wrong}", quoted(written)));
    }
    parts.ok()
}

fn parts(written: &str) -> Result<Vec<TopicPart>, String> {
    if written.is_empty() || written.len() > MAX_TEXT || !is_topic_text(written) {
        return Err(format!(
            "is no topic; use 1 to {MAX_TEXT} bytes without `+`, `#` and control characters"
        ));
    }
    let mut parts = Vec::new();
    let mut rest = written;
    while !rest.is_empty() {
        let text = rest.split(['{', '}']).next().unwrap_or_default();
        if !text.is_empty() {
            parts.push(TopicPart::Text(text.to_owned()));
        }
        rest = rest.get(text.len()..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        let name = rest
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'));
        let Some((name, behind)) = name else {
            return Err(
                "has a brace too many or too few; write placeholders as `{channel}`".to_owned(),
            );
        };
        parts.push(match name {
            "channel" => TopicPart::Channel,
            "device" => TopicPart::Device,
            "group" => TopicPart::Group,
            "tag" => TopicPart::Tag,
            "sink" => TopicPart::Sink,
            unknown => {
                return Err(format!(
                    "has the placeholder {}; use `{{channel}}`, `{{device}}`, `{{group}}`, `{{tag}}` or `{{sink}}`",
                    quoted(unknown)
                ));
            }
        });
        rest = behind;
    }
    if parts
        .iter()
        .filter(|part| !matches!(part, TopicPart::Text(_)))
        .count()
        > MAX_PLACEHOLDERS
    {
        return Err(format!(
            "has more than {MAX_PLACEHOLDERS} placeholders; remove some"
        ));
    }
    Ok(parts)
}

fn write_levels(section: &Section<'_>, prefix: &str) -> Option<Vec<WriteLevel>> {
    let default = format!("{prefix}/{{channel}}/write/{{tag}}");
    let written = section
        .string("write_topic", "bulkhead/{channel}/write/{tag}")
        .unwrap_or(&default);
    let levels = levels(written);
    if let Err(wrong) = &levels {
        section.fault_at("write_topic", format!("{} {wrong}", quoted(written)));
    }
    levels.ok()
}

fn levels(written: &str) -> Result<Vec<WriteLevel>, String> {
    if written.is_empty() || written.len() > 2 * MAX_TEXT || !is_topic_text(written) {
        return Err(format!(
            "is no topic; use 1 to {MAX_TEXT} bytes without `+`, `#` and control characters"
        ));
    }
    let mut levels = Vec::new();
    for level in written.split('/') {
        levels.push(match level {
            "{channel}" => WriteLevel::Channel,
            "{tag}" => WriteLevel::Tag,
            "{sink}" => WriteLevel::Sink,
            text if text.contains(['{', '}']) => {
                return Err(format!(
                    "has the level {}; each of `{{channel}}`, `{{tag}}` and `{{sink}}` is a level of its own here",
                    quoted(text)
                ));
            }
            text => WriteLevel::Text(text.to_owned()),
        });
    }
    for (wanted, name) in [
        (WriteLevel::Channel, "{channel}"),
        (WriteLevel::Tag, "{tag}"),
    ] {
        if levels.iter().filter(|level| **level == wanted).count() != 1 {
            return Err(format!(
                "does not have `{name}` once; write it as in \"bulkhead/{{channel}}/write/{{tag}}\""
            ));
        }
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::super::document::{Findings, read};
    use super::*;

    /// What is read of these lines, and what is wrong with them.
    fn section(text: &str) -> (Option<MqttSink>, String) {
        let findings = Findings::new("plant.toml", text);
        let table = read(text, &findings).unwrap();
        let sink = mqtt(
            &Section::new(&table, 0..text.len(), "sink out", &findings),
            Path::new("/plant"),
        );
        let faults = findings.into_faults();
        (
            sink,
            faults.map(|faults| faults.to_string()).unwrap_or_default(),
        )
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (sink, faults) = section("url = \"mqtt://broker\"");
        let sink = sink.unwrap();
        assert_eq!(faults, "");
        let text = |text: &str| TopicPart::Text(text.to_owned());
        assert_eq!(
            sink.topic,
            [
                text("bulkhead/"),
                TopicPart::Channel,
                text("/"),
                TopicPart::Group
            ]
        );
        assert_eq!(
            (
                sink.host.as_str(),
                sink.port,
                sink.version,
                sink.qos,
                sink.in_flight
            ),
            ("broker", 1_883, MqttVersion::V5, Qos::AtLeastOnce, 100)
        );
        assert_eq!(
            (
                sink.status,
                sink.retain,
                sink.clean_session,
                sink.max_payload
            ),
            (true, false, true, 256 << 10)
        );
        assert_eq!((sink.writes, sink.tls, sink.client_id), (None, None, None));
    }

    #[test]
    fn what_is_said_holds() {
        let (sink, faults) = section(
            "url = \"mqtts://broker\"\nversion = \"3.1.1\"\nqos = 0\nprefix = \"plant/hall\"\nwrites = true\n\
            username = \"u\"\npassword = \"env:SECRET\"\nca = \"ca.pem\"\nmax_payload = \"4 KiB\"\nkeep_alive = \"1m\"",
        );
        let sink = sink.unwrap();
        assert_eq!(faults, "");
        assert_eq!(sink.tls.unwrap().ca, Some(PathBuf::from("/plant/ca.pem")));
        assert_eq!(sink.password, Some(Secret::Env("SECRET".to_owned())));
        assert_eq!(
            (sink.version, sink.qos, sink.max_payload, sink.keep_alive),
            (
                MqttVersion::V311,
                Qos::AtMostOnce,
                4_096,
                Duration::from_secs(60)
            )
        );
        let text = |text: &str| WriteLevel::Text(text.to_owned());
        assert_eq!(
            sink.writes.unwrap(),
            [
                text("plant"),
                text("hall"),
                WriteLevel::Channel,
                text("write"),
                WriteLevel::Tag
            ]
        );
    }

    #[test]
    fn every_fault_has_a_remedy() {
        for (lines, part) in [
            ("", "`url` is missing"),
            ("url = \"broker\"", "mqtt:// or mqtts://"),
            ("url = \"mqtt://b\"\nca = \"ca.pem\"", "write mqtts://"),
            ("url = \"mqtt://b\"\nversion = \"4\"", "`5` or `3.1.1`"),
            ("url = \"mqtt://b\"\nqos = 2", "use 0 to 1"),
            ("url = \"mqtt://b\"\npassword = \"hunter2\"", "env:NAME"),
            (
                "url = \"mqtt://b\"\nversion = \"3.1.1\"\npassword = \"env:A\"",
                "add `username`",
            ),
            (
                "url = \"mqtt://b\"\ntopic = \"a/{plant}\"",
                "use `{channel}`",
            ),
            ("url = \"mqtt://b\"\nprefix = \"a/\"", "outer `/`"),
            (
                "url = \"mqtt://b\"\nwrite_topic = \"a/{channel}/{tag}\"",
                "`writes = true`",
            ),
            (
                "url = \"mqtt://b\"\nwrites = true\nwrite_topic = \"a/{tag}\"",
                "`{channel}` once",
            ),
            ("url = \"mqtt://b\"\nmax_payload = \"1 B\"", "512B"),
        ] {
            let (_, faults) = section(lines);
            assert!(faults.contains(part), "{lines}: {faults}");
            assert!(!faults.contains("hunter2"), "{faults}");
        }
    }

    #[test]
    fn addresses_are_read_with_their_default_ports() {
        let read =
            |written: &str| url(written).map(|address| (address.host, address.port, address.tls));
        for (written, host, port, tls) in [
            ("mqtt://broker", "broker", 1_883, false),
            ("mqtts://broker", "broker", 8_883, true),
            ("mqtt://broker/", "broker", 1_883, false),
            ("mqtts://10.0.0.9:1884", "10.0.0.9", 1_884, true),
            ("mqtt://[fd00::9]", "fd00::9", 1_883, false),
            ("mqtt://[fd00::9]:7", "fd00::9", 7, false),
        ] {
            assert_eq!(read(written), Ok((host.to_owned(), port, tls)), "{written}");
        }
        for bad in [
            "",
            "broker",
            "tcp://broker:1",
            "mqtt://",
            "mqtt://:1",
            "mqtt://a:0",
            "mqtt://a:x",
            "mqtt://fd00::9",
            "mqtt://user:secret@broker",
            "mqtt://broker/path",
            "mqtt://a b",
        ] {
            let wrong = read(bad).unwrap_err();
            assert!(wrong.contains("write"), "{bad}: {wrong}");
            assert!(!wrong.contains("secret"), "{wrong}");
        }
    }

    #[test]
    fn templates_are_taken_apart() {
        let text = |text: &str| TopicPart::Text(text.to_owned());
        assert_eq!(
            parts("plant/{channel}-{group}/{tag}").unwrap(),
            [
                text("plant/"),
                TopicPart::Channel,
                text("-"),
                TopicPart::Group,
                text("/"),
                TopicPart::Tag
            ]
        );
        assert_eq!(
            parts("{sink}{device}").unwrap(),
            [TopicPart::Sink, TopicPart::Device]
        );
        for bad in [
            "",
            "a/+",
            "a/#",
            "a\0",
            "{channel",
            "channel}",
            "{}",
            "{{channel}}",
            "{Channel}",
            "a{channel",
        ] {
            assert!(parts(bad).is_err(), "{bad}");
        }
        assert!(parts(&"{tag}".repeat(MAX_PLACEHOLDERS)).is_ok());
        assert!(parts(&"{tag}".repeat(MAX_PLACEHOLDERS + 1)).is_err());
    }

    #[test]
    fn topics_of_writes_name_channel_and_tag_once() {
        assert_eq!(
            levels("a/{channel}/set/{tag}").unwrap(),
            [
                WriteLevel::Text("a".to_owned()),
                WriteLevel::Channel,
                WriteLevel::Text("set".to_owned()),
                WriteLevel::Tag
            ]
        );
        for bad in [
            "",
            "a",
            "{channel}",
            "{tag}",
            "{channel}/{tag}/{tag}",
            "{channel}-{tag}",
            "{channel}/x{tag}",
            "{channel}/{tag}/+",
        ] {
            assert!(levels(bad).is_err(), "{bad}");
        }
    }
}
