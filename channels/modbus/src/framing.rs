//! How requests and answers travel on the link of a channel.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::rtu;
use crate::settings::ChannelSettings;

/// The framing that an operator names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// Modbus TCP: a header with a transaction and a length.
    Tcp,
    /// Modbus RTU: a checksum, as on serial lines; also through a converter that passes bytes on.
    Rtu,
}

/// How requests and answers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// See `mbap`.
    Tcp,
    /// See `rtu`.
    Rtu(Rtu),
}

/// What RTU needs besides the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtu {
    /// The link is a serial line: what is on the way cannot be dropped by dialling anew.
    pub serial: bool,
    /// How long the line is silent between two frames: 3.5 characters (Modbus over Serial Line V1.02, section 2.5.1.1).
    pub silence: Duration,
    /// How long units have to act on a broadcast (section 2.4.1).
    pub turnaround: Duration,
    /// The line gives back what is sent on it, before any answer.
    pub echo: bool,
}

/// 3.5 characters of 11 bits at 9,600 baud take 4.01 ms; faster lines need less.
const SERIAL_SILENCE_MS: u32 = 5;

impl Framing {
    /// What the settings say; where they say nothing, what is usual on a link of this kind.
    pub fn new(settings: &ChannelSettings, link_kind: &str) -> Self {
        let serial = link_kind == "serial";
        let usual = if serial { Named::Rtu } else { Named::Tcp };
        let milliseconds = |number: u32| Duration::from_millis(number.into());
        match settings.framing.unwrap_or(usual) {
            Named::Tcp => Self::Tcp,
            Named::Rtu => Self::Rtu(Rtu {
                serial,
                silence: milliseconds(settings.silence_ms.unwrap_or(if serial {
                    SERIAL_SILENCE_MS
                } else {
                    0
                })),
                turnaround: milliseconds(settings.turnaround_ms),
                echo: settings.echo,
            }),
        }
    }

    /// Whether a request to this unit reaches all units, and none answers. Modbus TCP has no broadcast: there 0 is a unit, as a
    /// rule the device itself (Messaging on TCP/IP Implementation Guide 1.0b, section 4.4.2.2).
    pub fn is_broadcast(self, unit: u8) -> bool {
        matches!(self, Self::Rtu(_)) && unit == rtu::BROADCAST
    }

    /// Whether the link is a serial line.
    pub fn is_serial(self) -> bool {
        matches!(self, Self::Rtu(rtu) if rtu.serial)
    }
}
