//! The types of `bulkhead:channel@0.1.0`, as the host and a driver exchange them.
//!
//! Ordinary Rust on every target. A driver meets a few of them ([`Sample`], [`Value`], [`Quality`]);
//! the rest are for whoever drives a [`Runtime`](crate::Runtime) by hand.

pub use crate::bindings::bulkhead::channel::actions::{
    Action, Alarm, CommandDone, DeviceCondition, DeviceState, HealthDone, Metric, MetricKind, Open,
    Pause, PollDone, Probe, Progress, Publish, ReadDone, Send, SetTimer, Severity, WriteDone,
};
pub use crate::bindings::bulkhead::channel::config::{
    Capabilities, ChannelConfig, CommandInfo, ConfigFault, Device, DriverInfo, Group, Link,
    LinkWish, Tag,
};
pub use crate::bindings::bulkhead::channel::events::{
    Accepted, ActionKind, CloseReason, Closed, Command, Connection, Declined, Event, Happening,
    Opened, Outlook, Poll, Read, Received, Sent, Start, StartReason, Stop, StopReason, Write,
};
pub use crate::bindings::bulkhead::channel::types::{
    ConnectionId, DeviceId, Error, GroupId, Instant, LinkId, Quality, RequestId, Sample, TagId,
    TimerId, Value,
};
pub use log::Level;

pub(crate) mod log {
    //! The one import. It exists only in a component.
    #[cfg(target_arch = "wasm32")]
    pub(crate) use crate::bindings::bulkhead::channel::log::write;

    pub use crate::bindings::bulkhead::channel::log::Level;
}
