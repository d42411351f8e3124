//! The alarms that a driver has raised or cleared: a bounded set of them, each announced when it changes.
//!
//! One is known by its code and its device. They end with the incarnation, as all that a driver says of itself does: the next one says
//! what still holds.

use std::collections::HashMap;

use crate::event::{Severity, WallNs};

/// What was said of one alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) severity: Severity,
    pub(super) active: bool,
    pub(super) message: String,
    /// When the condition came or went, as the device says.
    pub(super) source_time: Option<WallNs>,
}

/// What one incarnation has said of its alarms.
#[derive(Default)]
pub(super) struct Alarms {
    /// By device, if about one, and code.
    said: HashMap<Option<u32>, HashMap<String, Said>>,
    count: usize,
}

impl Alarms {
    pub(super) fn contains(&self, (code, device): (&str, Option<u32>)) -> bool {
        let of_device = self.said.get(&device);
        of_device.is_some_and(|said| said.contains_key(code))
    }

    /// How many pairs of code and device there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes over what the driver says; tells whether that is news.
    pub(super) fn say(&mut self, (code, device): (&str, Option<u32>), now: &Said) -> bool {
        let of_device = self.said.entry(device).or_default();
        let before = of_device.get(code);
        if before == Some(now) {
            return false;
        }
        self.count += usize::from(before.is_none());
        of_device.insert(code.to_owned(), now.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(active: bool, message: &str) -> Said {
        Said {
            severity: Severity::Warning,
            active,
            message: message.to_owned(),
            source_time: None,
        }
    }

    #[test]
    fn only_a_change_is_news() {
        let mut alarms = Alarms::default();
        let mut say = |said: Said| alarms.say(("door", None), &said);
        assert!(say(open(true, "open")));
        assert!(!say(open(true, "open")));
        assert!(say(open(true, "wide open")));
        assert!(say(open(false, "wide open")));
        assert!(!say(open(false, "wide open")));
        let worse = Said {
            severity: Severity::Critical,
            ..open(false, "wide open")
        };
        assert!(say(worse.clone()));
        assert!(!say(worse.clone()));
        assert!(say(Said {
            source_time: Some(WallNs(1)),
            ..worse
        }));
    }

    #[test]
    fn the_same_code_of_two_devices_is_two_alarms() {
        let mut alarms = Alarms::default();
        for device in [None, Some(0), Some(1)] {
            assert!(!alarms.contains(("door", device)));
            assert!(alarms.say(("door", device), &open(true, "open")));
            assert!(!alarms.say(("door", device), &open(true, "open")));
            assert!(alarms.contains(("door", device)) && !alarms.contains(("lid", device)));
        }
        assert!(alarms.say(("door", Some(1)), &open(false, "open")));
        assert!(!alarms.say(("door", Some(0)), &open(true, "open")));
        assert_eq!(alarms.len(), 3);
    }
}
