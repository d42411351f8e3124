//! Profiles of links, what stands beside them, and heartbeats.

use std::time::Duration;

use expect_test::expect;

use super::{check, good};
use crate::backoff::Redial;
use crate::config::Link;

fn channel(link: &str) -> String {
    format!(
        "[[channel]]\nid = \"a\"\ndriver = \"d.wasm\"\nlinks.plc = {{ connect = \"tcp://plc:1\"{link} }}"
    )
}

fn link(written: &str) -> Link {
    let mut host = good(&channel(written));
    host.channels.remove(0).links.remove(0)
}

#[test]
fn a_profile_sets_what_is_not_written() {
    let ms = Duration::from_millis;
    assert_eq!(link("").redial, Redial::PLANT);
    for (name, profile) in [
        ("plant", Redial::PLANT),
        ("stable", Redial::STABLE),
        ("unstable", Redial::UNSTABLE),
        ("low-bandwidth", Redial::LOW_BANDWIDTH),
    ] {
        let written = format!(", profile = \"{name}\"");
        assert_eq!(link(&written).redial, profile, "{name}");
        let redial = link(&format!(
            "{written}, max_attempts = 7, base_delay = \"20ms\", max_delay = \"40ms\", steady_after = \"1s\""
        ))
        .redial;
        assert_eq!((redial.delays.base, redial.delays.max), (ms(20), ms(40)));
        assert_eq!(
            (redial.max_attempts, redial.steady_after),
            (Some(7), ms(1_000))
        );
    }
    let unlimited = link(", max_attempts = \"unlimited\", profile = \"stable\"").redial;
    assert_eq!(
        unlimited,
        Redial {
            max_attempts: None,
            ..Redial::STABLE
        }
    );
    let slow = link(", base_delay = \"10s\"").redial.delays;
    assert_eq!((slow.base, slow.max), (ms(10_000), ms(10_000)));
}

#[test]
fn a_heartbeat_is_found_in_order() {
    let heartbeat = |written: &str| {
        let heartbeat = link(written).heartbeat;
        (heartbeat.interval.as_secs(), heartbeat.lost_after.as_secs())
    };
    assert_eq!(heartbeat(""), (30, 45));
    assert_eq!(
        heartbeat(", heartbeat = { lost_after = \"40s\" }"),
        (30, 40)
    );
    assert_eq!(heartbeat(", heartbeat = { interval = \"10s\" }"), (10, 15));
    assert_eq!(heartbeat(", heartbeat = { interval = \"1s\" }"), (1, 2));
}

#[test]
fn what_is_wrong_with_them_is_said() {
    check(
        &channel(
            ", profile = \"steady\", max_attempts = -1, steady_after = \"0s\", heartbeat = { interval = \"10ms\", lost_after = \"1s\", every = 1 }",
        ),
        expect![[r#"
            4:50: channel a, link plc: `profile` is `steady`; use one of `plant`, `stable`, `unstable` or `low-bandwidth`
            4:75: channel a, link plc: `max_attempts` is `-1`; use 0 to 1000000
            4:94: channel a, link plc: `steady_after` is `0s`; use 100ms to 1h
            4:125: channel a, link plc, heartbeat: `interval` is `10ms`; use 1s to 1h
            4:146: channel a, link plc, heartbeat: `lost_after` is `1s`; use 31s to 2h
            4:152: channel a, link plc, heartbeat: unknown key `every`; remove it, or use one of `interval` or `lost_after`"#]],
    );
    check(
        &channel(", max_attempts = \"never\""),
        expect![
            "4:55: channel a, link plc: `max_attempts` is a string; write a whole number such as 5"
        ],
    );
    check(
        &channel(", heartbeat = { interval = \"1m\", lost_after = \"1m\" }"),
        expect!["4:84: channel a, link plc, heartbeat: `lost_after` is `1m`; use 1m 1s to 2h"],
    );
}
