//! A channel's flight recorder: a recording for each incarnation, and a bundle of it when that crashes, or is to be kept.

use std::sync::Arc;

use super::abi_config::abi_config;
use super::prepare::{Prepared, start_budget};
use crate::channel::Shared;
use crate::exit::Exit;
use crate::ids::InstanceId;
use crate::recorder::{Archive, CrashReport, DriverRecord, LimitsRecord, Recorder, Recording};
use crate::restart::ExitClass;

/// What a host's channels share of it.
#[derive(Clone)]
pub(super) struct Flight {
    recorder: Recorder,
    archive: Arc<Archive>,
}

impl Flight {
    pub(super) fn new(recorder: Recorder, archive: Archive) -> Self {
        Self {
            recorder,
            archive: Arc::new(archive),
        }
    }

    /// For the channel's next incarnation; `None` where it is not to be recorded.
    pub(super) fn begin(&self, shared: &Shared) -> Option<Recording> {
        let bytes = shared.config().recorder.bytes;
        (bytes > 0).then(|| Recording::new(&self.recorder, bytes))
    }

    /// An incarnation has ended: a fault goes into a bundle, whose path the exit bears from now on. So does an end in order, where
    /// sessions are kept.
    pub(super) fn end(
        &self,
        shared: &Shared,
        prepared: &Prepared,
        incarnation: u64,
        recording: Recording,
        exit: &mut Exit,
    ) {
        let wanted = match exit.kind.class() {
            Some(ExitClass::Faulted) => true,
            None | Some(ExitClass::Finished) => shared.config().recorder.sessions,
            Some(ExitClass::Unmendable) => false,
        };
        if !wanted {
            return;
        }
        let limits = &shared.config().limits;
        let start = start_budget(shared.config());
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let instance = InstanceId {
            channel: shared.id().clone(),
            incarnation,
        };
        let config = shared.config().clone();
        let report = CrashReport {
            instance: instance.clone(),
            at: shared.clock().wall(),
            exit: exit.clone(),
            recording,
            config: Box::new(move || abi_config(&config)),
            secrets: prepared.secrets.clone(),
            driver: DriverRecord {
                path: prepared.driver.path().display().to_string(),
                sha256: prepared.driver.sha256(),
                bytes: prepared.driver.size(),
            },
            limits: LimitsRecord {
                memory: limits.memory,
                fuel_per_turn: limits.fuel_per_turn,
                turn_deadline_ns: nanos(limits.turn_deadline),
                start_fuel: start.fuel,
                start_deadline_ns: nanos(start.deadline),
                samples_per_second: limits.samples_per_second,
                stack: crate::limits::STACK as u64,
            },
        };
        match self.archive.report(report) {
            Ok(path) => exit.bundle = Some(path.into()),
            Err(reason) => tracing::warn!(%instance, reason, "no crash bundle is written"),
        }
    }
}
