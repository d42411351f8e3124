//! What the stream tells besides samples.

use serde::{Deserialize, Serialize};

use super::Exit;

/// How the readers of the stream are, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Those that are open.
    pub open: usize,
    /// Messages (batches and events) that readers have missed since the host started.
    pub missed_messages: u64,
    /// The samples in them, as far as they are known.
    pub missed_samples: u64,
}

/// What a reader of the stream did not get, where it did not get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many messages (batches and events, of all channels); `null` where nobody knows.
    pub gap: Option<u64>,
    /// How many samples were in them, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// `too-slow`: it did not read for too long. `too-late`: it came back when they were gone. `host-restarted`: it came back
    /// to another run of the host.
    pub reason: String,
    /// When the host noticed.
    pub server_time: String,
    /// The same, as a number.
    pub server_time_ns: u64,
}

/// Something that happened to a channel, in the stream. The stream's event has the name that stands under `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelEvent {
    /// The channel.
    pub channel: String,
    /// Which of its lives.
    pub incarnation: u64,
    /// When.
    pub at: String,
    /// The same, as a number.
    pub at_ns: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

/// What happened to a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Happened {
    /// Its running state changed.
    State {
        /// The new state.
        state: String,
        /// Why.
        reason: String,
    },
    /// A life ended.
    Exit(Exit),
    /// A link came up or went down.
    Link {
        /// Its name.
        link: String,
        /// Whether it is up now.
        up: bool,
        /// The peer, or why it is down.
        detail: String,
    },
    /// What stands in a link's history too.
    LinkEvent {
        /// Its name.
        link: String,
        /// The connection, where it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<u32>,
        /// As in [`super::LinkPast::event`].
        event: String,
        /// Why.
        cause: String,
    },
    /// The driver spoke of a device, or it is polled less, or an operator took it out of service.
    Device {
        /// Its name.
        device: String,
        /// `up`, `down` or `unknown`; `demoted`; `locked` or `unlocked`.
        condition: String,
        /// In the driver's words, or the operator's.
        why: String,
    },
    /// The driver raised or cleared an alarm.
    Alarm {
        /// Its code. With the device it says which alarm it is.
        code: String,
        /// How bad it is: `info`, `warning`, `error` or `critical`.
        severity: String,
        /// Raised, or cleared.
        active: bool,
        /// In the driver's words.
        message: String,
        /// The device that it is about; absent where it is about none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// When it came or went, in nanoseconds since 1970; absent where the device does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source_time_ns: Option<u64>,
    },
    /// The host noticed something that an operator should know.
    Warning {
        /// In one sentence.
        message: String,
    },
    /// Samples or polls were dropped.
    Dropped {
        /// How many.
        count: u64,
        /// Of what, and why.
        what: String,
    },
}
