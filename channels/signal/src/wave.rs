//! The signals that follow the clock: pure functions of a moment.

use std::f64::consts::TAU;

use crate::call::{AddressError, Call};

/// A signal with a period. It is in step with the host's monotonic clock, so that neither a reload nor a restart of the driver
/// shows in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wave {
    period_ns: u64,
    shape: Shape,
}

/// What a wave does within a period.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Sine {
        amplitude: f64,
        offset: f64,
        /// As a part of the period.
        phase: f64,
    },
    /// From `min` up to `max`, and at once back.
    Ramp { min: f64, max: f64 },
    Square {
        low: f64,
        high: f64,
        /// The part of the period for which it is high; that part comes first.
        duty: f64,
    },
}

const TEN_SECONDS: u64 = 10_000_000_000;

impl Wave {
    /// The wave of that name, if there is one.
    pub(crate) fn parse(call: &Call<'_>) -> Option<Result<Self, AddressError>> {
        let shape = match call.name {
            "sine" => Self::sine(call),
            "ramp" => Self::ramp(call),
            "square" => Self::square(call),
            _ => return None,
        };
        Some(shape.and_then(|shape| {
            Ok(Self {
                period_ns: call.time("period", TEN_SECONDS)?,
                shape,
            })
        }))
    }

    fn sine(call: &Call<'_>) -> Result<Shape, AddressError> {
        call.only(&["period", "amplitude", "offset", "phase"])?;
        Ok(Shape::Sine {
            amplitude: call.number("amplitude", 1.0)?,
            offset: call.number("offset", 0.0)?,
            phase: call.number("phase", 0.0)?,
        })
    }

    fn ramp(call: &Call<'_>) -> Result<Shape, AddressError> {
        call.only(&["period", "min", "max"])?;
        Ok(Shape::Ramp {
            min: call.number("min", 0.0)?,
            max: call.number("max", 100.0)?,
        })
    }

    fn square(call: &Call<'_>) -> Result<Shape, AddressError> {
        call.only(&["period", "low", "high", "duty"])?;
        let duty = call.number("duty", 0.5)?;
        if !(0.0..=1.0).contains(&duty) {
            let fault = format!("duty={duty} is no part of a period; write it as 0.5");
            return Err(AddressError::Meaningless(fault));
        }
        Ok(Shape::Square {
            low: call.number("low", 0.0)?,
            high: call.number("high", 1.0)?,
            duty,
        })
    }

    /// Its value at a moment, in nanoseconds.
    pub(crate) fn at(&self, nanos: u64) -> f64 {
        // The remainder is taken before the division, so that a clock that has run for a year costs no precision.
        let part = (nanos % self.period_ns) as f64 / self.period_ns as f64;
        match self.shape {
            Shape::Sine {
                amplitude,
                offset,
                phase,
            } => offset + amplitude * (TAU * (part + phase)).sin(),
            Shape::Ramp { min, max } if (max - min).is_finite() => min + (max - min) * part,
            // Between them lies more than there are numbers.
            Shape::Ramp { min, max } => min * (1.0 - part) + max * part,
            Shape::Square { low, high, duty } => {
                if part < duty {
                    high
                } else {
                    low
                }
            }
        }
    }

    /// The least and the greatest value that it takes.
    pub(crate) fn bounds(&self) -> (f64, f64) {
        let (one, other) = match self.shape {
            Shape::Sine {
                amplitude, offset, ..
            } => (offset - amplitude, offset + amplitude),
            Shape::Ramp { min, max } => (min, max),
            Shape::Square { low, high, .. } => (low, high),
        };
        (one.min(other), one.max(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(address: &str) -> Wave {
        let call = Call::parse(address).unwrap();
        Wave::parse(&call).expect("a wave").unwrap()
    }

    #[test]
    fn waves_over_a_period() {
        // At 0, 1/8, 1/4, 3/8, ... of a period of eight seconds, long after the clock began.
        let year = 365 * 24 * 3600 * 8 * 1_000_000_000_u64;
        let half = 0.5_f64.sqrt();
        let check = |address: &str, expected: [f64; 9]| {
            let wave = wave(address);
            for (second, expected) in expected.into_iter().enumerate() {
                let value = wave.at(year + second as u64 * 1_000_000_000);
                assert!(
                    (value - expected).abs() < 1e-9,
                    "{address} at {second} s: {value}, not {expected}"
                );
                let (least, greatest) = wave.bounds();
                assert!((least..=greatest).contains(&value), "{address}: {value}");
            }
        };
        check(
            "sine(period=8s)",
            [0.0, half, 1.0, half, 0.0, -half, -1.0, -half, 0.0],
        );
        check(
            "sine(period=8s, amplitude=10, offset=5, phase=0.25)",
            [
                15.0,
                5.0 + 10.0 * half,
                5.0,
                5.0 - 10.0 * half,
                -5.0,
                5.0 - 10.0 * half,
                5.0,
                5.0 + 10.0 * half,
                15.0,
            ],
        );
        check(
            "ramp(period=8s, min=0, max=80)",
            [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 0.0],
        );
        check(
            "ramp(period=8s, min=80, max=0)",
            [80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0, 80.0],
        );
        check(
            "square(period=8s)",
            [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        );
        check(
            "square(period=8s, low=-1, high=3, duty=0.25)",
            [3.0, 3.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 3.0],
        );
    }

    #[test]
    fn a_duty_is_a_part() {
        let call = Call::parse("square(duty=2)").unwrap();
        let fault = Wave::parse(&call).expect("a wave").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "duty=2 is no part of a period; write it as 0.5"
        );
    }
}
