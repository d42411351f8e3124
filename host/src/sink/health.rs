//! How a sink's server is doing: written by the destination, read by whoever asks, without waiting for each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// How the connection of a sink to its server is. Numbers count since the sink began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Whether there was one when it was used last.
    pub connected: bool,
    /// Those that came up.
    pub connections: u64,
    /// Messages that were sent, those that were sent again too; 0 for servers that take no messages.
    pub messages: u64,
    /// Those of them that the server acknowledged one by one.
    pub acknowledged: u64,
    /// Rows or messages that the server had already, and did not take twice.
    pub duplicates: u64,
    /// What went wrong last. Stays until something else does.
    pub last_error: Option<String>,
}

/// The same as the destination keeps it.
#[derive(Debug, Default)]
pub(super) struct Health {
    connected: AtomicBool,
    connections: AtomicU64,
    messages: AtomicU64,
    acknowledged: AtomicU64,
    duplicates: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Health {
    /// A connection is up, and all that deliveries need is there.
    pub(super) fn up(&self) {
        self.connected.store(true, Relaxed);
        self.connections.fetch_add(1, Relaxed);
    }

    /// The connection is gone.
    pub(super) fn down(&self) {
        self.connected.store(false, Relaxed);
    }

    /// A message was sent.
    pub(super) fn sent(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// A message was acknowledged.
    pub(super) fn acknowledged(&self) {
        self.acknowledged.fetch_add(1, Relaxed);
    }

    /// So much was given to the server that it had already.
    pub(super) fn had_already(&self, count: u64) {
        self.duplicates.fetch_add(count, Relaxed);
    }

    /// Something failed, and why; says whether that is something else than the time before.
    pub(super) fn failed(&self, why: &str) -> bool {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_deref() != Some(why);
        *last = Some(why.to_owned());
        is_new
    }

    /// All of it.
    pub(super) fn status(&self) -> ConnectionStatus {
        let last_error = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ConnectionStatus {
            connected: self.connected.load(Relaxed),
            connections: self.connections.load(Relaxed),
            messages: self.messages.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            last_error: last_error.clone(),
        }
    }
}
