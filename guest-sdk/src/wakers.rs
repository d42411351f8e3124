//! Who waits for a thing to change.

use std::cell::RefCell;
use std::task::Waker;

/// Wakers that are all woken by the next change. Whoever is woken looks again, and registers again.
#[derive(Default)]
pub(crate) struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    pub(crate) fn register(&self, waker: &Waker) {
        let mut waiting = self.0.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        let mut woken = self.0.take();
        for waker in woken.drain(..) {
            waker.wake();
        }
        // Nobody registers while others are woken, but if somebody did, it must not be forgotten.
        let mut waiting = self.0.borrow_mut();
        if waiting.is_empty() {
            *waiting = woken;
        }
    }
}
