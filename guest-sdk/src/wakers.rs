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
        for waker in self.0.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}
