//! Reloads.

use serde::{Deserialize, Serialize};

use crate::config::Difference;

/// The body of `POST /reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a reload has done, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether it has been taken up. False where nothing is another, and with `dry_run`.
    pub applied: bool,
    /// What is another.
    #[serde(flatten)]
    pub difference: Difference,
    /// Channels whose drivers had not stopped in time: they go over to the new configuration when they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<String>,
}
