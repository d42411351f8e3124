//! Events of a history, and how they stand on the disk.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::WallNs;
use crate::exit::Exit;
use crate::ids::ChannelId;
use crate::lifecycle::State;
use crate::store::{List, Listed, Store, StoreError};

/// Events that are kept of each channel.
pub const MAX_EVENTS: u64 = 100;
/// The longest sentence that is kept, in bytes.
const MAX_SENTENCE: usize = 1_024;

static HISTORY: List = List {
    table: "list:history",
    version: 1,
    max_bytes: 8 * 1_024,
    max_records: MAX_EVENTS,
};

/// Something that happened to a channel, as it is kept. Names of states and kinds are text here: another version of the host
/// may have others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Ascends from 1; a gap is an event that could not be read.
    pub number: u64,
    /// When.
    pub at: WallNs,
    /// In which life.
    pub incarnation: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The running state changed.
    State {
        /// The state before.
        from: String,
        /// The state since.
        to: String,
        /// The cause, in one sentence.
        cause: String,
    },
    /// A life ended, and nobody had asked for it.
    Exit {
        /// The kind, as `exit::ExitKind` names it.
        kind: String,
        /// In which call.
        during: String,
        /// In one sentence.
        sentence: String,
    },
    /// The host noticed something that an operator should know.
    Warning {
        /// In one sentence.
        sentence: String,
    },
}

/// A history as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The oldest first.
    pub events: Vec<Past>,
    /// Older ones that have been dropped to make room.
    pub dropped: u64,
    /// Those that were found and could not be read.
    pub unreadable: u64,
}

#[derive(Serialize, Deserialize)]
struct OnDisk<'a> {
    at_ns: u64,
    incarnation: u64,
    #[serde(borrow)]
    what: WhatOnDisk<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WhatOnDisk<'a> {
    State {
        from: Cow<'a, str>,
        to: Cow<'a, str>,
        cause: Cow<'a, str>,
    },
    Exit {
        kind: Cow<'a, str>,
        during: Cow<'a, str>,
        sentence: Cow<'a, str>,
    },
    Warning {
        sentence: Cow<'a, str>,
    },
}

pub(super) fn state(from: State, to: State, cause: &str) -> New<'_> {
    New(WhatOnDisk::State {
        from: from.as_str().into(),
        to: to.as_str().into(),
        cause: short(cause).into(),
    })
}

pub(super) fn exit(exit: &Exit) -> New<'_> {
    New(WhatOnDisk::Exit {
        kind: exit.kind.as_str().into(),
        during: exit.during.as_str().into(),
        sentence: short(&exit.sentence).into(),
    })
}

pub(super) fn warning(sentence: &str) -> New<'_> {
    New(WhatOnDisk::Warning {
        sentence: short(sentence).into(),
    })
}

/// Something new.
pub(super) struct New<'a>(WhatOnDisk<'a>);

impl New<'_> {
    /// As it goes to the disk.
    pub(super) fn encode(self, at: WallNs, incarnation: u64) -> Vec<u8> {
        let on_disk = OnDisk {
            at_ns: at.0,
            incarnation,
            what: self.0,
        };
        serde_json::to_vec(&on_disk).expect("text and numbers have JSON")
    }
}

/// The list in which the histories stand.
pub(super) fn list() -> &'static List {
    &HISTORY
}

/// Reads a channel's history. Blocks for as long as the disk takes.
pub(super) fn read(store: &Store, channel: &ChannelId) -> Result<History, StoreError> {
    let Listed {
        entries,
        dropped,
        set_aside,
    } = store.list(&HISTORY, channel)?;
    let mut history = History {
        events: Vec::with_capacity(entries.len()),
        dropped,
        unreadable: set_aside,
    };
    for entry in entries {
        match decode(entry.number, &entry.payload) {
            Some(past) => history.events.push(past),
            None => history.unreadable += 1,
        }
    }
    Ok(history)
}

fn decode(number: u64, payload: &[u8]) -> Option<Past> {
    let on_disk: OnDisk<'_> = serde_json::from_slice(payload).ok()?;
    Some(Past {
        number,
        at: WallNs(on_disk.at_ns),
        incarnation: on_disk.incarnation,
        what: match on_disk.what {
            WhatOnDisk::State { from, to, cause } => What::State {
                from: from.into(),
                to: to.into(),
                cause: cause.into(),
            },
            WhatOnDisk::Exit {
                kind,
                during,
                sentence,
            } => What::Exit {
                kind: kind.into(),
                during: during.into(),
                sentence: sentence.into(),
            },
            WhatOnDisk::Warning { sentence } => What::Warning {
                sentence: sentence.into(),
            },
        },
    })
}

fn short(text: &str) -> &str {
    if text.len() <= MAX_SENTENCE {
        return text;
    }
    let end = (0..=MAX_SENTENCE)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{During, ExitKind};

    #[test]
    fn events_are_read_as_they_were_written() {
        let exit_value = Exit::new(ExitKind::Trapped, During::Turn, "a \"trap\"\n");
        let sentence = "a \"trap\"\n".to_owned();
        let cases = [
            (
                state(State::Running, State::Backoff, "it trapped").encode(WallNs(u64::MAX), 7),
                What::State {
                    from: "running".into(),
                    to: "backoff".into(),
                    cause: "it trapped".into(),
                },
            ),
            (
                exit(&exit_value).encode(WallNs(u64::MAX), 7),
                What::Exit {
                    kind: "trapped".into(),
                    during: "turn".into(),
                    sentence,
                },
            ),
            (
                warning("look").encode(WallNs(u64::MAX), 7),
                What::Warning {
                    sentence: "look".into(),
                },
            ),
        ];
        for (payload, what) in cases {
            let past = Past {
                number: 3,
                at: WallNs(u64::MAX),
                incarnation: 7,
                what,
            };
            assert_eq!(decode(3, &payload), Some(past));
            assert_eq!(decode(3, &payload[1..]), None);
        }
    }

    #[test]
    fn the_longest_sentence_fits_a_record() {
        // Each byte becomes six in JSON.
        let worst = "\u{1}".repeat(100_000);
        let payload = warning(&worst).encode(WallNs(0), 0);
        assert!(payload.len() < HISTORY.max_bytes, "{}", payload.len());
        assert_eq!(short(&"ä".repeat(1_000)).len(), MAX_SENTENCE);
        assert_eq!(
            short(&format!("a{}", "ä".repeat(1_000))).len(),
            MAX_SENTENCE - 1
        );
    }
}
