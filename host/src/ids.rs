//! Names of things: one newtype per id, so that a tag is never taken for a group.
//!
//! Ids of tags, groups, devices and links are positions in the channel's own tables and mean nothing outside
//! it. They are what the ABI carries; people see names.

use std::fmt;
use std::sync::Arc;

macro_rules! number_id {
    ($(#[$doc:meta] $name:ident($number:ty);)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

number_id! {
    /// A tag of a channel: its position in the channel's list of tags.
    TagId(u32);
    /// A poll group of a channel.
    GroupId(u32);
    /// A device of a channel.
    DeviceId(u32);
    /// A link that a channel was granted.
    LinkId(u32);
    /// A timer, picked by the driver.
    TimerId(u32);
    /// A read, write, command or health check; unique within the host process.
    RequestId(u64);
    /// A connection over a link; unique within an incarnation.
    ConnectionId(u32);
}

impl TagId {
    /// The position in the channel's list of tags.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl GroupId {
    /// The position in the channel's list of groups.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl DeviceId {
    /// The position in the channel's list of devices.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl LinkId {
    /// The position in the channel's list of links.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The name of a channel: 1 to 64 of `a-z A-Z 0-9 _ - .`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Arc<str>);

impl ChannelId {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 64;

    /// Takes a name that keeps to the rule above.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let first_ok = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        let rest_ok = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if first_ok && rest_ok && name.len() <= Self::MAX_LENGTH {
            Ok(Self(name.into()))
        } else {
            Err(BadName(
                name.chars().take(80).flat_map(char::escape_debug).collect(),
            ))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that breaks the rule of [`ChannelId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name; use 1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit"
)]
pub struct BadName(String);

/// Which life of which channel: `wasm/press-3#7`. It stands on every log line, span, metric and event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId {
    /// The channel.
    pub channel: ChannelId,
    /// Its life, counted from 1 over restarts of the host; 0 before the first.
    pub incarnation: u64,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wasm/{}#{}", self.channel, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_rule() {
        for good in ["press-3", "A", "a.b_c", "3"] {
            assert_eq!(ChannelId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(ChannelId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_is_shown_short_and_harmless() {
        let shown = ChannelId::new("a\u{1b}[31m").unwrap_err().to_string();
        assert!(shown.starts_with(r"`a\u{1b}[31m` is no name; "), "{shown}");
        assert!(
            ChannelId::new(&"-".repeat(100_000))
                .unwrap_err()
                .to_string()
                .len()
                < 200
        );
    }

    #[test]
    fn an_instance_is_written_with_runtime_channel_and_incarnation() {
        let id = InstanceId {
            channel: ChannelId::new("press-3").unwrap(),
            incarnation: 7,
        };
        assert_eq!(id.to_string(), "wasm/press-3#7");
    }
}
