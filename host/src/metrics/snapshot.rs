//! What was gathered at one moment: plain data, so that the text can be made, and tested, without a host.
//!
//! Counters count from the start of the host (see the room's own words on why), unless a field says otherwise.

use std::time::Duration;

use crate::event::{Quality, WallNs};
use crate::history::Latencies;
use crate::lifecycle;
use crate::reconnection;

/// Everything.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) host: HostNow,
    /// In the order of the file.
    pub(super) channels: Vec<ChannelNow>,
    /// In the order of the file.
    pub(super) sinks: Vec<SinkNow>,
}

/// The host as a whole.
#[derive(Clone, Debug)]
pub(super) struct HostNow {
    pub(super) version: &'static str,
    pub(super) started_at: WallNs,
    pub(super) uptime: Duration,
    /// `None` where the kernel does not tell.
    pub(super) process: Option<ProcessNow>,
    pub(super) bus_messages: u64,
    pub(super) bus_samples: u64,
    pub(super) streams: usize,
    pub(super) streams_missed_messages: u64,
    pub(super) streams_missed_samples: u64,
}

/// What the kernel says of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessNow {
    /// Of all threads, in the kernel and outside of it.
    pub(super) processor: Duration,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_files: u64,
}

/// A histogram, and the sum of what is in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    pub(super) latencies: Latencies,
    pub(super) total: Duration,
}

/// One channel.
#[derive(Clone, Debug)]
pub(super) struct ChannelNow {
    pub(super) id: String,
    pub(super) driver: String,
    pub(super) state: lifecycle::State,
    /// The first always, the others where there are any.
    pub(super) qualities: Vec<(Quality, u64)>,
    /// By condition.
    pub(super) devices: Vec<(&'static str, u64)>,
    pub(super) events: u64,
    pub(super) actions: u64,
    pub(super) samples: u64,
    pub(super) waited: u64,
    pub(super) late_answers: u64,
    pub(super) kept_away: u64,
    /// Those of the restart budget that are spent.
    pub(super) attempts: u32,
    pub(super) starts: u64,
    /// By the name of the kind, all kinds.
    pub(super) ends: Vec<(&'static str, u64)>,
    pub(super) running: Duration,
    pub(super) fuel: u64,
    pub(super) fuel_last: u64,
    pub(super) peak_memory: u64,
    pub(super) turns: Timing,
    pub(super) mailbox_length: usize,
    pub(super) mailbox_room: usize,
    pub(super) waiting: usize,
    pub(super) commands: usize,
    pub(super) dead_letters: usize,
    /// For how long its task has made no progress.
    pub(super) stuck: Duration,
    pub(super) requests: Vec<RequestsNow>,
    pub(super) groups: Vec<GroupNow>,
    pub(super) links: Vec<LinkNow>,
}

/// What became of requests of one kind.
#[derive(Clone, Debug)]
pub(super) struct RequestsNow {
    /// `read`, `write` or `command`.
    pub(super) kind: &'static str,
    /// By outcome, all outcomes.
    pub(super) outcomes: Vec<(&'static str, u64)>,
    pub(super) done: u64,
    /// How long those that were done took, all together.
    pub(super) took: Duration,
}

/// One group.
#[derive(Clone, Debug)]
pub(super) struct GroupNow {
    pub(super) name: String,
    pub(super) period: Duration,
    pub(super) polls: u64,
    pub(super) skipped: u64,
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) deviation: Timing,
    pub(super) deviation_most: Duration,
    pub(super) took: Timing,
    pub(super) round_trip: Duration,
}

/// One link.
#[derive(Clone, Debug)]
pub(super) struct LinkNow {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) state: reconnection::State,
    pub(super) dials: u64,
    pub(super) failed_dials: u64,
    pub(super) streams: u64,
    pub(super) up_time: Duration,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Of the last dial that led to a stream.
    pub(super) dial_time: Option<Duration>,
    pub(super) probes_sent: u64,
    pub(super) probes_answered: u64,
    /// Of the last probe that was answered.
    pub(super) round_trip: Option<Duration>,
}

/// One sink.
#[derive(Clone, Debug)]
pub(super) struct SinkNow {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) written: u64,
    pub(super) refused: u64,
    pub(super) missed_messages: u64,
    pub(super) missed_samples: u64,
    pub(super) in_trouble: bool,
    pub(super) lag_samples: u64,
    pub(super) lag: Duration,
    pub(super) deliveries: u64,
    pub(super) delivery_time: Duration,
    pub(super) outbox: Option<OutboxNow>,
}

/// The outbox before a sink. What was accepted, delivered and dropped is counted since the outbox was made: it stands on the disk, in the
/// commits that it counts, so it never goes back.
#[derive(Clone, Debug)]
pub(super) struct OutboxNow {
    pub(super) samples: u64,
    pub(super) bytes: u64,
    pub(super) oldest: Duration,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    /// By reason, all reasons.
    pub(super) dropped: Vec<(&'static str, u64)>,
    pub(super) commits: u64,
    pub(super) commit_time: Duration,
    pub(super) accepting: bool,
}
