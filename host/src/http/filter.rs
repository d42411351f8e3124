//! Which channels and tags a question means.

use axum::http::StatusCode;

use super::ApiError;
use crate::event::TagFilter;

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

/// Reads `channel` (names), `group` and `tag` (patterns); gives the names of channels too.
pub(super) fn tag_filter(parameters: &Parameters) -> Result<(TagFilter, Vec<&str>), ApiError> {
    let channels = parameters.list("channel")?;
    // A tag's name may hold a comma.
    let patterns = |key| {
        let given = parameters.all(key).filter(|pattern| !pattern.is_empty());
        within_bound(key, given.collect())
    };
    let filter = TagFilter::new(
        channels.iter().copied(),
        patterns("group")?,
        patterns("tag")?,
    );
    Ok((filter, channels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

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
            let (filter, _) = tag_filter(&parameters).unwrap();
            let layout = host.channels[0].layout();
            let tags = layout.tags.iter().zip(filter.tags_of(&layout));
            let meant: Vec<&str> = tags
                .filter(|(_, meant)| *meant)
                .map(|(tag, _)| tag.name)
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
        check("tag=press-*%2Ftemp&tag=alone,x", &["temp"]);
        check("tag=pump-*%2Ftemp", &[]);
        check("channel=a,press-3&tag=?il", &["oil"]);
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
        assert!(tag_filter(&many).is_err());
    }
}
