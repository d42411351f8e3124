//! The flight recorder: how much it may hold.

use super::checked::Recorder;
use super::section::{Keys, Section};
use crate::limits::{RECORDING, RECORDINGS};

pub(super) const HOST_RECORDER: Keys = Keys {
    known: &["enabled", "size"],
    later: &[],
};
pub(super) const RECORDER: Keys = Keys {
    known: &["enabled", "size", "recycle", "sessions"],
    later: &[],
};

/// `[host] recorder = { .. }`: what all channels may hold together, in bytes; 0 where nothing is recorded.
pub(super) fn host_recorder(host: &Section<'_>) -> usize {
    let section = host.part("recorder", &HOST_RECORDER);
    let size = section.size("size", RECORDINGS.default, RECORDINGS.range());
    if section.boolean("enabled", true) {
        usize::try_from(size).unwrap_or(usize::MAX)
    } else {
        0
    }
}

/// `recorder = { .. }` of a channel.
pub(super) fn recorder(channel: &Section<'_>) -> Recorder {
    let section = channel.part("recorder", &RECORDER);
    let size = section.size("size", RECORDING.default, RECORDING.range());
    let enabled = section.boolean("enabled", true);
    let recycle = section.boolean("recycle", false);
    if recycle && !enabled {
        section.fault_at(
            "recycle",
            "`recycle` restarts the driver before its recording is full, but nothing is recorded; remove it, or `enabled = false`",
        );
    }
    let sessions = section.boolean("sessions", false);
    if sessions && !enabled {
        section.fault_at(
            "sessions",
            "`sessions` writes down what a driver was given until it stopped, but nothing is recorded; remove it, or `enabled = false`",
        );
    }
    Recorder {
        bytes: if enabled {
            usize::try_from(size).unwrap_or(usize::MAX)
        } else {
            0
        },
        recycle,
        sessions,
    }
}
