//! Questions to the device itself, past the network: `bulkhead simulate modbus --control`.
//!
//! The same questions as those of the peers in `tests/peers`, so that a test need not care whom it asks.

use super::{Fault, Simulator};

const USAGE: &str = "error: ask `counts`, `stats`, `holding UNIT ADDRESS COUNT`, `coils UNIT ADDRESS COUNT` or `faults [FAULT ...]`";

/// Answers one line.
pub(super) fn answer(simulator: &Simulator, question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().collect();
    match words.as_slice() {
        ["counts"] => counts(simulator),
        ["stats"] => serde_json::to_string(&simulator.counts())
            .expect("counts have text for keys, and a string takes everything"),
        ["faults", faults @ ..] => match faults
            .iter()
            .map(|fault| fault.parse::<Fault>())
            .collect::<Result<Vec<_>, _>>()
        {
            Ok(faults) => {
                simulator.set_faults(faults);
                "ok".to_owned()
            }
            Err(reason) => format!("error: {reason}"),
        },
        [table @ ("holding" | "coils"), unit, address, count] => {
            let (Ok(unit), Ok(address), Ok(count)) = (
                unit.parse::<u8>(),
                address.parse::<u16>(),
                count.parse::<u16>(),
            ) else {
                return USAGE.to_owned();
            };
            let read = |address| match *table {
                "holding" => simulator.holding(unit, address),
                _ => simulator.coil(unit, address).map(u16::from),
            };
            let values = (address..)
                .take(usize::from(count))
                .map(|address| read(address).map(|value| value.to_string()));
            match values.collect::<Option<Vec<_>>>() {
                Some(values) if values.len() == usize::from(count) => values.join(" "),
                _ => format!(
                    "error: unit {unit} does not have {count} writable {table} from {address} on"
                ),
            }
        }
        _ => USAGE.to_owned(),
    }
}

fn counts(simulator: &Simulator) -> String {
    let counts = simulator.counts();
    let pairs = counts
        .units
        .iter()
        .flat_map(|(unit, counts)| counts.functions.iter().map(move |entry| (unit, entry)));
    pairs
        .map(|(unit, (function, count))| format!("{unit}:{function}={count}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    #[test]
    fn questions_and_answers() {
        let simulator = Simulator::new(Options {
            registers: 202,
            bits: 201,
            ..Options::default()
        })
        .unwrap();
        for (question, expected) in [
            ("counts", ""),
            (
                "stats",
                r#"{"requests":0,"exceptions":0,"faults":0,"malformed":0,"connections":0,"connections_open":0,"connections_refused":0,"units":{}}"#,
            ),
            ("holding 2 200 2", "2200 2201"),
            ("coils 2 200 1", "0"),
            (
                "holding 2 201 2",
                "error: unit 2 does not have 2 writable holding from 201 on",
            ),
            (
                "holding 9 200 1",
                "error: unit 9 does not have 1 writable holding from 200 on",
            ),
            (
                "holding 2 100 1",
                "error: unit 2 does not have 1 writable holding from 100 on",
            ),
            (
                "holding 2 65535 9",
                "error: unit 2 does not have 9 writable holding from 65535 on",
            ),
            ("holding 2 -1 1", USAGE),
            ("holding 2", USAGE),
            ("", USAGE),
            ("faults", "ok"),
            ("faults cut:every=2 silence:unit=1", "ok"),
            (
                "faults cut:3",
                "error: cut takes no argument, but `3` was given",
            ),
        ] {
            assert_eq!(answer(&simulator, question), expected, "{question:?}");
        }
    }
}
