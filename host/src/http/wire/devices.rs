//! Devices of channels.

use serde::{Deserialize, Serialize};

/// A device of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// In the protocol's own terms.
    pub address: String,
    /// `up`, `down` or `unknown`.
    pub condition: String,
    /// In the driver's words.
    pub why: String,
    /// `polled`; `demoted` where it keeps silent and is polled less; `locked` where an operator took it out of service.
    pub standing: String,
    /// From when on the next poll asks a demoted device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe_ns: Option<u64>,
    /// Since when a locked device is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_since: Option<String>,
    /// The same, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_since_ns: Option<u64>,
    /// Why it is locked, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_why: Option<String>,
}

/// The devices of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// The channel.
    pub channel: String,
    /// In the configuration's order.
    pub devices: Vec<Device>,
}

/// The order to take a device out of service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLock {
    /// Why, for those who come later; at most 256 bytes are kept.
    #[serde(default)]
    pub why: String,
}
