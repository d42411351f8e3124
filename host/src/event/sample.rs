//! Samples, and the batches in which they travel.

use std::sync::Arc;

use super::{Quality, Value, WallNs};
use crate::ids::{InstanceId, TagId};

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

/// What one channel publishes at one moment. Shared by every consumer, never copied.
#[derive(Debug)]
pub struct Batch {
    /// Which life of which channel published it.
    pub instance: Arc<InstanceId>,
    /// Counts the batches of the channel within this run of the host, from 1.
    pub sequence: u64,
    /// When the host received it.
    pub server_time: WallNs,
    /// In the driver's order.
    pub samples: Vec<Sample>,
}
