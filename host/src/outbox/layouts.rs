//! Which layouts an outbox has stored, under which numbers, and which of them anybody still has.
//!
//! A batch refers to its layout by number. A layout is stored once, with the first batch that has it, and stays while the queue holds
//! anything or somebody has it: so a queue that is empty most of the time stores none twice, however many channels there are.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sha2::{Digest as _, Sha256};

use crate::event::Layout;

/// How many more are stored before it is looked at whether any is of no use.
const SPARE: u64 = 64;
/// The most layouts that are kept in memory for reading besides those that somebody has.
const AT_HAND: usize = 2_048;

/// The SHA-256 of a layout's bytes.
pub(super) type Contents = [u8; 32];

/// Those that readers have looked up or the writer has stored, by number. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct AtHand(Arc<Mutex<HashMap<u64, Arc<Layout>>>>);

/// What the writer knows of what is stored.
#[derive(Default)]
pub(super) struct Layouts {
    /// The numbers of layouts that batches of this run have, by the layout's place in memory, which a weak reference keeps.
    known: HashMap<usize, (Weak<Layout>, u64)>,
    /// The number of each layout that is stored.
    stored: HashMap<Contents, u64>,
    /// How many were stored when it was looked at last whether any is of no use.
    looked_at: u64,
    at_hand: AtHand,
}

/// A layout that is stored by the transaction under way.
pub(super) struct NewLayout {
    pub(super) layout: Arc<Layout>,
    pub(super) contents: Contents,
    pub(super) number: u64,
}

/// What a layout's bytes are known by.
pub(super) fn contents(bytes: &[u8]) -> Contents {
    Sha256::digest(bytes).into()
}

impl Layouts {
    /// Those that a file has, by their bytes.
    pub(super) fn new(stored: HashMap<Contents, u64>) -> Self {
        Self {
            stored,
            ..Self::default()
        }
    }

    /// For readers.
    pub(super) fn at_hand(&self) -> AtHand {
        self.at_hand.clone()
    }

    /// The number of a layout that batches have had before.
    pub(super) fn known(&self, layout: &Arc<Layout>) -> Option<u64> {
        let (_, number) = self.known.get(&place_of(layout))?;
        Some(*number)
    }

    /// The number of a layout of these bytes.
    pub(super) fn stored(&self, contents: &Contents) -> Option<u64> {
        self.stored.get(contents).copied()
    }

    /// The transaction that stored these is done.
    pub(super) fn add(&mut self, new: Vec<NewLayout>) {
        if new.is_empty() {
            return;
        }
        let mut at_hand = self.at_hand.lock();
        for NewLayout {
            layout,
            contents,
            number,
        } in new
        {
            self.stored.insert(contents, number);
            let place = (Arc::downgrade(&layout), number);
            self.known.insert(place_of(&layout), place);
            at_hand.insert(number, layout);
        }
    }

    /// Of an empty queue with so many stored: the numbers that are still of use, where it is time to look.
    pub(super) fn of_use(&self, stored: u64, new: &[NewLayout]) -> Option<HashSet<u64>> {
        if stored <= self.looked_at + SPARE {
            return None;
        }
        let at_hand = self.at_hand.lock();
        let somebody_has = |(layout, number): &&(Weak<Layout>, u64)| {
            let ours = at_hand.get(number);
            let ours = ours.is_some_and(|kept| Arc::as_ptr(kept) == layout.as_ptr());
            layout.strong_count() > usize::from(ours)
        };
        let had = self.known.values().filter(somebody_has);
        let had = had.map(|(_, number)| *number);
        Some(had.chain(new.iter().map(|new| new.number)).collect())
    }

    /// The transaction that removed all others is done.
    pub(super) fn keep(&mut self, of_use: &HashSet<u64>) {
        self.known.retain(|_, (_, number)| of_use.contains(number));
        self.stored.retain(|_, number| of_use.contains(number));
        self.at_hand
            .lock()
            .retain(|number, _| of_use.contains(number));
        self.looked_at = of_use.len() as u64;
    }
}

impl AtHand {
    /// For one reading. What was looked up is let go where it has become too much.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Layout>>> {
        let mut at_hand = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if at_hand.len() > AT_HAND {
            at_hand.retain(|_, layout| Arc::strong_count(layout) > 1);
        }
        at_hand
    }
}

/// A layout's place in memory: one to which there is any reference has it to itself.
fn place_of(layout: &Arc<Layout>) -> usize {
    Arc::as_ptr(layout).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(channel: &str) -> Arc<Layout> {
        super::super::tests::layout(channel)
    }

    fn new(layout: &Arc<Layout>, number: u64) -> NewLayout {
        NewLayout {
            layout: layout.clone(),
            contents: contents(&number.to_be_bytes()),
            number,
        }
    }

    #[test]
    fn what_nobody_has_is_of_no_use_and_what_is_had_stays_under_its_number() {
        let mut layouts = Layouts::default();
        let had = layout("a");
        let gone = layout("b");
        layouts.add(vec![new(&had, 1), new(&gone, 2)]);
        drop(gone);
        assert_eq!(layouts.of_use(SPARE, &[]), None, "it is not time to look");
        let fresh = layout("c");
        let of_use = layouts.of_use(SPARE + 1, &[new(&fresh, 3)]).unwrap();
        assert_eq!(of_use, HashSet::from([1, 3]));
        layouts.keep(&of_use);
        assert_eq!(layouts.known(&had), Some(1));
        assert_eq!(layouts.stored(&contents(&2_u64.to_be_bytes())), None);
        assert!(layouts.at_hand().lock().contains_key(&1));
        assert!(!layouts.at_hand().lock().contains_key(&2));
        assert_eq!(
            layouts.of_use(SPARE + 2, &[]),
            None,
            "two are known to be of use"
        );
    }

    #[test]
    fn readers_get_what_the_writer_has_and_no_copy() {
        let mut layouts = Layouts::default();
        let had = layout("a");
        layouts.add(vec![new(&had, 7)]);
        let at_hand = layouts.at_hand();
        assert!(Arc::ptr_eq(&at_hand.lock()[&7], &had));
    }
}
