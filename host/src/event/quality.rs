//! How far a sample can be trusted.

use std::fmt;

macro_rules! qualities {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// How far a sample can be trusted: one to one with the WIT's `quality`, and each with an OPC UA status code
        /// (OPC 10000-4, 7.39; codes of OPC 10000-6, annex A).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Quality { $($(#[$doc])* $name,)* }

        impl Quality {
            /// Every quality, in the order of the WIT.
            pub const ALL: &'static [Quality] = &[$(Quality::$name),*];

            /// The name, as the WIT and every interface of the host write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Quality::$name => $text,)* }
            }

            /// The OPC UA status code.
            pub const fn opc_ua_status(self) -> u32 {
                match self { $(Quality::$name => $status,)* }
            }
        }
    };
}

qualities! {
    /// Read from the device, as it is.
    Good = "good", 0x0000_0000;
    /// The value was set by hand at the device.
    GoodLocalOverride = "good-local-override", 0x0096_0000;
    /// Doubtful, with no reason more specific.
    Uncertain = "uncertain", 0x4000_0000;
    /// The last value known; the source has gone.
    UncertainLastKnown = "uncertain-last-known", 0x4090_0000;
    /// Outside the engineering limits.
    UncertainOutOfRange = "uncertain-out-of-range", 0x4094_0000;
    /// Made from fewer sources than it should be.
    UncertainSubNormal = "uncertain-sub-normal", 0x4095_0000;
    /// Useless, with no reason more specific.
    Bad = "bad", 0x8000_0000;
    /// Nothing was read yet.
    BadWaitingForInitialData = "bad-waiting-for-initial-data", 0x8032_0000;
    /// The link to the device is down.
    BadNotConnected = "bad-not-connected", 0x808A_0000;
    /// The link is up, but the device cannot be reached through it.
    BadNoCommunication = "bad-no-communication", 0x8031_0000;
    /// The device did not answer in time.
    BadTimeout = "bad-timeout", 0x800A_0000;
    /// The device answered that it has failed.
    BadDeviceFailure = "bad-device-failure", 0x808B_0000;
    /// Taken out of service by an operator.
    BadOutOfService = "bad-out-of-service", 0x808D_0000;
    /// The configuration of the tag does not fit the device.
    BadConfiguration = "bad-configuration", 0x8089_0000;
    /// The device or the driver cannot do this.
    BadNotSupported = "bad-not-supported", 0x803D_0000;
    /// The value has another type than the tag.
    BadTypeMismatch = "bad-type-mismatch", 0x8074_0000;
    /// The value does not fit the tag's type or limits.
    BadOutOfRange = "bad-out-of-range", 0x803C_0000;
    /// Good once, but too long ago, or the driver that read it has ended. OPC UA has no code of its own for this;
    /// the nearest is Bad_DataUnavailable.
    BadStale = "bad-stale", 0x809E_0000;
}

impl Quality {
    /// Whether the value can be used as it is.
    pub const fn is_good(self) -> bool {
        (self as u8) < Quality::Uncertain as u8
    }

    /// Whether the value must not be used.
    pub const fn is_bad(self) -> bool {
        self as u8 >= Quality::Bad as u8
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_is_read_off_the_status_code() {
        for quality in Quality::ALL {
            assert_eq!(
                quality.is_good(),
                quality.as_str().starts_with("good"),
                "{quality}"
            );
            assert_eq!(
                quality.is_bad(),
                quality.as_str().starts_with("bad"),
                "{quality}"
            );
        }
    }

    /// The table that people read, against the one that programs get.
    #[test]
    fn the_documented_codes_are_these() {
        const DOCUMENTED: &str = include_str!("../../../docs/TAGS.md");
        let rows = DOCUMENTED.lines().filter_map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            let code = cells.next()?.strip_prefix("0x")?;
            Some((name.to_owned(), u32::from_str_radix(code, 16).ok()?))
        });
        let mut documented: Vec<(String, u32)> = rows.collect();
        let all = Quality::ALL.iter();
        let mut codes: Vec<(String, u32)> = all
            .map(|quality| (quality.to_string(), quality.opc_ua_status()))
            .collect();
        documented.sort_unstable();
        codes.sort_unstable();
        assert_eq!(codes, documented);
    }

    #[test]
    fn no_two_qualities_share_a_code() {
        let mut codes: Vec<u32> = Quality::ALL.iter().map(|q| q.opc_ua_status()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Quality::ALL.len());
    }
}
