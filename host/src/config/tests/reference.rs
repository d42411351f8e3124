//! `docs/CONFIG.md` is complete, and its example is in order.

use super::super::{
    channel, demotion, link, recorder, redial, requests, resolve, section::Keys, sink, sink_mqtt,
    sink_nats, sink_postgres, tag,
};
use super::good;

const REFERENCE: &str = include_str!("../../../../docs/CONFIG.md");

/// What is a kind's own: what every sink may have stands in the chapter of sinks.
const fn own(known: &'static [&'static str]) -> Keys {
    Keys { known, later: &[] }
}

const MQTT: Keys = own(&sink_mqtt::MQTT_KEYS);
const POSTGRES: Keys = own(&sink_postgres::POSTGRES_KEYS);
const NATS: Keys = own(&sink_nats::NATS_KEYS);

#[test]
fn the_reference_lists_every_key_and_no_other() {
    let chapters: [(&str, &[&Keys]); 21] = [
        ("## `[host]`", &[&resolve::HOST]),
        ("### `compile", &[&resolve::COMPILE]),
        ("### `recorder` of the host", &[&recorder::HOST_RECORDER]),
        ("## `[http]`", &[&resolve::HTTP]),
        ("## `[[channel]]`", &[&channel::CHANNEL]),
        ("### `limits", &[&channel::LIMITS]),
        ("### `restart", &[&channel::RESTART]),
        ("### `health", &[&channel::HEALTH]),
        ("### `recorder = ", &[&recorder::RECORDER]),
        ("### `requests", &[&requests::REQUESTS]),
        ("### `demotion", &[&demotion::DEMOTION]),
        ("### `links", &[&link::LINK]),
        ("### `heartbeat", &[&redial::HEARTBEAT]),
        ("### `[[channel.device]]`", &[&channel::DEVICE]),
        ("### `[[channel.group]]`", &[&tag::GROUP]),
        ("### Tags", &[&tag::TAG]),
        ("## `[[sink]]`", &[&sink::STDOUT, &sink::FILE]),
        ("### `outbox", &[&sink::OUTBOX]),
        ("### Keys of `kind = \"mqtt\"`", &[&MQTT]),
        ("### Keys of `kind = \"postgres\"`", &[&POSTGRES]),
        ("### Keys of `kind = \"nats\"`", &[&NATS]),
    ];
    for (heading, keys) in chapters {
        let start = REFERENCE
            .find(heading)
            .unwrap_or_else(|| panic!("no chapter {heading}"));
        let chapter = &REFERENCE[start + heading.len()..];
        let chapter = &chapter[..chapter.find("\n##").unwrap_or(chapter.len())];
        let rows = chapter
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let mut listed: Vec<&str> = rows.collect();
        let mut known: Vec<&str> = keys.iter().flat_map(|keys| keys.known).copied().collect();
        listed.sort_unstable();
        known.sort_unstable();
        known.dedup();
        assert_eq!(listed, known, "{heading}");
    }
}

#[test]
fn the_example_of_the_reference_is_in_order() {
    let example = REFERENCE
        .split("```")
        .nth(1)
        .and_then(|block| block.strip_prefix("toml\n"));
    assert_eq!(good(example.unwrap()).channels[0].tags.len(), 2);
}
