//! The ids of the stream's events, by which a reader that comes back goes on where it was.

use std::fmt;
use std::str::FromStr;

/// A place in the stream of one run of the host: everything up to and including one message of the bus was sent, or, where a
/// connection broke within a batch, only the first of its samples. Written `RUN-MESSAGE` or `RUN-MESSAGE.SAMPLES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    /// See [`crate::bus::Bus::run`].
    pub(super) run: u64,
    /// The number of the message.
    pub(super) message: u64,
    /// How many samples of it were sent or left out by the filter; `None` for all of them.
    pub(super) samples: Option<u32>,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.run, self.message)?;
        match self.samples {
            Some(samples) => write!(f, ".{samples}"),
            None => Ok(()),
        }
    }
}

/// The text is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let (run, place) = text.split_once('-').ok_or(NoEventId)?;
        let (message, samples) = match place.split_once('.') {
            None => (place, None),
            Some((message, samples)) => (message, Some(samples)),
        };
        // `parse` takes a sign, which no id has.
        let written = [Some(run), Some(message), samples];
        if written
            .into_iter()
            .flatten()
            .any(|part| part.starts_with('+'))
        {
            return Err(NoEventId);
        }
        let id = Self {
            run: u64::from_str_radix(run, 16).map_err(|_| NoEventId)?,
            message: message.parse().map_err(|_| NoEventId)?,
            samples: samples.map(str::parse).transpose().map_err(|_| NoEventId)?,
        };
        // Nothing of a message that does not exist can have been sent.
        match id.samples {
            Some(_) if id.message == 0 => Err(NoEventId),
            _ => Ok(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in [
            "0-0",
            "18c3f-7",
            "ffffffffffffffff-18446744073709551615.4294967295",
        ] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "-",
            "7",
            "1-",
            "-1",
            "1-2-3",
            "g-1",
            "1-x",
            "1-2.",
            "1-2.x",
            "1-2.3.4",
            "+1-2",
            "1-+2",
            "1-2.+3",
            "1-0.1",
            "1-18446744073709551616",
            "10000000000000000-1",
            "1-1 ",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(NoEventId), "{text:?}");
        }
    }
}
