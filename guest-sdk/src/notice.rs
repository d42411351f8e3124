//! What a driver tells operators besides samples: alarms and figures.

use crate::abi::{self, DeviceId, MetricKind, Severity};
use crate::time::WallTime;

/// A condition that operators should see. It is known by its code and its device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "hand it to `Context::alarm`"]
pub struct Alarm {
    code: String,
    severity: Severity,
    active: bool,
    message: String,
    device: Option<DeviceId>,
    since: Option<WallTime>,
}

impl Alarm {
    /// The condition holds. `code` has at most 64 bytes.
    pub fn raised(code: impl Into<String>, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            severity,
            active: true,
            message: message.into(),
            device: None,
            since: None,
        }
    }

    /// The condition holds no longer.
    pub fn cleared(
        code: impl Into<String>,
        severity: Severity,
        message: impl Into<String>,
    ) -> Self {
        Self {
            active: false,
            ..Self::raised(code, severity, message)
        }
    }

    /// The device that it is about; else the whole channel.
    pub fn of(mut self, device: DeviceId) -> Self {
        self.device = Some(device);
        self
    }

    /// When it came or went, as the device says.
    pub fn at(mut self, moment: WallTime) -> Self {
        self.since = Some(moment);
        self
    }
}

impl From<Alarm> for abi::Alarm {
    fn from(alarm: Alarm) -> Self {
        Self {
            code: alarm.code,
            severity: alarm.severity,
            active: alarm.active,
            message: alarm.message,
            device: alarm.device,
            source_time_ns: alarm.since.map(WallTime::unix_nanos),
        }
    }
}

/// A figure of the driver's own.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "hand it to `Context::metric`"]
pub struct Metric {
    name: String,
    kind: MetricKind,
    unit: String,
    device: Option<DeviceId>,
    value: f64,
}

impl Metric {
    /// One that goes up and down. `name` is 1 to 64 of `a-z 0-9 _`.
    pub fn gauge(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            kind: MetricKind::Gauge,
            unit: String::new(),
            device: None,
            value,
        }
    }

    /// One that only goes up, from 0 at the start of the incarnation.
    pub fn counter(name: impl Into<String>, value: f64) -> Self {
        Self {
            kind: MetricKind::Counter,
            ..Self::gauge(name, value)
        }
    }

    /// What it measures, in the code of UCUM: `s`, `By`, `Cel`. A plain number has none.
    pub fn in_unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// The device that it is about; else the whole channel.
    pub fn of(mut self, device: DeviceId) -> Self {
        self.device = Some(device);
        self
    }
}

impl From<Metric> for abi::Metric {
    fn from(metric: Metric) -> Self {
        Self {
            name: metric.name,
            kind: metric.kind,
            unit: metric.unit,
            device: metric.device,
            value: metric.value,
        }
    }
}
