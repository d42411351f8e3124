//! Topics: a template filled with names, and the names taken out of the topic of a write.
//!
//! A name stays one level, whatever is in it, and two names never become one: in names, `%`, `/`, `+`, `#`, `$` and control
//! characters are written as `%` and two hexadecimal digits for each byte, as in addresses of the web. Names of tags have no `/`
//! anyway; the others are there for `+`, `#` (wildcards) and a leading `$` (the broker's own topics). Where there is no
//! name, as for the group of a tag that is in none, the level is `_`.

use std::fmt::Write as _;

use crate::config::{TopicPart, WriteLevel};

/// What stands for a name where there is none.
const NONE: &str = "_";

/// The names that a topic is made of.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) sink: &'a str,
    pub(super) channel: &'a str,
    pub(super) device: &'a str,
    pub(super) group: &'a str,
    pub(super) tag: &'a str,
}

/// Appends the topic to `out`.
pub(super) fn fill(template: &[TopicPart], names: Names<'_>, out: &mut String) {
    for part in template {
        match part {
            TopicPart::Text(text) => out.push_str(text),
            TopicPart::Channel => escape(names.channel, out),
            TopicPart::Device => escape(names.device, out),
            TopicPart::Group => escape(names.group, out),
            TopicPart::Tag => escape(names.tag, out),
            TopicPart::Sink => escape(names.sink, out),
        }
    }
}

/// A topic of the sink's own: `<prefix>/<sink>/<what>`.
pub(super) fn own(prefix: &str, sink: &str, what: &str) -> String {
    let mut topic = format!("{prefix}/");
    escape(sink, &mut topic);
    topic.push('/');
    topic.push_str(what);
    topic
}

/// What is subscribed to for writes.
pub(super) fn filter(levels: &[WriteLevel], sink: &str) -> String {
    let mut filter = String::new();
    for (at, level) in levels.iter().enumerate() {
        if at > 0 {
            filter.push('/');
        }
        match level {
            WriteLevel::Text(text) => filter.push_str(text),
            WriteLevel::Channel | WriteLevel::Tag => filter.push('+'),
            WriteLevel::Sink => escape(sink, &mut filter),
        }
    }
    filter
}

/// The channel and the tag that a write is for; `None` for a topic that is none of these.
pub(super) fn written_to(
    levels: &[WriteLevel],
    sink: &str,
    topic: &str,
) -> Option<(String, String)> {
    let (mut channel, mut tag) = (None, None);
    let mut found = topic.split('/');
    for level in levels {
        let found = found.next()?;
        match level {
            WriteLevel::Text(text) => (text == found).then_some(())?,
            WriteLevel::Sink => {
                let mut name = String::new();
                escape(sink, &mut name);
                (name == found).then_some(())?;
            }
            WriteLevel::Channel => channel = Some(plain(found)?),
            WriteLevel::Tag => tag = Some(plain(found)?),
        }
    }
    match found.next() {
        None => channel.zip(tag),
        Some(_) => None,
    }
}

/// Whether something may be published under this name (MQTT 5, section 4.7).
pub(super) fn is_publishable(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= 1_024
        && !topic.contains(['+', '#'])
        && !topic.contains(char::is_control)
}

fn is_escaped(c: char) -> bool {
    matches!(c, '%' | '/' | '+' | '#' | '$') || c.is_control()
}

fn escape(name: &str, out: &mut String) {
    if name.is_empty() {
        out.push_str(NONE);
    }
    for c in name.chars() {
        if is_escaped(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(out, "%{byte:02X}").expect("a string takes everything");
            }
        } else {
            out.push(c);
        }
    }
}

fn plain(level: &str) -> Option<String> {
    let name = percent_encoding::percent_decode_str(level)
        .decode_utf8()
        .ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        sink: "mqtt",
        channel: "press-3",
        device: "plc",
        group: "",
        tag: "a+b/c#%$",
    };

    #[test]
    fn names_stay_one_level_and_come_back() {
        let template = [
            TopicPart::Text("p/".to_owned()),
            TopicPart::Channel,
            TopicPart::Text("/".to_owned()),
            TopicPart::Group,
            TopicPart::Text("/".to_owned()),
            TopicPart::Tag,
        ];
        let mut topic = String::new();
        fill(&template, NAMES, &mut topic);
        assert_eq!(topic, "p/press-3/_/a%2Bb%2Fc%23%25%24");
        assert!(is_publishable(&topic));
        assert_eq!(plain("a%2Bb%2Fc%23%25%24").as_deref(), Some(NAMES.tag));
        let mut escaped = String::new();
        escape("°\u{85}", &mut escaped);
        assert_eq!(
            (escaped.as_str(), plain(&escaped).as_deref()),
            ("°%C2%85", Some("°\u{85}"))
        );
        assert_eq!(own("a/b", "x/y", "gap"), "a/b/x%2Fy/gap");
    }

    #[test]
    fn a_write_names_its_channel_and_its_tag() {
        let levels = [
            WriteLevel::Text("b".to_owned()),
            WriteLevel::Channel,
            WriteLevel::Sink,
            WriteLevel::Tag,
        ];
        assert_eq!(filter(&levels, "m"), "b/+/m/+");
        let named = |topic| written_to(&levels, "m", topic);
        assert_eq!(
            named("b/press/m/a%2Bb"),
            Some(("press".to_owned(), "a+b".to_owned()))
        );
        for other in [
            "",
            "b",
            "b/press/m",
            "c/press/m/a",
            "b/press/n/a",
            "b/press/m/a/answer",
            "b//m/a",
            "b/press/m/",
            "b/%FF/m/a",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
