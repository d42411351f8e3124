//! How an address is written: a name, and arguments in brackets, as in `sine(period=10s, amplitude=5)`.
//!
//! This file knows the syntax, and nothing of signals.

use std::fmt;

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("{0:?} is not written as NAME or NAME(KEY=VALUE, ...)")]
    NotACall(String),
    #[error("{0} is given twice; keep one of them")]
    Twice(String),
    #[error("{signal} has no {key}; it has {known}")]
    UnknownKey {
        signal: String,
        key: String,
        known: String,
    },
    #[error("{key}={given} is no number; write it as 1.5")]
    NotANumber { key: String, given: String },
    #[error("{key}={given} is no whole number; write it as 15")]
    NotWhole { key: String, given: String },
    #[error("{key}={given} is no time; write it as 500ms, 10s, 5m or 1h, above zero")]
    NotATime { key: String, given: String },
    #[error("{0}")]
    Meaningless(String),
}

/// An address in its parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    arguments: Vec<(&'a str, &'a str)>,
}

impl<'a> Call<'a> {
    /// Takes an address apart. A single argument may stand without its key, which is then empty.
    pub(crate) fn parse(address: &'a str) -> Result<Self, AddressError> {
        let fault = || AddressError::NotACall(address.to_owned());
        let address = address.trim();
        let (name, inside) = match address.split_once('(') {
            Some((name, rest)) => (name.trim(), rest.strip_suffix(')').ok_or_else(fault)?),
            None => (address, ""),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(fault());
        }
        let mut arguments: Vec<(&str, &str)> = Vec::new();
        for argument in inside.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            let (key, value) = argument.split_once('=').unwrap_or(("", argument));
            let (key, value) = (key.trim(), value.trim());
            if value.is_empty() {
                return Err(fault());
            }
            if arguments.iter().any(|(known, _)| *known == key) {
                return Err(AddressError::Twice(argument.to_owned()));
            }
            arguments.push((key, value));
        }
        Ok(Self { name, arguments })
    }

    /// Refuses every key but these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), AddressError> {
        match self.arguments.iter().find(|(key, _)| !known.contains(key)) {
            None => Ok(()),
            Some((key, value)) => Err(AddressError::UnknownKey {
                signal: self.name.to_owned(),
                key: if key.is_empty() { value } else { key }.to_string(),
                known: known.join(", "),
            }),
        }
    }

    /// An argument as it stands.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        let mut arguments = self.arguments.iter();
        Some(arguments.find(|(known, _)| *known == key)?.1)
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64, AddressError> {
        self.parsed(key, default, |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        })
        .map_err(|(key, given)| AddressError::NotANumber { key, given })
    }

    /// A whole number.
    pub(crate) fn whole(&self, key: &str, default: i64) -> Result<i64, AddressError> {
        self.parsed(key, default, |text| text.parse().ok())
            .map_err(|(key, given)| AddressError::NotWhole { key, given })
    }

    /// A time above zero, in nanoseconds.
    pub(crate) fn time(&self, key: &str, default: u64) -> Result<u64, AddressError> {
        self.parsed(key, default, parse_time)
            .map_err(|(key, given)| AddressError::NotATime { key, given })
    }

    fn parsed<T>(
        &self,
        key: &str,
        default: T,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, (String, String)> {
        match self.text(key) {
            None => Ok(default),
            Some(text) => parse(text).ok_or_else(|| (key.to_owned(), text.to_owned())),
        }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

fn parse_time(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let time = count.parse::<u64>().ok()?.checked_mul(nanos)?;
    (time > 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart() {
        let call = Call::parse(" sine( period = 10s, amplitude=-2.5e1 ) ").unwrap();
        assert_eq!(call.name, "sine");
        assert_eq!(call.time("period", 1), Ok(10_000_000_000));
        assert_eq!(call.number("amplitude", 1.0), Ok(-25.0));
        assert_eq!(call.number("offset", 7.0), Ok(7.0));
        assert_eq!(Call::parse("ramp").unwrap().name, "ramp");
        assert_eq!(Call::parse("hold(5)").unwrap().text(""), Some("5"));
    }

    #[test]
    fn faults_say_what_would_be_right() {
        let check = |address: &str, expected: &str| {
            let fault = Call::parse(address).and_then(|call| {
                call.only(&["period", "step", "min"])?;
                call.time("period", 1)?;
                call.whole("step", 1)?;
                call.number("min", 0.0)
            });
            assert_eq!(fault.unwrap_err().to_string(), expected, "{address}");
        };
        check("", r#""" is not written as NAME or NAME(KEY=VALUE, ...)"#);
        check(
            "sine(",
            r#""sine(" is not written as NAME or NAME(KEY=VALUE, ...)"#,
        );
        check(
            "sine(min=)",
            r#""sine(min=)" is not written as NAME or NAME(KEY=VALUE, ...)"#,
        );
        check(
            "a b(min=1)",
            r#""a b(min=1)" is not written as NAME or NAME(KEY=VALUE, ...)"#,
        );
        check(
            "ramp(min=1, min=2)",
            "min=2 is given twice; keep one of them",
        );
        check(
            "ramp(perid=1s)",
            "ramp has no perid; it has period, step, min",
        );
        check("ramp(7)", "ramp has no 7; it has period, step, min");
        check("ramp(min=x)", "min=x is no number; write it as 1.5");
        check("ramp(min=inf)", "min=inf is no number; write it as 1.5");
        check(
            "ramp(step=1.5)",
            "step=1.5 is no whole number; write it as 15",
        );
        for time in ["10", "0s", "s", "-1s", "1d", "99999999999999999h"] {
            check(
                &format!("ramp(period={time})"),
                &format!("period={time} is no time; write it as 500ms, 10s, 5m or 1h, above zero"),
            );
        }
    }
}
