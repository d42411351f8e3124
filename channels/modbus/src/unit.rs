//! A unit: what an operator calls a device.

use std::cell::Cell;
use std::time::Duration;

use bulkhead_sdk::{Context, DeviceCondition, DeviceId};

use crate::failure::Failure;

/// A unit, how to treat it, and whether it is known to answer.
#[derive(Debug)]
pub struct Unit {
    /// The host's id.
    pub device: DeviceId,
    /// The address on the wire.
    pub number: u8,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// How often a read is repeated within a cycle.
    pub retries: u8,
    /// What the host was told last.
    told: Cell<DeviceCondition>,
}

impl Unit {
    /// A unit of which nothing is known yet.
    pub fn new(device: DeviceId, number: u8, timeout: Duration, retries: u8) -> Self {
        Self {
            device,
            number,
            timeout,
            retries,
            told: Cell::new(DeviceCondition::Unknown),
        }
    }

    /// Whether it did not answer when it was last polled.
    pub fn is_silent(&self) -> bool {
        self.told.get() == DeviceCondition::Down
    }

    /// It answered, if only to refuse.
    pub fn answered(&self, context: &Context) {
        if self.told.replace(DeviceCondition::Up) != DeviceCondition::Up {
            context.device_state(self.device, DeviceCondition::Up, "the unit answers");
        }
    }

    /// It did not answer, and will not be asked again in this cycle.
    pub fn went_silent(&self, context: &Context, failure: Failure) {
        if self.told.replace(DeviceCondition::Down) != DeviceCondition::Down {
            context.device_state(self.device, DeviceCondition::Down, failure.to_string());
        }
    }
}
