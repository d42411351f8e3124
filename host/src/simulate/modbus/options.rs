//! What a simulated device is: its units, sizes, rhythm and faults.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Error, Fault};

/// The largest table that a 16-bit address reaches.
pub(super) const TABLE_MAX: u32 = 65_536;

/// How requests and answers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Framing {
    /// Modbus TCP
    #[default]
    Tcp,
    /// Modbus RTU, over TCP
    Rtu,
}

/// Everything that a simulated device needs to know. `Options::default()` is the device of the quickstart.
#[derive(Debug, Clone)]
pub struct Options {
    /// How requests and answers travel.
    pub framing: Framing,
    /// The units that answer.
    pub units: UnitList,
    /// Units that never answer, though their requests are counted. They need not stand in `units`.
    pub dead_units: UnitList,
    /// Holding and input registers per unit, at most 65,536.
    pub registers: u32,
    /// Coils and discrete inputs per unit, at most 65,536.
    pub bits: u32,
    /// One turn of the moving values; not zero.
    pub period: Duration,
    /// Whether input registers from 200 on count up, by one each 10 ms.
    pub moving_inputs: bool,
    /// Answers to spoil, in order: the first that fires wins.
    pub faults: Vec<Fault>,
    /// Connections at once; more are closed at once.
    pub max_connections: usize,
    /// Seed of the noise register and of the `random` fault.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            framing: Framing::Tcp,
            units: UnitList::range(1, 4),
            dead_units: UnitList::default(),
            registers: 10_000,
            bits: 10_000,
            period: Duration::from_secs(10),
            moving_inputs: false,
            faults: Vec::new(),
            max_connections: 1_024,
            seed: 1,
        }
    }
}

impl Options {
    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// [`Error::Option`], naming the option and its bounds.
    pub fn check(&self) -> Result<(), Error> {
        for (name, count) in [("registers", self.registers), ("bits", self.bits)] {
            if !(1..=TABLE_MAX).contains(&count) {
                return Err(Error::Option(format!(
                    "--{name} {count}: a unit has from 1 to {TABLE_MAX} {name}"
                )));
            }
        }
        if self.period < Duration::from_millis(1) {
            return Err(Error::Option(
                "--period: the moving values need at least 1ms for one turn".to_owned(),
            ));
        }
        if self.units.is_empty() && self.dead_units.is_empty() {
            return Err(Error::Option(
                "--units: a device needs at least one unit, such as --units 1".to_owned(),
            ));
        }
        if self.max_connections == 0 {
            return Err(Error::Option(
                "--max-connections 0: nobody could ever connect".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A set of unit ids, written `1-4,7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitList([u128; 2]);

impl UnitList {
    /// The units from `first` to `last`, both included.
    #[must_use]
    pub fn range(first: u8, last: u8) -> Self {
        let mut list = Self::default();
        (first..=last).for_each(|unit| list.insert(unit));
        list
    }

    /// Adds one unit.
    pub fn insert(&mut self, unit: u8) {
        self.0[usize::from(unit >> 7)] |= 1 << (unit & 127);
    }

    /// Whether the unit stands in the list.
    #[must_use]
    pub const fn contains(&self, unit: u8) -> bool {
        self.0[(unit >> 7) as usize] >> (unit & 127) & 1 == 1
    }

    /// Whether there is no unit at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0
    }

    /// The units, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|unit| self.contains(*unit))
    }
}

impl FromStr for UnitList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = |part: &str| {
            part.trim().parse::<u8>().map_err(|_| {
                format!("`{part}` is no unit id; write units such as 1-4,7 (0 to 255)")
            })
        };
        let mut list = Self::default();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (unit(first)?, unit(last)?),
                None => (unit(part)?, unit(part)?),
            };
            if first > last {
                return Err(format!(
                    "`{part}` runs backwards; write the smaller unit first"
                ));
            }
            (first..=last).for_each(|unit| list.insert(unit));
        }
        Ok(list)
    }
}

impl fmt::Display for UnitList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = units.next() {
            let mut last = first;
            while let Some(next) = units.next_if(|next| *next == last.wrapping_add(1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_lists_are_read_and_written() {
        for (text, written, count) in [
            ("1", "1", 1),
            ("1-4,7", "1-4,7", 5),
            ("7, 1-2,3", "1-3,7", 4),
            ("0-255", "0-255", 256),
            ("127,128", "127-128", 2),
        ] {
            let list: UnitList = text.parse().unwrap();
            assert_eq!(
                (list.to_string().as_str(), list.iter().count()),
                (written, count),
                "{text}"
            );
        }
        for text in ["", "256", "4-1", "a", "1-", "-1", "1,,2"] {
            assert!(text.parse::<UnitList>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn impossible_options_are_named() {
        let broken = [
            (
                Options {
                    registers: 0,
                    ..Options::default()
                },
                "--registers 0",
            ),
            (
                Options {
                    bits: 65_537,
                    ..Options::default()
                },
                "--bits 65537",
            ),
            (
                Options {
                    period: Duration::ZERO,
                    ..Options::default()
                },
                "--period",
            ),
            (
                Options {
                    units: UnitList::default(),
                    ..Options::default()
                },
                "--units",
            ),
            (
                Options {
                    max_connections: 0,
                    ..Options::default()
                },
                "--max-connections",
            ),
        ];
        for (options, name) in broken {
            let message = options.check().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        Options::default().check().unwrap();
    }
}
