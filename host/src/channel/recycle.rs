//! A driver is restarted in order before its recording is full, where its operator wants every recording whole.

use std::time::Duration;

use super::incarnation::{Incarnation, StopOrder};
use crate::bindings::events::StopReason;
use crate::event::MonotonicNs;

/// How long it has to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long it lives at the least: one whose recording fills up faster is recorded in part.
const LEAST_LIFE: Duration = Duration::from_secs(10);

impl Incarnation<'_> {
    /// Asks the driver to stop, if it is time for the next one.
    pub(super) fn recycle_if_due(&mut self, now: MonotonicNs) {
        if !self.shared.config().recorder.recycle || self.stopping.is_some() {
            return;
        }
        let Some(recording) = &mut self.recording else {
            return;
        };
        let (begun, _) = recording.opening.start.now();
        if now.since(begun) < LEAST_LIFE || !recording.is_nearly_full() {
            return;
        }
        let reason =
            "the recording of the driver is nearly full, so it starts again from its saved state";
        let deadline = now.after(GRACE);
        let step = self.shared.steer(
            |machine, now| machine.recycle(now, deadline),
            |_| reason.to_owned(),
        );
        match step {
            Ok(_) => {
                recording.recycling = true;
                self.stopping = Some(StopOrder {
                    deadline,
                    reason: StopReason::Recycled,
                });
            }
            // An operator was faster.
            Err(denied) => tracing::debug!(instance = %self.id, %denied, "not recycled"),
        }
    }
}
