//! The command `browse`: every signal that there is, each with an address to begin with.

use bulkhead_sdk::browse::{self, Access, Item, Wanted};
use bulkhead_sdk::{Command, Error};

/// What it does, for people.
pub(crate) const HELP: &str = "Lists the signals that a tag can have. Takes nothing. \
    Answers {\"items\": [{\"name\", \"address\", \"type\", \"access\", \"help\"}]}.";

/// Name, an address with everything that can be said, a type that goes with it, and what it is.
const SIGNALS: [(&str, &str, &str, &str); 6] = [
    (
        "sine",
        "sine(period=10s, amplitude=1, offset=0, phase=0)",
        "float64",
        "A sine; the phase is a part of the period.",
    ),
    (
        "ramp",
        "ramp(period=10s, min=0, max=100)",
        "float64",
        "Rises from one end to the other, and begins again.",
    ),
    (
        "square",
        "square(period=10s, low=0, high=1, duty=0.5)",
        "bool",
        "High for a part of the period, then low.",
    ),
    (
        "walk",
        "walk(step=1, min=0, max=100)",
        "float64",
        "A random step at each poll; with seed=1 always the same way.",
    ),
    (
        "counter",
        "counter(start=0, step=1)",
        "uint32",
        "A step at each poll; wraps at the end of its type.",
    ),
    (
        "hold",
        "hold(0)",
        "int32",
        "What was last written, of any type.",
    ),
];

/// Answers the command.
pub(crate) fn browse(command: &Command) -> Result<Vec<u8>, Error> {
    // There is no device to ask: the signals are the same for all.
    let Wanted { device: _ } = command.json()?;
    browse::answer(&items())
}

fn items() -> Vec<Item> {
    let item = |(name, address, data_type, help): (&str, &str, &str, &str)| Item {
        name: name.to_owned(),
        address: address.to_owned(),
        data_type: data_type.to_owned(),
        access: match name {
            "hold" => Access::ReadWrite,
            _ => Access::Read,
        },
        help: help.to_owned(),
    };
    SIGNALS.map(item).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_sdk::testing::{FakeHost, Setup};

    use super::*;
    use crate::{SignalDriver, signal};

    #[test]
    fn what_is_listed_can_be_made_a_tag() {
        let mut setup = Setup::new();
        let items = items();
        for item in &items {
            setup = setup.tag(&item.name, &item.address, &item.data_type);
            if item.access == Access::ReadWrite {
                setup = setup.writable();
            }
        }
        let names: Vec<&str> = items.iter().map(|item| &*item.name).collect();
        let setup = setup.group("all", Duration::from_secs(1), &names);
        let mut host = FakeHost::<SignalDriver>::start(setup).expect("every address is in order");
        host.poll("all");
        assert_eq!(host.take_samples().len(), items.len());

        let answer = host.command("browse", b"").expect("a list");
        let answer = String::from_utf8(answer).expect("text");
        for item in &items {
            assert!(answer.contains(&item.address), "{answer}");
        }
        let wrong = host.command("browse", br#"{"path": "x"}"#).unwrap_err();
        assert!(wrong.message.contains("unknown field `path`"), "{wrong:?}");
        host.stop();
    }

    /// What the help says and what is listed are the same signals.
    #[test]
    fn every_signal_is_listed() {
        let lines = signal::HELP.lines();
        let in_help: Vec<&str> = lines
            .filter_map(|line| {
                let (name, rest) = line.split_once('(')?;
                rest.contains(')').then_some(name)
            })
            .collect();
        let listed: Vec<&str> = SIGNALS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(listed, in_help);
    }
}
