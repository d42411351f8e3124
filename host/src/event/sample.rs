//! Samples.

use super::{Quality, Value, WallNs};
use crate::ids::TagId;

/// One reading of one tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The tag, within its channel.
    pub tag: TagId,
    /// Absent only if the quality is bad.
    pub value: Option<Value>,
    /// How far it can be trusted.
    pub quality: Quality,
    /// When the device took it, if the protocol says so.
    pub source_time: Option<WallNs>,
}
