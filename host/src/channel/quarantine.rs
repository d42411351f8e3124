//! What is kept away from a channel's driver because it ends the driver each time: suspects, and the list of dead letters.
//!
//! ```text
//! fault by one event ─► suspect ── lived through once ─► cleared
//!                         └─ third fault ─► dead letter: on the disk, and blocked ─► retry, drop ─► not blocked
//! ```
//!
//! **What is not on the list is not blocked**: an entry is the block, `retry` and `drop` both take it away, and so does a newer one
//! where the list is full. So nothing is held back that an operator cannot see. The list is in the store: it outlives the host. Suspects do not.
//!
//! The common case has to be cheap: without suspects and letters, an event costs two loads here, and an idle channel a few words.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::event::{MonotonicNs, WallNs};
use crate::exit::Exit;
use crate::ids::ChannelId;
use crate::poison::{Fingerprint, Kind, Suspects, Verdict};
use crate::store::{Found, List, SAVED_STATE, Store, StoreError};

/// Dead letters of one channel; the oldest goes.
pub const MAX_LETTERS: u64 = crate::limits::LETTERS;
/// The most bytes of an event that are kept with its letter.
pub const MAX_LETTER_BYTES: usize = crate::limits::LETTER_BYTES;
/// What a letter takes besides.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest sentence of an exit that is kept.
const MAX_SENTENCE: usize = 4 * 1024;

/// Where they are kept.
static DEAD_LETTERS: List = List {
    table: "list:dead_letters",
    version: 1,
    max_bytes: MAX_LETTER_BYTES + MAX_HEAD_BYTES,
    max_records: MAX_LETTERS,
};

/// The name of the saved state among targets: a channel has one.
pub(super) const SAVED: &str = "saved state";

/// An event that is kept away from its driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Ascends from 1 for each channel, and never comes twice.
    pub number: u64,
    /// Which event.
    pub fingerprint: Fingerprint,
    /// Since when.
    pub at: WallNs,
    /// The last life that it ended.
    pub incarnation: u64,
    /// How many it ended.
    pub faults: u32,
    /// How the last one ended: the name of its kind.
    pub exit: String,
    /// The same, in one sentence.
    pub sentence: String,
}

/// A letter as it lies on the disk; the payload follows.
#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    target: String,
    length: u64,
    digest: [u8; 32],
    at_ns: u64,
    incarnation: u64,
    faults: u32,
    exit: String,
    sentence: String,
}

/// An event that has ended a driver.
pub(super) struct Accused {
    pub(super) kind: Kind,
    pub(super) target: String,
    pub(super) payload: Vec<u8>,
}

/// What became of an accused event.
#[derive(Debug, PartialEq)]
pub(super) enum Sentence {
    /// It goes on.
    Suspected { faults: u32 },
    /// It is kept away from now on. An older letter may have gone for it.
    Quarantined {
        letter: Box<Letter>,
        dropped: Option<Box<Letter>>,
    },
}

/// The quarantine of one channel.
pub struct Quarantine {
    channel: ChannelId,
    store: Store,
    inner: Mutex<Inner>,
    /// Whether there are suspects, and whether there are letters: to be asked for each event.
    watches: AtomicBool,
    blocks: AtomicBool,
}

#[derive(Default)]
struct Inner {
    suspects: Suspects,
    /// The oldest first.
    letters: Vec<Letter>,
    /// Faults that do not count against the restart policy, and were not asked for yet.
    given_back: u32,
}

impl Quarantine {
    /// That of a channel, with the letters that are on the disk.
    pub(super) fn open(channel: &ChannelId, store: &Store) -> Self {
        let letters = match store.list(&DEAD_LETTERS, channel) {
            Ok(listed) => listed
                .entries
                .iter()
                .filter_map(|entry| Some(decode(entry.number, &entry.payload)?.0))
                .collect(),
            Err(error) => {
                tracing::error!(%channel, %error, "the dead letters could not be read; nothing is kept away from the driver");
                Vec::new()
            }
        };
        let blocks = AtomicBool::new(!letters.is_empty());
        Self {
            channel: channel.clone(),
            store: store.clone(),
            inner: Mutex::new(Inner {
                letters,
                ..Inner::default()
            }),
            watches: AtomicBool::new(false),
            blocks,
        }
    }

    /// Whether any event is under suspicion.
    pub fn watches(&self) -> bool {
        self.watches.load(Ordering::Relaxed)
    }

    /// Whether such an event is under suspicion.
    pub(super) fn suspects(&self, kind: Kind, target: &str, payload: &[u8]) -> bool {
        self.lock().suspects.contains(kind, target, payload)
    }

    /// Whether any event is kept away.
    pub(super) fn blocks(&self) -> bool {
        self.blocks.load(Ordering::Relaxed)
    }

    /// The letter that keeps such an event away.
    pub(super) fn blocked(&self, kind: Kind, target: &str, payload: &[u8]) -> Option<Letter> {
        let inner = self.lock();
        let mut letters = inner.letters.iter();
        letters
            .find(|letter| letter.fingerprint.fits(kind, target, payload))
            .cloned()
    }

    /// The driver has lived through such an event. Gives whether it was under suspicion.
    pub(super) fn passed(&self, kind: Kind, target: &str, payload: &[u8]) -> bool {
        let mut inner = self.lock();
        let cleared = inner.suspects.passed(kind, target, payload);
        self.note(&inner);
        cleared
    }

    /// Forgets suspects that were not met for long.
    pub(super) fn forget(&self, now: MonotonicNs) {
        let mut inner = self.lock();
        inner.suspects.forget(now);
        self.note(&inner);
    }

    /// This event, and no other, has ended the driver. A letter is on the disk when this is done.
    pub(super) async fn accuse(
        &self,
        accused: Accused,
        exit: &Exit,
        incarnation: u64,
        now: (MonotonicNs, WallNs),
    ) -> Sentence {
        let fingerprint = Fingerprint::of(accused.kind, &accused.target, &accused.payload);
        let faults = {
            let mut inner = self.lock();
            let verdict = inner.suspects.faulted(fingerprint.clone(), now.0);
            self.note(&inner);
            match verdict {
                Verdict::Suspect { faults } => return Sentence::Suspected { faults },
                Verdict::Poison { faults } => faults,
            }
        };
        let mut letter = Letter {
            number: 0,
            fingerprint,
            at: now.1,
            incarnation,
            faults,
            exit: exit.kind.as_str().to_owned(),
            sentence: cut(&exit.sentence, MAX_SENTENCE),
        };
        let record = encode(&letter, &accused.payload);
        let appended = self
            .store
            .append(&DEAD_LETTERS, &self.channel, record)
            .await;
        let mut inner = self.lock();
        letter.number = match appended {
            Ok(number) => number,
            Err(error) => {
                tracing::error!(channel = %self.channel, %error, "a dead letter is not on the disk: it is lost when the host stops");
                inner.letters.last().map_or(1, |last| last.number + 1)
            }
        };
        inner.given_back = inner.given_back.saturating_add(faults);
        let full = inner.letters.len() as u64 >= MAX_LETTERS;
        let dropped = full.then(|| inner.letters.remove(0));
        inner.letters.push(letter.clone());
        self.note(&inner);
        Sentence::Quarantined {
            letter: Box::new(letter),
            dropped: dropped.map(Box::new),
        }
    }

    /// How many faults were those of events that are kept away now, and do not count against the restart policy. Each is told once.
    pub fn take_given_back(&self) -> u32 {
        std::mem::take(&mut self.lock().given_back)
    }

    /// The letters, the oldest first.
    pub fn letters(&self) -> Vec<Letter> {
        self.lock().letters.clone()
    }

    /// A letter, and what its event carried, cut at [`MAX_LETTER_BYTES`].
    pub fn letter(&self, number: u64) -> Result<Option<(Letter, Vec<u8>)>, StoreError> {
        let known = self.letters();
        let Some(letter) = known.into_iter().find(|letter| letter.number == number) else {
            return Ok(None);
        };
        let record = self.store.entry(&DEAD_LETTERS, &self.channel, number)?;
        let payload = record.and_then(|record| Some(decode(number, &record)?.1));
        Ok(Some((letter, payload.unwrap_or_default())))
    }

    /// Takes a letter off the list: its event is kept away no longer. Gives the letter and how many are left; nothing if there is
    /// no such letter. With `forget`, a saved state is given up for good.
    pub async fn lift(
        &self,
        number: u64,
        forget: bool,
    ) -> Result<Option<(Letter, usize)>, StoreError> {
        let known = self.letters();
        let Some(letter) = known.into_iter().find(|letter| letter.number == number) else {
            return Ok(None);
        };
        if forget && letter.fingerprint.kind == Kind::Started {
            self.forget_state(&letter).await?;
        }
        self.store
            .remove(&DEAD_LETTERS, &self.channel, number)
            .await?;
        let mut inner = self.lock();
        inner.letters.retain(|letter| letter.number != number);
        self.note(&inner);
        Ok(Some((letter, inner.letters.len())))
    }

    /// Clears the saved state, if it is still the one of this letter.
    async fn forget_state(&self, letter: &Letter) -> Result<(), StoreError> {
        let Found::Whole(state) = self.store.slot(&SAVED_STATE, &self.channel)? else {
            return Ok(());
        };
        if letter.fingerprint.fits(Kind::Started, SAVED, &state) {
            self.store.clear(&SAVED_STATE, &self.channel).await?;
        }
        Ok(())
    }

    fn note(&self, inner: &Inner) {
        let watches = !inner.suspects.is_empty();
        self.watches.store(watches, Ordering::Relaxed);
        self.blocks
            .store(!inner.letters.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(letter: &Letter, payload: &[u8]) -> Vec<u8> {
    let head = Head {
        kind: letter.fingerprint.kind.as_str().to_owned(),
        target: letter.fingerprint.target.clone(),
        length: letter.fingerprint.length,
        digest: letter.fingerprint.digest,
        at_ns: letter.at.0,
        incarnation: letter.incarnation,
        faults: letter.faults,
        exit: letter.exit.clone(),
        sentence: letter.sentence.clone(),
    };
    // Text and numbers alone: this cannot fail; an empty head would be a record that is not read again.
    let mut record = serde_json::to_vec(&head).unwrap_or_default();
    // JSON without layout has no line end of its own.
    record.push(b'\n');
    record.extend_from_slice(payload.get(..MAX_LETTER_BYTES).unwrap_or(payload));
    record
}

fn decode(number: u64, record: &[u8]) -> Option<(Letter, Vec<u8>)> {
    let end = record.iter().position(|byte| *byte == b'\n')?;
    let (head, payload) = record.split_at(end);
    let head: Head = serde_json::from_slice(head).ok()?;
    let letter = Letter {
        number,
        fingerprint: Fingerprint {
            kind: Kind::from_name(&head.kind)?,
            target: head.target,
            length: head.length,
            digest: head.digest,
        },
        at: WallNs(head.at_ns),
        incarnation: head.incarnation,
        faults: head.faults,
        exit: head.exit,
        sentence: head.sentence,
    };
    Some((letter, payload.get(1..)?.to_vec()))
}

/// As much of a text as fits.
fn cut(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{During, ExitKind};

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("bulkhead-quarantine-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            drop(std::fs::remove_dir_all(&path));
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn channel() -> ChannelId {
        ChannelId::new("a").unwrap()
    }

    async fn accuse(quarantine: &Quarantine, kind: Kind, payload: &[u8]) -> Sentence {
        let accused = Accused {
            kind,
            target: "target".into(),
            payload: payload.to_vec(),
        };
        let exit = Exit::new(ExitKind::Trapped, During::Turn, "unreachable");
        quarantine
            .accuse(accused, &exit, 7, (MonotonicNs(5), WallNs(6)))
            .await
    }

    async fn quarantined(quarantine: &Quarantine, kind: Kind, payload: &[u8]) -> Letter {
        loop {
            if let Sentence::Quarantined { letter, .. } = accuse(quarantine, kind, payload).await {
                return *letter;
            }
        }
    }

    #[tokio::test]
    async fn the_third_fault_makes_a_letter_that_outlives_the_host() {
        let folder = Folder::new("outlives");
        let store = Store::open(&folder.0).unwrap();
        let quarantine = Quarantine::open(&channel(), &store);
        let blocked = |quarantine: &Quarantine| {
            quarantine
                .blocked(Kind::Write, "target", b"\n7")
                .map(|letter| letter.number)
        };
        for faults in [1, 2] {
            let sentence = accuse(&quarantine, Kind::Write, b"\n7").await;
            assert_eq!(sentence, Sentence::Suspected { faults });
            assert!(quarantine.watches() && !quarantine.blocks());
        }
        let letter = quarantined(&quarantine, Kind::Write, b"\n7").await;
        assert!(!quarantine.watches() && quarantine.blocks());
        assert_eq!(
            (letter.number, letter.faults, blocked(&quarantine)),
            (1, 3, Some(1))
        );
        assert_eq!(
            [quarantine.take_given_back(), quarantine.take_given_back()],
            [3, 0]
        );
        drop((quarantine, store));

        let store = Store::open(&folder.0).unwrap();
        let quarantine = Quarantine::open(&channel(), &store);
        assert_eq!(quarantine.letters(), std::slice::from_ref(&letter));
        assert_eq!(blocked(&quarantine), Some(1));
        let shown = quarantine.letter(1).unwrap().unwrap();
        assert_eq!(shown, (letter.clone(), b"\n7".to_vec()));
        assert_eq!(quarantine.lift(1, false).await.unwrap(), Some((letter, 0)));
        assert_eq!((blocked(&quarantine), quarantine.blocks()), (None, false));
        assert_eq!(quarantine.lift(1, false).await.unwrap(), None);
        drop((quarantine, store));
        let store = Store::open(&folder.0).unwrap();
        assert_eq!(Quarantine::open(&channel(), &store).letters(), []);
    }

    #[tokio::test]
    async fn the_list_is_bounded_and_what_goes_is_blocked_no_longer() {
        let folder = Folder::new("bounded");
        let store = Store::open(&folder.0).unwrap();
        let quarantine = Quarantine::open(&channel(), &store);
        for number in 1..=MAX_LETTERS {
            let letter = quarantined(&quarantine, Kind::Command, &number.to_be_bytes()).await;
            assert_eq!(letter.number, number);
        }
        let payload = 99u64.to_be_bytes();
        for _ in 0..2 {
            accuse(&quarantine, Kind::Command, &payload).await;
        }
        let Sentence::Quarantined { letter, dropped } =
            accuse(&quarantine, Kind::Command, &payload).await
        else {
            panic!("the third time");
        };
        assert_eq!(letter.number, MAX_LETTERS + 1);
        assert_eq!(dropped.map(|letter| letter.number), Some(1));
        let first = 1u64.to_be_bytes();
        assert_eq!(quarantine.blocked(Kind::Command, "target", &first), None);
        let before = quarantine.letters();
        assert_eq!(before.len() as u64, MAX_LETTERS);
        assert_eq!(Quarantine::open(&channel(), &store).letters(), before);
    }

    #[tokio::test]
    async fn a_dropped_saved_state_is_given_up_unless_there_is_a_newer_one() {
        let folder = Folder::new("state");
        let store = Store::open(&folder.0).unwrap();
        let quarantine = Quarantine::open(&channel(), &store);
        let exit = Exit::new(ExitKind::Trapped, During::Turn, "unreachable");
        let now = (MonotonicNs(5), WallNs(6));
        for (saved, left) in [
            ("bad", Found::Nothing),
            ("newer", Found::Whole(b"newer".to_vec())),
        ] {
            for _ in 0..3 {
                let accused = Accused {
                    kind: Kind::Started,
                    target: SAVED.into(),
                    payload: b"bad".to_vec(),
                };
                quarantine.accuse(accused, &exit, 7, now).await;
            }
            let state = saved.as_bytes().to_vec();
            store.put(&SAVED_STATE, &channel(), state).await.unwrap();
            let number = quarantine.letters()[0].number;
            quarantine.lift(number, true).await.unwrap().unwrap();
            assert_eq!(store.slot(&SAVED_STATE, &channel()).unwrap(), left);
        }
    }

    #[test]
    fn what_lies_on_the_disk_is_checked() {
        for bad in [&b""[..], b"\n", b"{}\n", b"{}", b"\xff\n"] {
            assert!(decode(1, bad).is_none());
        }
    }
}
