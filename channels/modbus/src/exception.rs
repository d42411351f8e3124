//! What a unit says when it refuses: the exception codes of Modbus Application Protocol 1.1b3, section 7.

use bulkhead_sdk::Quality;

/// An exception code, as a unit sent it. Codes that the specification does not know are taken too: they are answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception(pub u8);

impl Exception {
    /// The unit does not have this function; it has done nothing.
    pub const NO_FUNCTION: Self = Self(1);
    /// The unit has no time; it has done nothing.
    pub const BUSY: Self = Self(6);

    /// What it says of the tags that were asked for.
    pub fn quality(self) -> Quality {
        match self.0 {
            1 => Quality::BadNotSupported,
            2 | 3 => Quality::BadConfiguration,
            4 | 8 => Quality::BadDeviceFailure,
            10 | 11 => Quality::BadNoCommunication,
            _ => Quality::Bad,
        }
    }

    /// One sentence for an operator.
    pub fn message(self) -> String {
        let Self(code) = self;
        let meaning = match code {
            1 => "the unit does not have this function",
            2 => "the unit has no such address",
            3 => "the unit does not take this quantity or value",
            4 => "the unit has failed",
            5 => "the unit has accepted the request and needs long for it",
            6 => "the unit is busy",
            7 => "the unit cannot do this now",
            8 => "the unit found an error in its memory",
            9 => "the unit refuses, with a code that is not assigned",
            10 => "the gateway has no path to the unit",
            11 => "the gateway got no answer from the unit",
            _ => "the unit refuses, with a code of its own",
        };
        format!("{meaning} (exception {code})")
    }

    /// Whether a part of what was asked for may be at fault, so that the rest can be read without it.
    pub fn blames_a_place(self) -> bool {
        matches!(self.0, 2 | 3)
    }

    /// Whether it was a gateway that spoke, because the unit did not.
    pub fn unit_is_away(self) -> bool {
        matches!(self.0, 10 | 11)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_each_code_means() {
        let table: String = (0..=12)
            .map(Exception)
            .map(|exception| format!("{:?}: {}\n", exception.quality(), exception.message()))
            .collect();
        expect![[r#"
            Quality::Bad: the unit refuses, with a code of its own (exception 0)
            Quality::BadNotSupported: the unit does not have this function (exception 1)
            Quality::BadConfiguration: the unit has no such address (exception 2)
            Quality::BadConfiguration: the unit does not take this quantity or value (exception 3)
            Quality::BadDeviceFailure: the unit has failed (exception 4)
            Quality::Bad: the unit has accepted the request and needs long for it (exception 5)
            Quality::Bad: the unit is busy (exception 6)
            Quality::Bad: the unit cannot do this now (exception 7)
            Quality::BadDeviceFailure: the unit found an error in its memory (exception 8)
            Quality::Bad: the unit refuses, with a code that is not assigned (exception 9)
            Quality::BadNoCommunication: the gateway has no path to the unit (exception 10)
            Quality::BadNoCommunication: the gateway got no answer from the unit (exception 11)
            Quality::Bad: the unit refuses, with a code of its own (exception 12)
        "#]]
        .assert_eq(&table);
    }
}
