//! Room for received bytes in a channel's mailbox, which bounds events but does not know their sizes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes over all connections of a channel. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// Bytes that take up room until this is dropped.
#[derive(Debug, Default)]
pub struct Held(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for `bytes`: at least for one piece of 64 KiB.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            bytes.max(super::pump::MAX_RECEIVED),
        )))
    }

    /// Waits until there is room.
    pub(super) async fn take(&self, bytes: usize) -> Held {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Nobody closes it.
        Held(self.0.clone().acquire_many_owned(count).await.ok())
    }
}
