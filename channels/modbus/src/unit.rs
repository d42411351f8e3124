//! A unit: what an operator calls a device.

use std::cell::Cell;
use std::time::Duration;

use bulkhead_sdk::{Context, DeviceCondition, DeviceId};

use crate::failure::Failure;
use crate::order::Order;
use crate::settings::{ChannelSettings, DeviceSettings, MaskWrite};

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
    /// How many reads may be under way at once.
    pub requests_at_once: u8,
    /// An index into the lines.
    pub line: usize,
    /// The order of bytes of values, where a tag says no other.
    pub order: Order,
    /// Whether single bits of a register are written with function 22.
    pub mask_write: MaskWrite,
    /// Whether registers that are to be read back are written with function 23.
    pub write_and_read: bool,
    /// Functions that it was found to lack, until it has been away.
    lacks: Cell<Lacks>,
    /// What the host was told last.
    told: Cell<DeviceCondition>,
}

/// Functions that need not be there.
#[derive(Debug, Clone, Copy, Default)]
struct Lacks {
    mask_write: bool,
    write_and_read: bool,
}

impl Unit {
    /// A unit of which nothing is known yet.
    pub fn new(
        device: DeviceId,
        number: u8,
        line: usize,
        own: &DeviceSettings,
        channel: &ChannelSettings,
    ) -> Self {
        let timeout = own.timeout_ms.unwrap_or(channel.timeout_ms);
        Self {
            device,
            number,
            timeout: Duration::from_millis(timeout.into()),
            retries: own.retries.unwrap_or(channel.retries),
            requests_at_once: own.requests_at_once.unwrap_or(channel.requests_at_once),
            line,
            order: own.order.unwrap_or(channel.order),
            mask_write: own.mask_write.unwrap_or(channel.mask_write),
            write_and_read: own.write_and_read.unwrap_or(channel.write_and_read),
            lacks: Cell::default(),
            told: Cell::new(DeviceCondition::Unknown),
        }
    }

    /// Whether single bits are to be written with function 22 now.
    pub fn takes_mask_write(&self) -> bool {
        match self.mask_write {
            MaskWrite::Auto => !self.lacks.get().mask_write,
            MaskWrite::Always => true,
            MaskWrite::Never => false,
        }
    }

    /// Function 22 was refused. Answers whether there is another way.
    pub fn lacks_mask_write(&self) -> bool {
        let mut lacks = self.lacks.get();
        lacks.mask_write = true;
        self.lacks.set(lacks);
        self.mask_write == MaskWrite::Auto
    }

    /// Whether registers that are to be read back are to be written with function 23 now.
    pub fn takes_write_and_read(&self) -> bool {
        self.write_and_read && !self.lacks.get().write_and_read
    }

    /// Function 23 was refused.
    pub fn lacks_write_and_read(&self) {
        let mut lacks = self.lacks.get();
        lacks.write_and_read = true;
        self.lacks.set(lacks);
    }

    /// Whether it did not answer when it was last polled.
    pub fn is_silent(&self) -> bool {
        self.told.get() == DeviceCondition::Down
    }

    /// Whether it answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.told.get() == DeviceCondition::Up
    }

    /// It answered, if only to refuse.
    pub fn answered(&self, context: &Context) {
        if self.told.replace(DeviceCondition::Up) != DeviceCondition::Up {
            context.device_state(self.device, DeviceCondition::Up, "the unit answers");
        }
    }

    /// It did not answer, and will not be asked again in this cycle.
    pub fn went_silent(&self, context: &Context, failure: Failure) {
        self.lacks.set(Lacks::default());
        if self.told.replace(DeviceCondition::Down) != DeviceCondition::Down {
            context.device_state(self.device, DeviceCondition::Down, failure.to_string());
        }
    }
}
