//! `docs/CONFIG.md` is complete, and its example is in order.

use super::super::{
    channel, demotion, link, recorder, redial, requests, resolve, section::Keys, sink, tag,
};
use super::good;

const REFERENCE: &str = include_str!("../../../../docs/CONFIG.md");

#[test]
fn the_reference_lists_every_key_and_no_other() {
    let chapters: [(&str, &[&Keys]); 17] = [
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
