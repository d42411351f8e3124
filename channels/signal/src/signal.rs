//! A tag of this driver: where its values come from, and how they become values of its type.

use std::cell::{Cell, RefCell};

use bulkhead_sdk::{DataType, Instant, Scalar, Value};

use crate::call::{AddressError, Call};
use crate::wave::Wave;

/// How an address is written, for people.
pub(crate) const HELP: &str = "\
sine(period=10s, amplitude=1, offset=0, phase=0)   phase as a part of the period
ramp(period=10s, min=0, max=100)
square(period=10s, low=0, high=1, duty=0.5)
walk(seed=TAG, step=1, min=0, max=100)             a random step at each poll
counter(start=0, step=1)                           a step at each poll; wraps at the end of its type
hold(VALUE)                                        what was last written
Every argument may be left out. A bool is true in the upper half of its signal, and a counter's at every other poll.";

/// A source of values of one type.
#[derive(Debug)]
pub(crate) struct Signal {
    source: Source,
    scalar: Scalar,
}

#[derive(Debug)]
enum Source {
    Wave(Wave),
    Counter(Counter),
    Walk(Walk),
    Hold(RefCell<Value>),
}

impl Signal {
    /// The signal that an address means for a data type. `seed` is for a walk that names none.
    pub(crate) fn parse(
        address: &str,
        data_type: DataType,
        seed: u64,
    ) -> Result<Self, AddressError> {
        let call = Call::parse(address)?;
        let source = match Wave::parse(&call) {
            Some(wave) => Source::Wave(wave?),
            None => match call.name {
                "counter" => {
                    call.only(&["start", "step"])?;
                    Source::Counter(Counter {
                        start: call.whole("start", 0)?,
                        step: call.whole("step", 1)?,
                        cycle: Cell::new(0),
                    })
                }
                "walk" => Source::Walk(Walk::parse(&call, seed)?),
                "hold" => Source::Hold(RefCell::new(parse_held(&call, data_type)?)),
                _ => {
                    return Err(AddressError::Meaningless(format!(
                        "there is no signal {call}; take sine, ramp, square, walk, counter or hold"
                    )));
                }
            },
        };
        let signal = Self {
            source,
            scalar: data_type.scalar,
        };
        signal.check_type(data_type)?;
        Ok(signal)
    }

    /// Whether it keeps what is written to it.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.source, Source::Hold(_))
    }

    /// Keeps a value of its type. Nothing happens to a signal that makes its own.
    pub(crate) fn write(&self, value: Value) {
        if let Source::Hold(held) = &self.source {
            held.replace(value);
        }
    }

    /// Its value at a moment, between two polls: counters and walks stand still.
    pub(crate) fn at(&self, moment: Instant) -> Value {
        match &self.source {
            Source::Wave(wave) => self.value(wave.at(moment.as_nanos()), wave.bounds()),
            Source::Walk(walk) => self.value(walk.position.get(), (walk.min, walk.max)),
            Source::Counter(counter) => counted(counter.count(), self.scalar),
            Source::Hold(held) => held.borrow().clone(),
        }
    }

    /// Moves on to a poll, and gives its value there.
    pub(crate) fn poll(&self, moment: Instant, cycle: u64) -> Value {
        match &self.source {
            Source::Walk(walk) => walk.step(),
            Source::Counter(counter) => counter.cycle.set(cycle),
            Source::Wave(_) | Source::Hold(_) => {}
        }
        self.at(moment)
    }

    /// A number as a value of this type; it was checked that the bounds fit.
    fn value(&self, number: f64, (least, greatest): (f64, f64)) -> Value {
        match self.scalar {
            Scalar::Bool => Value::Boolean(number > least.midpoint(greatest)),
            Scalar::Float32 => Value::Float(f64::from(number as f32)),
            scalar if scalar.signed_range().is_some() => Value::Int(number.round() as i64),
            scalar if scalar.unsigned_max().is_some() => Value::Uint(number.round() as u64),
            _ => Value::Float(number),
        }
    }

    fn check_type(&self, data_type: DataType) -> Result<(), AddressError> {
        let bounds = match &self.source {
            Source::Hold(_) => return Ok(()),
            Source::Counter(_) => (0.0, 0.0),
            Source::Walk(walk) => (walk.min, walk.max),
            Source::Wave(wave) => wave.bounds(),
        };
        let (least, greatest) = match (data_type.length, data_type.scalar) {
            (Some(_), _) | (_, Scalar::String | Scalar::Bytes) => {
                return Err(AddressError::Meaningless(format!(
                    "this signal has no {data_type}; take a bool, an integer or a float, or hold"
                )));
            }
            (None, Scalar::Bool | Scalar::Float64) => (f64::MIN, f64::MAX),
            (None, Scalar::Float32) => (f64::from(f32::MIN), f64::from(f32::MAX)),
            (None, scalar) => match (scalar.signed_range(), scalar.unsigned_max()) {
                (Some((least, greatest)), _) => (least as f64, greatest as f64),
                (None, greatest) => (0.0, greatest.unwrap_or(0) as f64),
            },
        };
        if bounds.0 < least || bounds.1 > greatest {
            return Err(AddressError::Meaningless(format!(
                "this signal goes from {} to {}, and {data_type} only from {least} to {greatest}",
                bounds.0, bounds.1
            )));
        }
        Ok(())
    }
}

/// A step at each poll; polls that were skipped count.
#[derive(Debug)]
struct Counter {
    start: i64,
    step: i64,
    cycle: Cell<u64>,
}

impl Counter {
    fn count(&self) -> i128 {
        i128::from(self.start) + i128::from(self.step) * i128::from(self.cycle.get())
    }
}

/// A random walk between two walls; the same seed always takes the same way.
#[derive(Debug)]
struct Walk {
    step: f64,
    min: f64,
    max: f64,
    position: Cell<f64>,
    random: Cell<u64>,
}

impl Walk {
    fn parse(call: &Call<'_>, seed: u64) -> Result<Self, AddressError> {
        call.only(&["seed", "step", "min", "max"])?;
        let (min, max) = (call.number("min", 0.0)?, call.number("max", 100.0)?);
        if min > max {
            return Err(AddressError::Meaningless(format!(
                "min={min} is above max={max}; exchange them"
            )));
        }
        Ok(Self {
            step: call.number("step", 1.0)?,
            min,
            max,
            position: Cell::new(min.midpoint(max)),
            random: Cell::new(call.whole("seed", seed as i64)? as u64),
        })
    }

    /// Anything from a step down to a step up, and no further than the walls.
    fn step(&self) {
        // A linear congruential generator (Knuth, MMIX): its upper bits are random enough for a demonstration.
        let random = self
            .random
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random.set(random);
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let position = self.position.get() + self.step * (2.0 * part - 1.0);
        self.position.set(position.clamp(self.min, self.max));
    }
}

/// A count as a value of a type; one that goes beyond it begins again at the other end.
fn counted(count: i128, scalar: Scalar) -> Value {
    if let Some((least, greatest)) = scalar.signed_range() {
        let (least, greatest) = (i128::from(least), i128::from(greatest));
        let wrapped = (count - least).rem_euclid(greatest - least + 1) + least;
        return Value::Int(wrapped as i64);
    }
    if let Some(greatest) = scalar.unsigned_max() {
        return Value::Uint(count.rem_euclid(i128::from(greatest) + 1) as u64);
    }
    match scalar {
        Scalar::Bool => Value::Boolean(count.rem_euclid(2) == 1),
        Scalar::Float32 => Value::Float(f64::from(count as f32)),
        _ => Value::Float(count as f64),
    }
}

/// What a held tag begins with: what the address says, else zero, false or nothing.
fn parse_held(call: &Call<'_>, data_type: DataType) -> Result<Value, AddressError> {
    call.only(&[""])?;
    let text = call.text("");
    let value = match data_type.scalar {
        Scalar::Bool => text.unwrap_or("false").parse().ok().map(Value::Boolean),
        Scalar::String => Some(Value::Text(text.unwrap_or("").trim_matches('"').to_owned())),
        Scalar::Bytes => Some(Value::Bytes(text.unwrap_or("").as_bytes().to_vec())),
        Scalar::Float32 | Scalar::Float64 => Some(Value::Float(call.number("", 0.0)?)),
        scalar if scalar.signed_range().is_some() => {
            text.unwrap_or("0").parse().ok().map(Value::Int)
        }
        _ => text.unwrap_or("0").parse().ok().map(Value::Uint),
    };
    value
        .filter(|value| data_type.accepts(value))
        .ok_or_else(|| {
            let given = text.unwrap_or("nothing");
            AddressError::Meaningless(format!("hold({given}) holds no {data_type}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(address: &str, data_type: &str) -> Result<Signal, AddressError> {
        Signal::parse(address, data_type.parse().unwrap(), 7)
    }

    fn values(address: &str, data_type: &str, cycles: [u64; 4]) -> [Value; 4] {
        let signal = signal(address, data_type).unwrap();
        cycles.map(|cycle| {
            let value = signal.poll(
                Instant::from_nanos(cycle.wrapping_mul(1_000_000_000)),
                cycle,
            );
            let data_type: DataType = data_type.parse().unwrap();
            assert!(data_type.accepts(&value), "{value:?} is no {data_type}");
            value
        })
    }

    #[test]
    fn values_are_of_their_type() {
        use Value::{Boolean, Float, Int, Uint};
        let ramp = "ramp(period=4s, min=0, max=10)";
        let seconds = [0, 1, 2, 3];
        let floats = [Float(0.0), Float(2.5), Float(5.0), Float(7.5)];
        assert_eq!(values(ramp, "float64", seconds), floats);
        assert_eq!(
            values(ramp, "int8", seconds),
            [Int(0), Int(3), Int(5), Int(8)]
        );
        assert_eq!(
            values(ramp, "uint64", seconds),
            [Uint(0), Uint(3), Uint(5), Uint(8)]
        );
        assert_eq!(
            values(ramp, "bool", seconds),
            [false, false, false, true].map(Boolean)
        );
        assert_eq!(
            values("square(period=4s)", "bool", seconds),
            [true, true, false, false].map(Boolean)
        );
        let tenth = Float(f64::from(0.1_f32));
        let tenths = values("square(low=0.1, high=0.1)", "float32", seconds);
        assert!(tenths.iter().all(|value| *value == tenth));
    }

    #[test]
    fn counters_wrap() {
        use Value::{Boolean, Float, Int, Uint};
        assert_eq!(
            values("counter", "uint8", [0, 255, 256, 257]),
            [Uint(0), Uint(255), Uint(0), Uint(1)]
        );
        assert_eq!(
            values("counter(start=126)", "int8", [0, 1, 2, 3]),
            [Int(126), Int(127), Int(-128), Int(-127)]
        );
        assert_eq!(
            values("counter(start=1, step=-1)", "uint16", [0, 1, 2, 3]),
            [Uint(1), Uint(0), Uint(65_535), Uint(65_534)]
        );
        assert_eq!(
            values("counter(step=3)", "float64", [0, 1, 2, u64::MAX]),
            [0.0, 3.0, 6.0, 3.0 * u64::MAX as f64].map(Float)
        );
        assert_eq!(
            values("counter", "bool", [0, 1, 2, 3]),
            [false, true, false, true].map(Boolean)
        );
    }

    #[test]
    fn walks_keep_their_seed_their_step_and_their_walls() {
        let way = |address: &str| -> Vec<f64> {
            let signal = signal(address, "float64").unwrap();
            (0..1000)
                .map(|cycle| match signal.poll(Instant::from_nanos(0), cycle) {
                    Value::Float(position) => position,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let walk = way("walk(seed=1, step=2, min=-3, max=5)");
        assert_eq!(walk, way("walk(seed=1, step=2, min=-3, max=5)"));
        assert_ne!(walk, way("walk(seed=2, step=2, min=-3, max=5)"));
        assert_eq!(way("walk"), way("walk(seed=7)"));
        assert!((walk[0] - 1.0).abs() <= 2.0);
        assert!(walk.windows(2).all(|two| (two[1] - two[0]).abs() <= 2.0));
        assert!(walk.iter().all(|position| (-3.0..=5.0).contains(position)));
        assert!(walk.contains(&-3.0) && walk.contains(&5.0));
    }

    #[test]
    fn held_values_begin_as_their_address_says() {
        let check = |address: &str, data_type: &str, expected: Value| {
            let signal = signal(address, data_type).unwrap();
            assert!(signal.holds());
            assert_eq!(signal.at(Instant::from_nanos(0)), expected);
        };
        check("hold", "bool", Value::Boolean(false));
        check("hold(true)", "bool", Value::Boolean(true));
        check("hold(-5)", "int8", Value::Int(-5));
        check("hold(200)", "uint8", Value::Uint(200));
        check("hold(1.5)", "float32", Value::Float(1.5));
        check("hold(\"on\")", "string", Value::Text("on".into()));
    }

    #[test]
    fn faults_say_what_would_be_right() {
        let check = |address: &str, data_type: &str, expected: &str| {
            let fault = signal(address, data_type).unwrap_err();
            assert_eq!(fault.to_string(), expected, "{address}");
        };
        check(
            "cosine",
            "float64",
            "there is no signal cosine; take sine, ramp, square, walk, counter or hold",
        );
        check(
            "ramp(max=300)",
            "uint8",
            "this signal goes from 0 to 300, and uint8 only from 0 to 255",
        );
        check(
            "sine",
            "uint16",
            "this signal goes from -1 to 1, and uint16 only from 0 to 65535",
        );
        check(
            "sine",
            "string",
            "this signal has no string; take a bool, an integer or a float, or hold",
        );
        check(
            "counter",
            "int16[4]",
            "this signal has no int16[4]; take a bool, an integer or a float, or hold",
        );
        check(
            "walk(min=2, max=1)",
            "float64",
            "min=2 is above max=1; exchange them",
        );
        check("hold(300)", "uint8", "hold(300) holds no uint8");
        check("hold(red)", "bool", "hold(red) holds no bool");
    }
}
