//! Where a list that comes in pages goes on.
//!
//! A page is made of one moment of the list of channels. The next one is of another moment, and a reload in between may have put
//! channels and tags elsewhere: going on by place would leave some out, and going on by name would do so where the order is
//! another. So a cursor says which list it points into, and one of another list is refused: whoever asks begins again.
//!
//! A cursor is for the host that gave it, and nobody else need understand it.

use axum::http::StatusCode;

use super::filter::Parameters;
use super::{ApiError, App};

/// Where a page begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The channel's place in the list.
    pub(super) channel: usize,
    /// What this counts in the channel is the list's own business.
    pub(super) item: u64,
}

/// A place, and the list that it is a place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    /// The run of the host.
    run: u64,
    /// The list of channels within it.
    generation: u64,
    place: Place,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let run = u64::from_str_radix(parts.next()?, 16).ok()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (generation, channel, item) = (number()?, number()?, number()?);
        let channel = usize::try_from(channel).ok()?;
        parts.next().is_none().then_some(Self {
            run,
            generation,
            place: Place { channel, item },
        })
    }

    fn text(self) -> String {
        let Place { channel, item } = self.place;
        format!("{:x}-{}-{channel}-{item}", self.run, self.generation)
    }
}

impl App {
    /// Where the page begins that is asked for: the first one where no `cursor` is given.
    pub(super) fn page_begins(&self, parameters: &Parameters) -> Result<Place, ApiError> {
        let Some(given) = parameters.one("cursor")? else {
            return Ok(Place::default());
        };
        let cursor = Cursor::parse(given).ok_or_else(|| {
            let shown: String = given.chars().take(40).collect();
            ApiError::bad_request(
                format!("`{shown}` is no cursor"),
                "give `next_cursor` of the page before, as it is, or leave it out",
            )
        })?;
        let here = self.cursor(cursor.place);
        if (cursor.run, cursor.generation) != (here.run, here.generation) {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "list-changed",
                "the configuration was reloaded, or the host restarted, since the page before",
                "begin again without a cursor",
            ));
        }
        Ok(cursor.place)
    }

    /// The cursor of a page that begins here.
    pub(super) fn next_cursor(&self, channel: usize, item: u64) -> String {
        self.cursor(Place { channel, item }).text()
    }

    fn cursor(&self, place: Place) -> Cursor {
        Cursor {
            run: self.host().bus().run(),
            generation: self.channels().generation(),
            place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_were_written() {
        let cursor = Cursor {
            run: u64::MAX,
            generation: 7,
            place: Place {
                channel: 3,
                item: u64::MAX,
            },
        };
        let text = cursor.text();
        assert_eq!(text, "ffffffffffffffff-7-3-18446744073709551615");
        assert_eq!(Cursor::parse(&text), Some(cursor));
        for wrong in [
            "",
            "a",
            "press-3/temp",
            "f-7-3",
            "f-7-3-4-5",
            "f-7-3--4",
            "g-7-3-4",
            "f-7-3-18446744073709551616",
        ] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
