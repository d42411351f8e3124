//! Which channels and tags a question means.

use axum::http::StatusCode;

use super::ApiError;
use crate::config;
use crate::ids::TagId;

/// The most patterns or names of one kind in one question.
const MAX_TERMS: usize = 100;

/// A question's parameters, as they were given. Each may be given more than once.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    given: Vec<(String, String)>,
}

impl Parameters {
    /// Reads the query, of which only `known` keys are allowed.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let uri = format!("/?{}", query.unwrap_or_default());
        let fault = || {
            ApiError::bad_request(
                "the query cannot be read",
                "write it as key=value&key=value, percent-encoded",
            )
        };
        let uri: axum::http::Uri = uri.parse().map_err(|_| fault())?;
        let axum::extract::Query(given) =
            axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
                .map_err(|_| fault())?;
        for (key, _) in &given {
            if !known.contains(&key.as_str()) {
                let key: String = key.chars().take(40).collect();
                return Err(ApiError::bad_request(
                    format!("there is no parameter `{key}` here"),
                    format!("use {}", known.join(", ")),
                ));
            }
        }
        Ok(Self { given })
    }

    /// The one value of a key that may be given once.
    pub(super) fn one(&self, key: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(key);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(ApiError::bad_request(
                format!("`{key}` is given more than once"),
                "give it once",
            )),
        }
    }

    /// A number within bounds.
    pub(super) fn number(
        &self,
        key: &str,
        default: usize,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, ApiError> {
        let Some(text) = self.one(key)? else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                let remedy = format!("give a number from {} to {}", bounds.start(), bounds.end());
                ApiError::bad_request(format!("`{key}` is no number within its bounds"), remedy)
            })
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ApiError> {
        match self.one(key)? {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(ApiError::bad_request(
                format!("`{key}` is neither true nor false"),
                "give one of the two",
            )),
        }
    }

    /// Every value of a key; lists may also be written with commas.
    pub(super) fn list(&self, key: &str) -> Result<Vec<&str>, ApiError> {
        let all: Vec<&str> = self
            .all(key)
            .flat_map(|value| value.split(','))
            .filter(|value| !value.is_empty())
            .collect();
        within_bound(key, all)
    }

    fn all<'s>(&'s self, key: &str) -> impl Iterator<Item = &'s str> {
        let values = self.given.iter().filter(move |(given, _)| given == key);
        values.map(|(_, value)| value.as_str())
    }
}

fn within_bound<'s>(key: &str, all: Vec<&'s str>) -> Result<Vec<&'s str>, ApiError> {
    if all.len() > MAX_TERMS {
        let message = format!("`{key}` is given {} times", all.len());
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            message,
            format!("give it at most {MAX_TERMS} times"),
        ));
    }
    Ok(all)
}

/// Which tags are meant. `*` stands for any number of characters, `?` for one. `press-*/temp*` means both parts;
/// without a `/` the tag's name is meant, in any channel. Patterns of groups are written in the same way. A tag is meant if it fits
/// what is given of each: channels, groups and tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TagFilter {
    channels: Vec<String>,
    groups: Vec<Pattern>,
    patterns: Vec<Pattern>,
}

/// One for the channel, one for the name in it.
type Pattern = (String, String);

fn patterns(parameters: &Parameters, key: &str) -> Result<Vec<Pattern>, ApiError> {
    // A tag's name may hold a comma.
    let given = parameters.all(key).filter(|pattern| !pattern.is_empty());
    let given = within_bound(key, given.collect())?;
    let split = given.into_iter().map(|pattern| {
        let (channel, name) = pattern.split_once('/').unwrap_or(("*", pattern));
        (channel.to_owned(), name.to_owned())
    });
    Ok(split.collect())
}

/// Whether a name fits one of the patterns, or there are none.
fn fits(patterns: &[Pattern], channel: &str, name: &str) -> bool {
    let one =
        |(in_channel, pattern): &Pattern| matches(in_channel, channel) && matches(pattern, name);
    patterns.is_empty() || patterns.iter().any(one)
}

impl TagFilter {
    /// Reads `channel` (names), `group` and `tag` (patterns).
    pub(super) fn read(parameters: &Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            channels: parameters
                .list("channel")?
                .into_iter()
                .map(str::to_owned)
                .collect(),
            groups: patterns(parameters, "group")?,
            patterns: patterns(parameters, "tag")?,
        })
    }

    /// The channels that were named, if any were.
    pub(super) fn channels(&self) -> &[String] {
        &self.channels
    }

    /// Whether anything of a channel may be meant.
    pub(super) fn admits_channel(&self, channel: &str) -> bool {
        let may = |patterns: &[Pattern]| {
            patterns.is_empty()
                || patterns
                    .iter()
                    .any(|(pattern, _)| matches(pattern, channel))
        };
        self.is_named(channel) && may(&self.groups) && may(&self.patterns)
    }

    /// Whether a tag is meant, as far as its group does not matter.
    fn admits(&self, channel: &str, tag: &str) -> bool {
        self.is_named(channel) && fits(&self.patterns, channel, tag)
    }

    /// Which tags of a channel are in a group that is meant; `None` where groups do not matter.
    pub(super) fn grouped(&self, channel: &config::Channel) -> Option<Vec<bool>> {
        if self.groups.is_empty() {
            return None;
        }
        let mut grouped = vec![false; channel.tags.len()];
        for group in &channel.groups {
            if fits(&self.groups, channel.id.as_str(), &group.name) {
                for tag in &group.tags {
                    if let Some(grouped) = grouped.get_mut(tag.index()) {
                        *grouped = true;
                    }
                }
            }
        }
        Some(grouped)
    }

    /// Whether a tag of a channel is meant, given what [`TagFilter::grouped`] says of that channel.
    pub(super) fn means(
        &self,
        channel: &config::Channel,
        grouped: Option<&[bool]>,
        tag: TagId,
    ) -> bool {
        let in_group = grouped.is_none_or(|grouped| grouped.get(tag.index()) == Some(&true));
        let config = channel.tags.get(tag.index());
        in_group && config.is_some_and(|config| self.admits(channel.id.as_str(), &config.name))
    }

    /// Which tags of a channel are meant.
    pub(super) fn tags_of(&self, channel: &config::Channel) -> Vec<bool> {
        let grouped = self.grouped(channel);
        let tags = (0u32..).zip(&channel.tags);
        tags.map(|(id, _)| self.means(channel, grouped.as_deref(), TagId(id)))
            .collect()
    }

    fn is_named(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|name| name == channel)
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

    fn filter(query: &str) -> TagFilter {
        let parameters = Parameters::read(Some(query), &["channel", "tag"]).unwrap();
        TagFilter::read(&parameters).unwrap()
    }

    #[test]
    fn a_filter_means_channels_and_tags() {
        let both = filter("channel=a,b&tag=temp*");
        assert!(both.admits("a", "temp") && both.admits("b", "temp2"));
        assert!(!both.admits("c", "temp") && !both.admits("a", "other"));
        let parts = filter("tag=press-*%2Ftemp&tag=x,y");
        assert!(parts.admits("press-3", "temp") && parts.admits("any", "x,y"));
        assert!(!parts.admits("other", "temp"));
        assert!(filter("tag=press-*%2Ftemp").admits_channel("press-1"));
        assert!(!filter("tag=press-*%2Ftemp").admits_channel("other"));
        assert!(filter("").admits("a", "b"));
    }

    #[test]
    fn a_filter_means_groups() {
        const CONFIG: &str = r#"
            [[channel]]
            id = "press-3"
            driver = "modbus.wasm"
            tag = [{ name = "alone", address = "1", type = "int16", access = "rw" }]
            [[channel.group]]
            name = "fast"
            period = "100ms"
            tags = [{ name = "temp", address = "2", type = "int16" }, { name = "oil", address = "3", type = "int16" }]
            [[channel.group]]
            name = "slow"
            period = "10s"
            tags = [{ name = "hours", address = "4", type = "int16" }]
        "#;
        let origin = config::Origin {
            name: "test.toml".into(),
            folder: std::env::temp_dir(),
        };
        let host = config::parse(CONFIG, &origin).unwrap().value;
        let check = |query: &str, expected: &[&str]| {
            let parameters = Parameters::read(Some(query), &["channel", "group", "tag"]).unwrap();
            let filter = TagFilter::read(&parameters).unwrap();
            let channel = &host.channels[0];
            let tags = channel.tags.iter().zip(filter.tags_of(channel));
            let meant: Vec<&str> = tags
                .filter(|(_, meant)| *meant)
                .map(|(tag, _)| tag.name.as_str())
                .collect();
            assert_eq!(meant, expected, "{query}");
            let admitted = filter.admits_channel("press-3");
            assert!(admitted || expected.is_empty(), "{query}");
        };
        check("", &["temp", "oil", "hours", "alone"]);
        check("group=fast", &["temp", "oil"]);
        check("group=*", &["temp", "oil", "hours"]);
        check("group=f?st&group=slow&tag=*e*", &["temp"]);
        check("group=press-*/slow", &["hours"]);
        check("group=pump-*/slow", &[]);
        check("group=fast&channel=press-3", &["temp", "oil"]);
        check("group=fast&channel=press-4", &[]);
        check("group=FAST", &[]);
    }

    #[test]
    fn unknown_and_doubled_parameters_are_refused() {
        assert!(Parameters::read(Some("tags=a"), &["tag"]).is_err());
        let twice = Parameters::read(Some("limit=1&limit=2"), &["limit"]).unwrap();
        assert!(twice.number("limit", 1, 1..=10).is_err());
        let large = Parameters::read(Some("limit=11"), &["limit"]).unwrap();
        assert!(large.number("limit", 1, 1..=10).is_err());
        assert!(
            Parameters::read(Some("tag=%zz%ff"), &["tag"]).is_ok(),
            "odd bytes are somebody's pattern"
        );
        let many = Parameters {
            given: vec![("tag".into(), "a".into()); MAX_TERMS + 1],
        };
        assert!(TagFilter::read(&many).is_err());
    }
}
