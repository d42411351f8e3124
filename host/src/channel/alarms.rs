//! The alarms that a driver has raised or cleared: a bounded set of codes, each announced when it changes.
//!
//! They end with the incarnation, as all that a driver says of itself does: the next one says what still holds.

use std::collections::HashMap;

/// What one incarnation has said of its alarms.
#[derive(Default)]
pub(super) struct Alarms {
    /// By code: whether it is active, the message, and the device.
    said: HashMap<String, (bool, String, Option<String>)>,
}

impl Alarms {
    pub(super) fn contains(&self, code: &str) -> bool {
        self.said.contains_key(code)
    }

    pub(super) fn len(&self) -> usize {
        self.said.len()
    }

    /// Takes over what the driver says; tells whether that is news.
    pub(super) fn say(
        &mut self,
        code: &str,
        active: bool,
        message: &str,
        device: Option<&str>,
    ) -> bool {
        let now = (active, message.to_owned(), device.map(str::to_owned));
        if self.said.get(code) == Some(&now) {
            return false;
        }
        self.said.insert(code.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_news() {
        let mut alarms = Alarms::default();
        let say = |alarms: &mut Alarms, active, message| alarms.say("door", active, message, None);
        assert!(say(&mut alarms, true, "open"));
        assert!(!say(&mut alarms, true, "open"));
        assert!(say(&mut alarms, true, "wide open"));
        assert!(say(&mut alarms, false, "wide open"));
        assert!(!say(&mut alarms, false, "wide open"));
        assert!(alarms.say("door", false, "wide open", Some("shed")));
        assert!(!alarms.say("door", false, "wide open", Some("shed")));
        assert!(alarms.contains("door") && !alarms.contains("lid"));
        assert_eq!(alarms.len(), 1);
    }
}
