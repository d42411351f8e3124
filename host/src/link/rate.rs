//! How often the host redials, all its links together.
//!
//! When a switch or a gateway dies, hundreds of links lose their peers in one moment and would come back to it in one moment
//! too. Redials are let through `burst` at once and the rest one after the other ([`Limiter`]); whoever is due is given
//! the next free moment. A first dial, one that a driver asked for and one that an operator asked for do not ask here: these
//! have bounds of their own.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Rate;
use crate::event::MonotonicNs;
use crate::restart::Limiter;

/// The rate of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DialRate(Arc<Mutex<Limiter>>);

impl DialRate {
    /// Nothing has been dialled yet.
    pub fn new(rate: Rate) -> Self {
        Self(Arc::new(Mutex::new(Limiter::new(rate))))
    }

    /// From when on a link may dial that is due now.
    pub(super) fn place(&self, now: MonotonicNs) -> MonotonicNs {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(now)
    }
}
