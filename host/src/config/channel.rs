//! A channel: its driver, limits, restart policy and devices.

use std::path::Path;
use std::time::Duration;

use super::checked::{Channel, Device, DriverPath, Health, Limits, Restart, RestartMode};
use super::fault::quoted;
use super::names::{Names, called, required_name};
use super::resolve::required_path;
use super::section::{Keys, Section};
use super::{demotion, link, recorder, requests, tag};
use crate::ids::{ChannelId, LinkId};
use crate::limits::{
    BATCH, HEALTH_FAILURES, HEALTH_TIMEOUT, MAILBOX, MEMORY, SAMPLES, TURN_FUEL, TURN_TIME,
};

/// The most devices in one channel.
const MAX_DEVICES: usize = 4_096;
/// The longest address of a device or tag, in characters.
pub(super) const MAX_ADDRESS_CHARS: usize = 1_024;

pub(super) const CHANNEL: Keys = Keys {
    known: &[
        "id",
        "driver",
        "sha256",
        "enabled",
        "settings",
        "limits",
        "restart",
        "health",
        "recorder",
        "requests",
        "demotion",
        "links",
        "device",
        "group",
        "tag",
        "tags_file",
    ],
    later: &[
        (
            "runtime",
            "remove it: every driver runs as a WebAssembly component",
        ),
        ("recycle", "write it as `recorder = { recycle = true }`"),
    ],
};
pub(super) const LIMITS: Keys = Keys {
    known: &[
        "memory",
        "fuel_per_turn",
        "turn_deadline",
        "mailbox",
        "batch",
        "samples_per_second",
    ],
    later: &[],
};
pub(super) const RESTART: Keys = Keys {
    known: &[
        "mode",
        "max_attempts",
        "first_delay",
        "delay",
        "factor",
        "max_delay",
        "reset_after",
        "retry_broken",
        "jitter",
    ],
    later: &[],
};
pub(super) const HEALTH: Keys = Keys {
    known: &["interval", "timeout", "failures"],
    later: &[],
};
pub(super) const DEVICE: Keys = Keys {
    known: &["name", "address", "settings", "link"],
    later: &[],
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Reads one channel. `tags` is where its tags may stand, and how many there may be.
pub(super) fn channel<'r>(
    section: &Section<'r>,
    folder: &Path,
    ids: &mut Names<'r>,
    tags: &mut tag::Tags<'r>,
) -> Channel {
    section.refuse_unknown_keys(&CHANNEL);
    let id = id(section, ids);
    let (links, link_names) = link::links(section, folder);
    let (devices, device_names) = devices(section, &id, &link_names);
    let (groups, tags) = tag::groups_and_tags(section, &device_names, tags);
    Channel {
        id,
        driver: driver(section, folder),
        sha256: sha256(section),
        enabled: section.boolean("enabled", true),
        settings: section.settings("settings"),
        limits: limits(section),
        restart: restart(section),
        health: health(section),
        recorder: recorder::recorder(section),
        requests: requests::requests(section),
        demotion: demotion::demotion(section),
        links,
        devices,
        groups,
        tags: tags.into(),
    }
}

fn id<'r>(section: &Section<'r>, ids: &mut Names<'r>) -> ChannelId {
    let nameless = || ChannelId::new("nameless").expect("keeps to the rule");
    let Some(written) = section.required("id", "press-3") else {
        return nameless();
    };
    match ChannelId::new(written) {
        Ok(id) => {
            ids.claim(section, "id", written);
            id
        }
        Err(_) => {
            section.fault_at(
                "id",
                format!(
                    "{} is no id; use 1 to {} letters, digits, `_`, `-` or `.`, beginning with a letter or digit",
                    quoted(written),
                    ChannelId::MAX_LENGTH
                ),
            );
            nameless()
        }
    }
}

fn driver(section: &Section<'_>, folder: &Path) -> DriverPath {
    const EXAMPLE: &str = "target/drivers/modbus.wasm";
    let written = required_path(section, "driver", EXAMPLE);
    if let Some(written) = written.filter(|written| is_remote(written)) {
        section.fault_at(
            "driver",
            format!(
                "{} leads to a registry or a server, which is not supported yet by this version; \
                 fetch the component and write the path of its file",
                quoted(written)
            ),
        );
    }
    DriverPath {
        written: written.unwrap_or_default().into(),
        folder: folder.to_owned(),
    }
}

/// Whether this is a URL or an OCI reference (`registry.example/name:tag`, `name@sha256:..`) rather than a path.
fn is_remote(written: &str) -> bool {
    let (first, rest) = written.split_once('/').unwrap_or((written, ""));
    let tagged = rest
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    let registry = !first.starts_with('.') && (first.contains('.') || first.contains(':'));
    written.contains("://")
        || written.contains("@sha256:")
        || tagged
        || registry && !rest.is_empty() && !written.ends_with(".wasm")
}

fn sha256(section: &Section<'_>) -> Option<[u8; 32]> {
    let written = section.string("sha256", "64 hexadecimal digits")?;
    let digest = hex32(written);
    if digest.is_none() {
        section.fault_at(
            "sha256",
            format!(
                "{} is no SHA-256; write the 64 hexadecimal digits that `sha256sum` prints",
                quoted(written)
            ),
        );
    }
    digest
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (digits.len() == 64).then_some(())?;
    bytes.try_into().ok()
}

fn limits(channel: &Section<'_>) -> Limits {
    let section = channel.part("limits", &LIMITS);
    Limits {
        memory: section.size("memory", MEMORY.default, MEMORY.range()),
        fuel_per_turn: section.integer("fuel_per_turn", TURN_FUEL.default, TURN_FUEL.range()),
        turn_deadline: section.duration("turn_deadline", TURN_TIME.default, TURN_TIME.range()),
        mailbox: section.integer("mailbox", MAILBOX.default, MAILBOX.range()) as usize,
        batch: section.integer("batch", BATCH.default, BATCH.range()) as usize,
        samples_per_second: section.integer("samples_per_second", SAMPLES.default, SAMPLES.range())
            as u32,
    }
}

fn restart(channel: &Section<'_>) -> Restart {
    let section = channel.part("restart", &RESTART);
    let delay = section.duration("delay", 5 * SECOND, Duration::ZERO..=HOUR);
    let jitter = section.number("jitter", 0.3);
    if !(0.0..=1.0).contains(&jitter) {
        section.fault_at(
            "jitter",
            format!("`jitter` is `{jitter}`; use 0 to 1, the part of the delay that varies"),
        );
    }
    let factor = section.number("factor", 2.0);
    if !(1.0..=10.0).contains(&factor) {
        section.fault_at(
            "factor",
            format!("`factor` is `{factor}`; use 1 to 10, by which each delay is longer than the one before"),
        );
    }
    let modes = [
        ("permanent", RestartMode::Permanent),
        ("transient", RestartMode::Transient),
        ("never", RestartMode::Never),
    ];
    Restart {
        mode: section.choice("mode", RestartMode::Permanent, &modes),
        max_attempts: section.integer("max_attempts", 3, 0..=1_000) as u32,
        first_delay: section.duration("first_delay", Duration::ZERO, Duration::ZERO..=HOUR),
        delay,
        factor,
        max_delay: section.duration("max_delay", delay.max(60 * SECOND), delay..=24 * HOUR),
        reset_after: section.duration("reset_after", 600 * SECOND, SECOND..=7 * 24 * HOUR),
        retry_broken: section.duration_or_never(
            "retry_broken",
            300 * SECOND,
            100 * MS..=7 * 24 * HOUR,
        ),
        jitter,
    }
}

fn health(channel: &Section<'_>) -> Option<Health> {
    let section = channel.part("health", &HEALTH);
    let timeout = section.duration("timeout", HEALTH_TIMEOUT.default, HEALTH_TIMEOUT.range());
    let failures =
        section.integer("failures", HEALTH_FAILURES.default, HEALTH_FAILURES.range()) as u32;
    let interval = section.duration_or_never("interval", 30 * SECOND, 100 * MS..=24 * HOUR)?;
    Some(Health {
        interval,
        timeout,
        failures,
    })
}

fn devices<'r>(
    channel: &Section<'r>,
    id: &ChannelId,
    links: &Names<'r>,
) -> (Vec<Device>, Names<'r>) {
    let mut names = Names::new("device");
    let mut devices = Vec::new();
    for (index, section) in channel.tables("device").into_iter().enumerate() {
        if index == MAX_DEVICES {
            section.fault(format!(
                "more than {MAX_DEVICES} devices; split the channel in two"
            ));
            break;
        }
        let at = format!(
            "{}, {}",
            channel.at(),
            called("device", &section, "name", index)
        );
        let section = section.named(at);
        section.refuse_unknown_keys(&DEVICE);
        let name = required_name(&section, "press");
        if let Some(name) = name {
            names.claim(&section, "name", name);
        }
        devices.push(Device {
            name: name.unwrap_or_default().to_owned(),
            address: section.text("address", MAX_ADDRESS_CHARS, "1"),
            settings: section.settings("settings"),
            link: device_link(&section, links),
        });
    }
    if !channel.has("device") {
        if let Some(id) = channel.peek("id") {
            names.claim(channel, "id", id);
        }
        devices.push(Device {
            name: id.as_str().to_owned(),
            address: String::new(),
            settings: serde_json::json!({}),
            link: None,
        });
    }
    (devices, names)
}

fn device_link(section: &Section<'_>, links: &Names<'_>) -> Option<LinkId> {
    let written = section.string("link", "plc")?;
    let found = links.position(written);
    if found.is_none() {
        section.fault_at(
            "link",
            format!(
                "there is no link {}; grant it under `links`, or use one of those there: the channel has {}",
                quoted(written),
                links.some()
            ),
        );
    }
    found.map(|position| LinkId(position as u32))
}
