//! Which tags are meant: by the names of their channels, groups and their own.

use super::Layout;
use crate::ids::TagId;

/// Which tags are meant. `*` stands for any number of characters, `?` for one. `press-*/temp*` means both parts;
/// without a `/` the tag's name is meant, in any channel. Patterns of groups are written in the same way. A tag is meant if it fits
/// what is given of each: channels, groups and tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilter {
    channels: Vec<Box<str>>,
    groups: Vec<Pattern>,
    tags: Vec<Pattern>,
}

/// One for the channel, one for the name in it.
type Pattern = (Box<str>, Box<str>);

fn split(pattern: &str) -> Pattern {
    let (channel, name) = pattern.split_once('/').unwrap_or(("*", pattern));
    (channel.into(), name.into())
}

/// Whether a name fits one of the patterns, or there are none.
fn fits(patterns: &[Pattern], channel: &str, name: &str) -> bool {
    let one =
        |(in_channel, pattern): &Pattern| matches(in_channel, channel) && matches(pattern, name);
    patterns.is_empty() || patterns.iter().any(one)
}

impl TagFilter {
    /// From patterns of channels' names, of groups and of tags. None of a kind means all.
    pub fn new<'p>(
        channels: impl IntoIterator<Item = &'p str>,
        groups: impl IntoIterator<Item = &'p str>,
        tags: impl IntoIterator<Item = &'p str>,
    ) -> Self {
        Self {
            channels: channels.into_iter().map(Box::from).collect(),
            groups: groups.into_iter().map(split).collect(),
            tags: tags.into_iter().map(split).collect(),
        }
    }

    /// Whether it means everything.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.groups.is_empty() && self.tags.is_empty()
    }

    /// Whether anything of a channel may be meant.
    pub fn admits_channel(&self, channel: &str) -> bool {
        let may = |patterns: &[Pattern]| {
            patterns.is_empty()
                || patterns
                    .iter()
                    .any(|(pattern, _)| matches(pattern, channel))
        };
        self.is_named(channel) && may(&self.groups) && may(&self.tags)
    }

    /// Which groups of a channel are meant; `None` where groups do not matter.
    pub fn groups_of(&self, layout: &Layout) -> Option<Vec<bool>> {
        if self.groups.is_empty() {
            return None;
        }
        let channel = layout.channel.as_str();
        let all = layout.groups.iter();
        Some(
            all.map(|group| fits(&self.groups, channel, group))
                .collect(),
        )
    }

    /// Whether a tag of a channel is meant, given what [`TagFilter::groups_of`] says of that channel.
    pub fn means(&self, layout: &Layout, groups: Option<&[bool]>, tag: TagId) -> bool {
        let Some(tag) = layout.tag(tag) else {
            return false;
        };
        let group = tag.group.map(|group| group as usize);
        let is_in_group =
            |groups: &[bool]| group.and_then(|group| groups.get(group)) == Some(&true);
        groups.is_none_or(is_in_group)
            && self.is_named(layout.channel.as_str())
            && fits(&self.tags, layout.channel.as_str(), tag.name)
    }

    /// Which tags of a channel are meant.
    pub fn tags_of(&self, layout: &Layout) -> Vec<bool> {
        let groups = self.groups_of(layout);
        let tags = (0u32..).take(layout.tags.len());
        tags.map(|id| self.means(layout, groups.as_deref(), TagId(id)))
            .collect()
    }

    fn is_named(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|name| matches(name, channel))
    }
}

/// Whether a text fits a pattern, in time that grows at most with the product of their lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // After the last `*`: what follows it, and where in the text it was tried last.
    let mut retry = None;
    loop {
        let here = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = here.1;
                retry = Some((pattern.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, from)) = &mut retry else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = from.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_or_not() {
        let check = |pattern: &str, text: &str, expected| {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}")
        };
        for (pattern, text) in [
            ("*", ""),
            ("*", "a"),
            ("a*c", "abbc"),
            ("a*c", "ac"),
            ("?", "ä"),
            ("*a*b", "xaxbab"),
            ("", ""),
            ("a**", "a"),
        ] {
            check(pattern, text, true);
        }
        for (pattern, text) in [
            ("?", ""),
            ("a", "ab"),
            ("a*c", "acb"),
            ("ab", "a"),
            ("", "a"),
            ("*a", "b"),
        ] {
            check(pattern, text, false);
        }
        // Would take for ever if each star were tried against each other.
        check(&"*a".repeat(60), &"a".repeat(127), true);
        check(&format!("{}b", "*a".repeat(60)), &"a".repeat(127), false);
    }
}
