//! Whose a record is.

use std::fmt;
use std::sync::Arc;

use crate::ids::ChannelId;

/// Whoever has records: a channel, or one of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(Arc<str>);

impl Owner {
    /// A link of a channel. No channel has such a name: it has no `/` in it.
    pub fn link(channel: &ChannelId, link: &str) -> Self {
        Self(format!("{channel}/{link}").into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&ChannelId> for Owner {
    fn from(channel: &ChannelId) -> Self {
        Self(channel.as_str().into())
    }
}

impl From<&Owner> for Owner {
    fn from(owner: &Owner) -> Self {
        owner.clone()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
